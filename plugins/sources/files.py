"""Reading tables: JSON lines, gzipped or not, Parquet, and data sets of the Hugging Face Hub."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import harness

JSON_LINES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
READABLE = (*JSON_LINES, ".parquet")
LOCAL = ((".", "/", "~"), (".jsonl", ".json", ".gz", ".parquet", ".csv"))
"""How a path begins or ends that is surely not a Hub id."""


def read_rows(path: str, folder: Path, *, subset: str | None, split: str, revision: str | None) -> Iterator[dict[str, Any]]:
    """Rows of a local file, of all files of a local folder, or of a Hub data set, in order.

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

    Raises DataError for a file that is not there, may not be read, or is of another kind.
    """
    try:
        local = folder / Path(path).expanduser()
        is_folder, is_there = local.is_dir(), local.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, a folder that is closed, a home of nobody
        raise harness.DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if is_folder:
        local = local / subset if subset else local
        files = sorted(each for each in local.rglob("*") if each.name.endswith(READABLE))
        if not files:
            raise harness.DataError(f"{local}: no .jsonl, .jsonl.gz or .parquet file in this folder")
    elif is_there:
        files = [local]
        if not local.name.endswith(READABLE):
            raise harness.DataError(f"{local}: expected a .jsonl, .jsonl.gz or .parquet file")
    elif path.startswith(LOCAL[0]) or path.endswith(LOCAL[1]):
        raise harness.DataError(f"{path}: no such file; paths count from the plan's folder")
    else:
        return None
    for file in files:
        if not os.access(file, os.R_OK):
            raise harness.DataError(f"{file}: cannot be read: Permission denied")
    return files


def _read_file(path: Path) -> Iterator[dict[str, Any]]:
    if path.name.endswith(".parquet"):
        yield from _read_parquet(path)
        return
    number = 0
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig") as file
        ):
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise harness.DataError(f"{path}:{number}: expected a JSON object, not {line.strip()[:40]!r}")
                yield row
    except json.JSONDecodeError as error:
        raise harness.DataError(f"{path}:{number}: not valid JSON: {error.msg}; expected one object a line") from None
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise harness.DataError(f"{path}: cannot be read after line {number}: {text}") from None


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise harness.DataError(f"{path}: not a readable Parquet file: {str(error).partition(chr(10))[0]}") from None


def _read_hub(path: str, subset: str | None, split: str, revision: str | None) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset

    try:
        yield from load_dataset(path, data_dir=subset, split=split, revision=revision)
    except Exception as error:  # the Hub's client raises many kinds, and each means that these rows cannot be had
        text = str(error).partition("\n")[0]
        raise harness.DataError(f"{path}: neither a local file nor a data set that the Hub gave: {text}") from None


def messages(value: Any) -> harness.Prompt | None:
    """Chat messages from their JSON, or None if it is no such thing."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    try:
        return tuple(harness.Message(role=each["role"], content=each["content"]) for each in value)
    except (KeyError, TypeError, ValueError):
        return None


def root(prompt: harness.Prompt) -> str:
    """What groups the prompts of one conversation: its first user turn."""
    return next((message.content for message in prompt if message.role == "user"), prompt[0].content)
