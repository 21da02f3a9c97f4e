"""The two optional tables of a length-controlled win rate: how hard each prompt is, and an anchor for the length."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .annotations import Judged

if TYPE_CHECKING:
    from ..stats import Anchor

DIFFICULTY = ("instruction_difficulty", "difficulty")
KEYS = ("prompt_id", "instruction", "index", "")


@dataclass(frozen=True)
class Difficulties:
    """Difficulty by prompt: by its id, or by the number of its row within its file, as in AlpacaEval's own tables."""

    path: Path
    by_position: bool
    values: Mapping[str, float]

    def of(self, row: Judged) -> float:
        """The difficulty of a judgement's prompt. Raises UsageError for one that the table lacks."""
        for key in (str(row.position), row.prompt_id) if self.by_position else (row.prompt_id, row.root):
            if key in self.values:
                return self.values[key]
        what = f"row {row.position}" if self.by_position else f"prompt {row.prompt_id[:60]!r}"
        raise UsageError(f"{self.path}: no difficulty for {what} ({row.where}); every judged prompt needs one")


def read_difficulties(path: Path) -> Difficulties:
    """A CSV with a column `instruction_difficulty` or `difficulty` and one of `prompt_id`, `instruction`, `index`.

    A column without a name counts as `index`. Raises UsageError with file and line for anything else.
    """
    rows = list(_rows(path))
    columns = rows[0][1].keys() if rows else ()
    value = next((name for name in DIFFICULTY if name in columns), None)
    key = next((name for name in KEYS if name in columns), None)
    if value is None or key is None:
        raise UsageError(
            f"{path}:1: expected the columns instruction_difficulty (or difficulty) and prompt_id, instruction or index; "
            f"it has {', '.join(filter(None, columns)) or 'no rows'}"
        )
    values: dict[str, float] = {}
    for number, row in rows:
        name, found = _key(row[key], key), _number(path, number, value, row[value])
        if values.setdefault(name, found) != found:
            raise UsageError(f"{path}:{number}: a second, different difficulty for {key or 'row'} {name[:60]}")
    return Difficulties(path, key in ("index", ""), values)


def read_anchor(path: Path) -> Anchor:
    """A CSV in the form of AlpacaEval's `df_gamed.csv`: `preference` (0 … 1), `std_delta_len`, `instruction_difficulty`.

    Its `std_delta_len` is the baseline's length less the candidate's, as AlpacaEval has it. Raises UsageError.
    """
    import numpy as np

    from ..stats import Anchor

    names = ("preference", "std_delta_len", "instruction_difficulty")
    rows = list(_rows(path))
    if not rows or not set(names) <= rows[0][1].keys():
        raise UsageError(f"{path}:1: expected the columns {', '.join(names)} of AlpacaEval's df_gamed.csv, and rows")
    kept = [(number, row) for number, row in rows if row["preference"].strip().lower() not in ("", "nan")]
    columns = [np.array([_number(path, number, name, row[name]) for number, row in kept]) for name in names]
    if not kept or columns[0].min() < 0 or columns[0].max() > 1:
        raise UsageError(f"{path}: preference: expected numbers from 0 to 1")
    return Anchor(columns[0], -columns[1], columns[2])


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with its line number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise UsageError(f"{path}:{reader.line_num}: not as many cells as there are columns")
                yield reader.line_num, row
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give a CSV file") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a CSV file in UTF-8 ({error})") from None


def _key(text: str, column: str) -> str:
    """A row number without a decimal point, which pandas writes where a column has gaps."""
    return text.removesuffix(".0") if column in ("index", "") else text


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{path}:{line}: {column}: expected a number, not {text!r}")
    return value
