"""What the sources that read tables share: their options, and the counting of rows that are of no use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticSerializationError

import harness

from .bad_rows import INVALID, TEMPLATED, BadRow
from .files import local_files, read_rows, surely_local

PART = "train"
NO_PARTS = "only a Hub data set has parts; name the file instead"
TEMPLATE = ("tools", "chat_template_kwargs")
"""Columns that change what TRL has a chat template write, and that nothing here reads."""
COLUMNS: Any = Field(
    default_factory=dict, description="fields that stand in columns of other names, such as `{id: row_id}`"
)


class TableConfig(harness.SourceConfig):
    """`path` is a file, a folder or a Hub id; `subset` is a folder in it.

    All files in a folder are read, but those that are hidden: whose name, or folder's name, begins with `.` or `_`.
    """

    path: str = Field(min_length=1)
    subset: str | None = None
    revision: str | None = Field(default=None, description="the Hub's branch, tag or commit")
    part: str = Field(default=PART, description="the Hub's own split to read from; local files have none")
    columns: dict[Any, str] = COLUMNS

    @model_validator(mode="after")
    def _part_of_the_hub(self) -> Self:
        if self.part != PART and surely_local(self.path):
            raise ValueError(f"part: {NO_PARTS}")
        return self

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """The fields of a row, which are the keys that `columns` may have."""
        return get_args(get_args(cls.model_fields["columns"].annotation)[0])


class TableSource(harness.Source):
    """A source whose rows stand in files or in a data set of the Hub."""

    Config = TableConfig

    def missing(self, config: TableConfig, folder: Path) -> str | None:
        """Why a local file, or a part of one, cannot be read; None for one that can be, and for what may be a Hub id."""
        try:
            files = local_files(config.path, folder, config.subset)
        except harness.DataError as error:
            return str(error)
        if files and config.part != PART:
            return f"{config.path} is local and has no part {config.part!r}; {NO_PARTS}"
        return None


def load_table(
    config: TableConfig, folder: Path, name: str, convert: Callable[[dict[str, Any], str], harness.PromptRow]
) -> harness.Loaded:
    """Every row that `convert` makes a record of; where it raises BadRow, the reason is counted.

    `convert` gets a row and an id for it: its own, or `name` and the row's number. Ids tell prompts apart: one that a row
    before has already is made longer by the number. Raises DataError, for a table without rows or without any of use too.
    """
    dropped: Counter[str] = Counter()
    held: Counter[str] = Counter()
    examples: dict[str, str] = {}
    kept: dict[str, harness.PromptRow] = {}
    source = read_rows(config.path, folder, subset=config.subset, split=config.part, revision=config.revision)
    for number, (where, cells) in enumerate(source):
        held.update({column: value is not None for column, value in cells.items()})
        row = _renamed(cells, config.columns)
        own = row.get("id")
        identity = str(own) if isinstance(own, str | int) else f"{name}-{number:06d}"
        try:
            if given := [field for field in TEMPLATE if row.get(field)]:
                raise BadRow(
                    TEMPLATED, f"has {given[0]}, with which a chat template is not filled in here; remove the column or row"
                )
            record = convert(row, f"{identity}-row-{number}" if identity in kept else identity)
            record.model_dump_json()
        except (BadRow, ValidationError, PydanticSerializationError) as error:
            bad = error if isinstance(error, BadRow) else _invalid(error)
            dropped[bad.reason] += 1
            examples.setdefault(bad.reason, f"{where}: {bad}")
        else:
            kept[record.id] = record
    if not kept and not dropped:
        raise harness.DataError(f"{config.path} is empty")
    if absent := [column for column in config.columns.values() if column not in held]:
        raise harness.DataError(f"columns: no row of {config.path} has {absent[0]!r}; the columns are {', '.join(held)}")
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
        raise harness.DataError(f"{examples[dropped.most_common(1)[0][0]]} (no usable row: {reasons})")
    read = {*TEMPLATE, *(config.columns.get(field, field) for field in config.fields())}
    unread = tuple(column for column, count in held.items() if count and column not in read)
    return harness.Loaded(list(kept.values()), dropped, examples, unread)


def _renamed(cells: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """A row under the names of its fields."""
    if not columns:
        return cells
    others = {name: value for name, value in cells.items() if name not in columns.values()}
    return others | {field: cells.get(column) for field, column in columns.items()}


def _invalid(error: Exception) -> BadRow:
    """What is wrong with a value of the right type: a number that is not finite, or text with half a character."""
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        return BadRow(INVALID, f"{'.'.join(map(str, found['loc']))}: {found['msg'][0].lower()}{found['msg'][1:]}")
    return BadRow(INVALID, "a text holds half a character, a lone surrogate such as \\ud800")
