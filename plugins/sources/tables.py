"""What the sources that read tables share: their options, and the counting of rows that are of no use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_core import PydanticSerializationError

import harness

from .bad_rows import INVALID
from .files import local_files, read_rows


class TableConfig(harness.SourceConfig):
    """`path` is a file, a folder (all files in it are read) or a Hub id; `subset` is a folder in it."""

    path: str = Field(min_length=1)
    subset: str | None = None
    revision: str | None = Field(default=None, description="the Hub's branch, tag or commit")
    part: str = Field(default="train", description="the Hub's own split to read from; local files have none")


class TableSource(harness.Source):
    """A source whose rows stand in files or in a data set of the Hub."""

    Config = TableConfig

    def missing(self, config: TableConfig, folder: Path) -> str | None:
        """Why a local file cannot be read; None for one that can be, and for what may be a Hub id."""
        try:
            local_files(config.path, folder, config.subset)
        except harness.DataError as error:
            return str(error)
        return None


def load_table(
    config: TableConfig, folder: Path, name: str, convert: Callable[[dict[str, Any], str], harness.PromptRow | str]
) -> harness.Loaded:
    """Every row that `convert` makes a record of; where it gives the reason why not, the reason is counted.

    `convert` gets a row and an id for it: its own, or `name` and the row's number. Ids tell prompts apart: one that a row
    before has already is made longer by the number. Raises DataError.
    """
    dropped: Counter[str] = Counter()
    kept: dict[str, harness.PromptRow] = {}
    source = read_rows(config.path, folder, subset=config.subset, split=config.part, revision=config.revision)
    for number, row in enumerate(source):
        own = row.get("id")
        identity = str(own) if isinstance(own, str | int) else f"{name}-{number:06d}"
        try:
            record = convert(row, f"{identity}-row-{number}" if identity in kept else identity)
            if not isinstance(record, str):
                record.model_dump_json()
        except (ValidationError, PydanticSerializationError):  # a number that is not finite, text with half a character
            record = INVALID
        if isinstance(record, str):
            dropped[record] += 1
        else:
            kept[record.id] = record
    return harness.Loaded(list(kept.values()), dropped)
