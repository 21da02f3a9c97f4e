"""Reading tables: JSON lines, JSON arrays and CSV, gzipped or not, Parquet, and data sets of the Hugging Face Hub."""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import os
import re
import sys
import textwrap
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast, get_args

import harness

from .bad_rows import EMPTY, MISSING, PROMPTLESS, ROLE, BadRow, check_turns, fields, wrong_type

READABLE = (".jsonl", ".json", ".csv", ".jsonl.gz", ".json.gz", ".csv.gz", ".parquet")
FORMATS = ".jsonl, .json or .csv file, plain or .gz, or .parquet file"
HIDDEN = (".", "_")
"""How the name of a file or folder begins that is no data, such as a notebook's checkpoints; as pyarrow and Spark have it."""
LOCAL = ((".", "/", "~"), (".jsonl", ".json", ".gz", ".parquet", ".csv"))
"""How a path begins or ends that is surely not a Hub id."""
SPLIT = re.compile(r"(train|training|test|validation|valid|val|eval|dev)(?![a-z])")
"""How the names of files begin that hold one split of a data set."""
OPENED, PARTED, CLOSED = (
    re.compile(rf"[ \t\r\n]*{sign}[ \t\r\n]*{end}") for sign, end in ((r"\[", ""), (",", ""), (r"\]", r"\Z"))
)
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
    Raises DataError for a file that is not there, may not be read, or is of another kind, and for a folder that is no one table.
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
            raise harness.DataError(f"{local}: no {FORMATS} in this folder")
        if text := _no_table(local, files):
            raise harness.DataError(f"{local}: {text}")
    elif is_there:
        files = [local]
        if not local.name.endswith(READABLE):
            raise harness.DataError(f"{local}: expected a {FORMATS}")
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


def _no_table(folder: Path, files: Sequence[Path]) -> str | None:
    """Why the files of a folder are not the parts of one table, in words; None where they may be."""
    if any(file.name == "dataset_info.json" and file.with_name("state.json").exists() for file in files):
        return "was written by save_to_disk, which is not read; write the data set with to_parquet (or to_json)"
    splits: dict[bool, Path] = {}
    for file in files:
        for part in file.relative_to(folder).parts:
            if found := SPLIT.match(part.casefold()):
                splits.setdefault(found[1].startswith("train"), file.relative_to(folder))
    if len(splits) < 2:
        return None
    return (
        f"holds {splits[True]} and {splits[False]}, and all files of a folder are read as one set; name one file, or a folder "
        "that holds one split (`subset` names a folder in this one)"
    )


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
    lines = _Lines()
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            lines.file = cast(BinaryIO, file)
            kind = path.name.removesuffix(".gz").rpartition(".")[2]
            start = file.peek(1024).removeprefix(codecs.BOM_UTF8).lstrip() if kind == "json" else b""
            read = _cells if kind == "csv" else _array if start.startswith(b"[") else _objects
            yield from read(path, lines)
    except UnicodeDecodeError:
        raise harness.DataError(f"{path}:{lines.number}: not UTF-8; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise harness.DataError(f"{path}:{lines.number}: cannot be read: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise harness.DataError(f"{path}: cannot be read after line {lines.number}: {text}") from None


class _Lines:
    """The lines of an open file as text, and the number of the last one that was read.

    Decoded line by line: a text file is decoded in blocks, and would not know the line of a bad byte.
    """

    file: BinaryIO
    number = 0

    def __iter__(self) -> Iterator[str]:
        for raw in self.file:
            self.number += 1
            yield raw.decode("utf-8-sig" if self.number == 1 else "utf-8")


def _objects(path: Path, lines: _Lines) -> Iterator[Placed]:
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise harness.DataError(
                f"{path}:{lines.number}: not valid JSON: {error.msg}; expected one object a line"
            ) from None
        yield _object(f"{path}:{lines.number}", row, line)


def _array(path: Path, lines: _Lines) -> Iterator[Placed]:
    """The objects of a JSON array, one at a time: all at once they take ten times the memory of their text."""
    text, decoder = "".join(lines), json.JSONDecoder()
    place, lines.number, sign = 0, 1, OPENED.match(text)
    while sign and not CLOSED.match(text, sign.end()):
        lines.number += text.count("\n", place, sign.end())
        try:
            row, place = decoder.raw_decode(text, sign.end())
        except json.JSONDecodeError as error:
            raise harness.DataError(
                f"{path}:{error.lineno}: not valid JSON: {error.msg}; expected an array of objects"
            ) from None
        yield _object(f"{path}:{lines.number}", row, text[sign.end() : place])
        lines.number += text.count("\n", sign.end(), place)
        sign = PARTED.match(text, place)
    if not sign and not CLOSED.match(text, place):
        raise harness.DataError(f"{path}:{lines.number}: not valid JSON: expected a comma, or ] at the end")


def _object(where: str, row: Any, text: str) -> Placed:
    if not isinstance(row, dict):
        raise harness.DataError(f"{where}: expected a JSON object, not {text.strip()[:40]!r}")
    return where, row


def _cells(path: Path, lines: _Lines) -> Iterator[Placed]:
    """Rows of a CSV file with a line of column names: text, or None for an empty cell."""
    reader = csv.DictReader(lines, strict=True)
    try:
        for row in reader:
            # The reader puts surplus cells under None, and None into missing ones.
            if None in row or None in row.values():
                raise harness.DataError(f"{path}:{lines.number}: has more or fewer cells than there are columns")
            yield f"{path}:{lines.number}", {name: cell or None for name, cell in row.items()}
    except csv.Error as error:
        raise harness.DataError(f"{path}:{lines.number}: not valid CSV ({error})") from None


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
        raise BadRow(MISSING, f"{field} has {fields(value)}; a chat message has role and content")
    if role not in ROLES:
        raise BadRow(
            ROLE, f"{field}.role is {textwrap.shorten(repr(role), 40)}; expected {', '.join(ROLES[:-1])} or {ROLES[-1]}"
        )
    if not isinstance(text := _joined(content), str):
        raise wrong_type(f"{field}.content", content, "text, or a list of parts that are all text")
    return harness.Message(role=role, content=text)


def _joined(content: Any) -> Any:
    """The text of a message's content that is a list of parts, all of them text, as in TRL's multimodal format; else itself."""
    if not isinstance(content, list) or not content:
        return content
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
    return "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else content


def user_turn(text: str, field: str) -> harness.Prompt:
    """Text as the one turn of a user. Raises BadRow for a transcript of several turns."""
    check_turns(text, field)
    return (harness.Message(role="user", content=text.strip()),)


def category_of(row: dict[str, Any]) -> str | None:
    """A row's category as text; a number is that of a class. Raises BadRow."""
    value = row.get("category")
    if value is not None and not isinstance(value, str | int | float):
        raise wrong_type("category", value, "text")
    return None if value is None else str(value)


def with_system(prompt: harness.Prompt, system: Any) -> harness.Prompt:
    """A prompt behind a row's `system` text, where the row has some and the prompt no system message of its own. Raises BadRow."""
    if system is not None and not isinstance(system, str):
        raise wrong_type("system", system, "text")
    if not system or not system.strip() or any(message.role == "system" for message in prompt):
        return prompt
    return (harness.Message(role="system", content=system.strip()), *prompt)
