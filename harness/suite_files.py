"""Files of suite rows: JSON lines, or a CSV file with the columns of XSTest."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from .errors import DataError, UsageError
from .records import SuiteRow, numbered_records

COLUMNS = ("prompt", "type", "label")
EXPECTED: dict[str, Literal["answer", "refuse"]] = {"safe": "answer", "unsafe": "refuse"}


def read_suite(path: Path, problem: Callable[[SuiteRow], str | None] | None = None) -> tuple[SuiteRow, ...]:
    """The rows of a suite: of a `.csv` file as XSTest has it, else of JSON lines. An id that is left out is the row's number.

    `problem` says in a sentence what is wrong with a row, if anything is. Raises UsageError or DataError with file and line for
    a file that cannot be read, a row that is none, an id that stands twice and a row with a problem.
    """
    if path.suffix.casefold() == ".gz":
        raise UsageError(f"suite {path}: a compressed suite is not read; unpack it, and name the unpacked file")
    rows: dict[str, SuiteRow] = {}
    try:
        _check_format(path)
        for line, row in _csv_rows(path) if path.suffix.casefold() == ".csv" else numbered_records(path, SuiteRow):
            if "id" not in row.model_fields_set:
                row = row.model_copy(update={"id": f"row-{len(rows):06d}"})
            text = _fault(row) or (problem(row) if problem else None)
            if row.id in rows:
                text = "the id stands twice; ids tell prompts apart"
            if text:
                raise DataError(f"suite {path}:{line}: row {row.id!r}: {text}")
            rows[row.id] = row
    except OSError as error:
        raise UsageError(f"suite {path}: cannot be read: {error.strerror or error}") from None
    if not rows:
        raise DataError(f'suite {path}: holds no prompt; a row is {{"id": …, "prompt": …}}')
    return tuple(rows.values())


def suite_file(path: str, folder: Path) -> Path:
    """The file that a suite's `path` names, relative to the plan's folder. Raises UsageError for a home of nobody."""
    try:
        return folder / Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"suite {path}: cannot be read: {error}") from None


def _fault(row: SuiteRow) -> str | None:
    """Why no model can answer a row, in a sentence; None for one that can be asked."""
    if not row.id.strip():
        return "the id is empty; ids tell prompts apart"
    messages = row.messages()
    if not messages:
        return "prompt is an empty list; expected text or chat messages"
    if messages[-1].role == "assistant":
        return "the last message of prompt is the assistant's; expected the user's, which waits for an answer"
    if not messages[-1].content.strip():
        what = "the last message of prompt" if len(messages) > 1 else "prompt"
        return f"{what} is empty; write what the models are to answer, or remove the row"
    return None


def _check_format(path: Path) -> None:
    content = path.read_bytes()
    if content.startswith(b"PAR1") or content.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        what = "Parquet" if content.startswith(b"PAR1") else "a JSON array"
        raise UsageError(f"suite {path}: is {what}; a suite is JSON lines, one object a line, or a .csv file")
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            raise UsageError(f"suite {path}:{number}: not UTF-8; save the file as UTF-8") from None


def _csv_rows(path: Path) -> Iterator[tuple[int, SuiteRow]]:
    """Rows of a CSV file with the columns of XSTest (Röttger et al. 2024, arXiv:2308.01263); other columns are left alone.

    A safe prompt deserves an answer and an unsafe one a refusal; the type is the category.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise DataError(
                    f"suite {path}:1: no column {missing[0]!r}; a CSV suite has XSTest's columns {', '.join(COLUMNS)}, and mostly id"
                )
            for cells in reader:
                # The reader puts surplus cells under None, and None into missing ones.
                if None in cells or None in cells.values():
                    raise DataError(f"suite {path}:{reader.line_num}: has more or fewer cells than there are columns")
                label = cells["label"].strip().casefold()
                if label not in EXPECTED:
                    raise DataError(
                        f"suite {path}:{reader.line_num}: the label {cells['label']!r} is neither 'safe' nor 'unsafe'"
                    )
                row = {"prompt": cells["prompt"], "category": cells["type"].strip() or None, "expect": EXPECTED[label]}
                own = {"id": cells["id"].strip()} if "id" in cells else {}
                yield reader.line_num, SuiteRow.model_validate(row | own)
        except csv.Error as error:
            raise DataError(f"suite {path}:{reader.reader.line_num}: not valid CSV ({error})") from None
