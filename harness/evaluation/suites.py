"""Suites: the prompts that every model answers, and the preferences behind them where there are any."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from pathlib import Path

from ..data import DataSets
from ..errors import DataError, UsageError
from ..keys import digest_rows
from ..plan.model import Suite
from ..records import Preference, PromptRow, SuiteRow, read_records


@dataclass(frozen=True)
class LoadedSuite:
    """A suite's prompts, each once, and all preferences of the split that it was drawn from."""

    name: str
    rows: tuple[SuiteRow, ...]
    fingerprint: str
    preferences: tuple[Preference, ...] = ()
    preferences_fingerprint: str = ""


def load_suite(name: str, suite: Suite, data: DataSets, folder: Path) -> LoadedSuite:
    """Read a suite. `limit` cuts the prompts, not the preferences. Raises DataError or UsageError."""
    if suite.data is not None:
        source = data.get(suite.data)
        rows = _prompts(source.rows)[: suite.limit]
        preferences = tuple(row for row in source.rows if isinstance(row, Preference))
        return LoadedSuite(name, rows, digest_rows(rows), preferences, source.fingerprint)
    if suite.suite is not None:
        with importlib.resources.as_file(
            importlib.resources.files("harness_benchmarks.suites") / f"{suite.suite}.jsonl"
        ) as path:
            rows = tuple(read_records(path, SuiteRow))
    else:
        rows = _own(folder / str(suite.path))
    rows = rows[: suite.limit]
    return LoadedSuite(name, rows, digest_rows(rows))


def _own(path: Path) -> tuple[SuiteRow, ...]:
    try:
        rows = tuple(read_records(path, SuiteRow))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"suite {path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not rows:
        raise DataError(f'suite {path}: holds no prompt; a row is {{"id": …, "prompt": …}}')
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise DataError(f"suite {path}: the id {row.id!r} stands twice; ids tell prompts apart")
        seen.add(row.id)
    return rows


def _prompts(rows: tuple[PromptRow, ...]) -> tuple[SuiteRow, ...]:
    """Each different prompt once, under the id of the first row that holds it."""
    unique = {row.prompt: row for row in reversed(rows)}
    return tuple(
        SuiteRow(id=row.id, prompt=row.prompt, category=row.category, expect=row.expect, root=row.root)
        for row in rows
        if unique[row.prompt] is row
    )
