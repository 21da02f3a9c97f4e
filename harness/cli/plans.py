"""How commands find a plan."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import PlanError, UsageError
from ..plan import Graph, check, read_document

if TYPE_CHECKING:
    from ..plugins import Plugin
    from ..session import Session


def plan_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument PLAN and the option --set."""
    text = "Set a value of the plan by its dotted path; may be repeated."
    option = click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help=text)
    return click.argument("plan")(option(function))


def packaged_plans() -> dict[str, Path]:
    """The plans that come with the package, by name."""
    folder = importlib.resources.files("harness_benchmarks")
    return {path.name.removesuffix(".yaml"): Path(str(path)) for path in folder.iterdir() if path.name.endswith(".yaml")}


def find_plan(name: str) -> Path:
    """The file that PLAN means: a path, or a packaged plan's name. Raises UsageError."""
    path = Path(name)
    plans = packaged_plans()
    if name in plans and not path.is_file():
        return plans[name]
    if path.exists() or path.suffix or path.name != name:
        return path
    raise UsageError(f"{name}: no such file, and no packaged plan of that name; there are {', '.join(sorted(plans))}")


def load_plan(session: Session, name: str, settings: Sequence[str]) -> Graph:
    """Read and check a plan. Raises PlanError with all its problems."""
    path = find_plan(name)
    document = read_document(path, settings)
    if path in packaged_plans().values():
        document.folder = Path()
    graph = check(document, session.registry)
    problems = [each for found in session.plugins.hook.harness_check_plan(plan=graph.plan) for each in found or ()]
    if problems:
        raise PlanError(
            [each if each.file else graph.document.problem(each.path.split("."), each.text) for each in problems]
        )
    for plugin in session.plugins.broken:
        click.echo(f"warning: {broken(plugin)}; the plan does not need it", err=True)
    return graph


def broken(plugin: Plugin) -> str:
    """Which plugin could not be loaded, and why."""
    return f"plugin {plugin.name!r} ({plugin.distribution} {plugin.version}) could not be loaded: {plugin.error}"
