"""Suites: the prompts that every model answers, and the preferences behind them where there are any."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..data import DataSets
from ..keys import digest_rows
from ..plan import Graph, row_problem
from ..plan.model import Suite
from ..records import Preference, PromptRow, SuiteRow
from ..suite_files import read_suite, suite_file


@dataclass(frozen=True)
class LoadedSuite:
    """A suite's prompts, each once, and all preferences of the split that it was drawn from, if it was drawn from one."""

    name: str
    rows: tuple[SuiteRow, ...]
    fingerprint: str
    preferences: tuple[Preference, ...] = ()
    preferences_fingerprint: str = ""
    drawn_from: str | None = None

    def answered(self) -> list[Preference]:
        """The preference that each prompt was drawn from, in the order of the prompts."""
        found = {row.id: row for row in self.preferences}
        return [found[row.id] for row in self.rows if row.id in found]


def load_suites(graph: Graph, data: DataSets) -> dict[str, LoadedSuite]:
    """A plan's suites, none without an evaluation. Raises DataError or UsageError, as `read_suite` does."""
    evaluate, problem = graph.plan.evaluate, row_problem(graph.metrics)
    suites = evaluate.suites if evaluate else {}
    return {name: load_suite(name, each, data, graph.document.folder, problem) for name, each in suites.items()}


def load_suite(
    name: str, suite: Suite, data: DataSets, folder: Path, problem: Callable[[SuiteRow], str | None] | None = None
) -> LoadedSuite:
    """Read a suite. `limit` cuts the prompts, not the preferences. Raises DataError or UsageError, as `read_suite` does."""
    if suite.data is not None:
        source = data.get(suite.data)
        rows = _prompts(source.rows)[: suite.limit]
        preferences = tuple(row for row in source.rows if isinstance(row, Preference))
        return LoadedSuite(name, rows, digest_rows(rows), preferences, source.fingerprint, suite.data)
    if suite.suite is not None:
        with importlib.resources.as_file(
            importlib.resources.files("harness_benchmarks.suites") / f"{suite.suite}.jsonl"
        ) as path:
            rows = read_suite(path, problem)
    else:
        rows = read_suite(suite_file(str(suite.path), folder), problem)
    rows = rows[: suite.limit]
    return LoadedSuite(name, rows, digest_rows(rows))


def _prompts(rows: tuple[PromptRow, ...]) -> tuple[SuiteRow, ...]:
    """Each different prompt once, under the id of the first row that holds it."""
    unique = {row.prompt: row for row in reversed(rows)}
    return tuple(
        SuiteRow(id=row.id, prompt=row.prompt, category=row.category, expect=row.expect, root=row.root)
        for row in rows
        if unique[row.prompt] is row
    )
