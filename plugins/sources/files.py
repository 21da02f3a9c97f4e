"""Reading tables: JSON lines, gzipped or not, Parquet, and data sets of the Hugging Face Hub."""

from __future__ import annotations

import gzip
import json
import os
import sys
import textwrap
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import harness

from .bad_rows import EMPTY, PROMPTLESS, ROLE, BadRow, lacks, wrong_type

JSON_LINES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
READABLE = (*JSON_LINES, ".parquet")
HIDDEN = (".", "_")
"""How the name of a file or folder begins that is no data, such as a notebook's checkpoints; as pyarrow and Spark have it."""
LOCAL = ((".", "/", "~"), (".jsonl", ".json", ".gz", ".parquet", ".csv"))
"""How a path begins or ends that is surely not a Hub id."""
Placed = tuple[str, dict[str, Any]]
ROLES = get_args(harness.Message.model_fields["role"].annotation)


def read_rows(path: str, folder: Path, *, subset: str | None, split: str, revision: str | None) -> Iterator[Placed]:
    """Rows of a local file, of all files of a local folder, or of a Hub data set, in order, each after where it stands.

    `subset` is a folder inside it; `split` and `revision` are the Hub's. Raises DataError.
    """
    files = local_files(path, folder, subset)
    if files is None:
        yield from _read_hub(path, subset, split, revision)
        return
    for file in files:
        yield from _read_file(file)


def local_files(path: str, folder: Path, subset: str | None) -> list[Path] | None:
    """The files that a path stands for, in order; None for what may be a Hub id.

    Of a folder these are all files in it and in its folders, such as the part files that Spark writes, without hidden ones.
    Raises DataError for a file that is not there, may not be read, or is of another kind.
    """
    try:
        local = folder / Path(path).expanduser()
        is_folder, is_there = local.is_dir(), local.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, a folder that is closed, a home of nobody
        raise harness.DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if is_folder:
        local = local / subset if subset else local
        found = (Path(place, name) for place, _, names in os.walk(local) for name in names if name.endswith(READABLE))
        files = sorted(each for each in found if not any(part.startswith(HIDDEN) for part in each.relative_to(local).parts))
        if not files:
            raise harness.DataError(f"{local}: no .jsonl, .jsonl.gz or .parquet file in this folder")
    elif is_there:
        files = [local]
        if not local.name.endswith(READABLE):
            raise harness.DataError(f"{local}: expected a .jsonl, .jsonl.gz or .parquet file")
    elif local.is_symlink():
        files = [local]
    elif surely_local(path):
        raise harness.DataError(f"{path}: no such file; paths count from the plan's folder")
    else:
        return None
    for file in files:
        if text := _unreadable(file):
            raise harness.DataError(f"{file}: {text}")
    return files


def _unreadable(file: Path) -> str | None:
    """Why a file may not be opened, in words; None for one that may."""
    if os.access(file, os.R_OK):
        return None
    try:
        target = file.readlink()
    except OSError:  # no link
        return "cannot be read: Permission denied"
    return f"is a link to {target}, which is not there or may not be read; mend the link, or remove it"


def surely_local(path: str) -> bool:
    """Whether a path can be no Hub id, whatever files there are."""
    return path.startswith(LOCAL[0]) or path.endswith(LOCAL[1])


def _read_file(path: Path) -> Iterator[Placed]:
    if path.name.endswith(".parquet"):
        yield from _read_parquet(path)
        return
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            # Decoded line by line: a text file is decoded in blocks, and would not know the line of a bad byte.
            for number, raw in enumerate(file, 1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise harness.DataError(f"{path}:{number}: expected a JSON object, not {line.strip()[:40]!r}")
                yield f"{path}:{number}", row
    except UnicodeDecodeError:
        raise harness.DataError(f"{path}:{number}: not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise harness.DataError(f"{path}:{number}: not valid JSON: {error.msg}; expected one object a line") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise harness.DataError(f"{path}:{number}: cannot be read: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise harness.DataError(f"{path}: cannot be read after line {number}: {text}") from None


def _read_parquet(path: Path) -> Iterator[Placed]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = (row for batch in parquet.ParquetFile(path).iter_batches() for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield f"{path}: row {number}", row
    except (OSError, pyarrow.ArrowException) as error:
        raise harness.DataError(f"{path}: not a readable Parquet file: {str(error).partition(chr(10))[0]}") from None


def _read_hub(path: str, subset: str | None, split: str, revision: str | None) -> Iterator[Placed]:
    from datasets import disable_progress_bars, load_dataset

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        for number, row in enumerate(load_dataset(path, data_dir=subset, split=split, revision=revision), 1):
            yield f"{path}: row {number}", row
    except Exception as error:  # the Hub's client raises many kinds, and each means that these rows cannot be had
        text = str(error).partition("\n")[0]
        raise harness.DataError(f"{path}: neither a local file nor a data set that the Hub gave: {text}") from None


def messages(value: Any, field: str, expected: str = "text or chat messages") -> harness.Prompt:
    """Chat messages from their JSON. Raises BadRow for anything else; `expected` is what may stand in the field."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise wrong_type(field, value, expected)
    if not value:
        raise BadRow(PROMPTLESS if field == "prompt" else EMPTY, f"{field} is an empty list; expected {expected}")
    return tuple(_message(each, f"{field}.{index}") for index, each in enumerate(value))


def _message(value: Any, field: str) -> harness.Message:
    if not isinstance(value, dict):
        raise wrong_type(field, value, "a chat message, with role and content")
    role, content = value.get("role"), value.get("content")
    if role is None or content is None:
        missing = lacks(value, "a chat message has role and content")
        raise BadRow(missing.reason, f"{field} {missing}")
    if role not in ROLES:
        raise BadRow(
            ROLE, f"{field}.role is {textwrap.shorten(repr(role), 40)}; expected {', '.join(ROLES[:-1])} or {ROLES[-1]}"
        )
    if not isinstance(content, str):
        raise wrong_type(f"{field}.content", content, "text")
    return harness.Message(role=role, content=content)


def with_system(prompt: harness.Prompt, system: Any) -> harness.Prompt:
    """A prompt behind a row's `system` text, where the row has some and the prompt no system message of its own. Raises BadRow."""
    if system is not None and not isinstance(system, str):
        raise wrong_type("system", system, "text")
    if not system or not system.strip() or any(message.role == "system" for message in prompt):
        return prompt
    return (harness.Message(role="system", content=system.strip()), *prompt)


def root(prompt: harness.Prompt) -> str:
    """What groups the prompts of one conversation: its first user turn."""
    return next((message.content for message in prompt if message.role == "user"), prompt[0].content)
