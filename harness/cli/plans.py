"""How commands find a plan."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import PlanError, UsageError
from ..plan import Graph, check, read_document
from ..session import Session


def plan_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument PLAN and the option --set."""
    function = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set a value of the plan by its dotted path.")(
        function
    )
    return click.argument("plan")(function)


def packaged_plans() -> dict[str, Path]:
    """The plans that come with the package, by name."""
    folder = importlib.resources.files("harness_benchmarks")
    return {path.name.removesuffix(".yaml"): Path(str(path)) for path in folder.iterdir() if path.name.endswith(".yaml")}


def find_plan(name: str) -> Path:
    """The file that PLAN means: a path, or a packaged plan's name. Raises UsageError."""
    path = Path(name)
    if path.exists() or path.suffix or path.name != name:
        return path
    plans = packaged_plans()
    if name not in plans:
        raise UsageError(f"{name}: no such file, and no packaged plan of that name; there are {', '.join(sorted(plans))}")
    return plans[name]


def load_plan(session: Session, name: str, settings: Sequence[str]) -> Graph:
    """Read and check a plan. Raises PlanError with all its problems."""
    graph = check(read_document(find_plan(name), settings), session.registry)
    problems = [each for found in session.plugins.hook.harness_check_plan(plan=graph.plan) for each in found or ()]
    if problems:
        raise PlanError(problems)
    return graph
