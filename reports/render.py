"""View model → one HTML file, without a request to anywhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.errors import UsageError
from harness.records import write_text

from .facts import read_facts
from .sections import extra_sections
from .view import View, build_view

if TYPE_CHECKING:
    from harness.rundir import RunFolder


def write_report(run: RunFolder, output: Path | None = None, say: Callable[[str], None] = lambda _: None) -> Path:
    """Write the report of a run, into its folder or to `output`; returns where. `say` is told the verdict.

    Raises UsageError for a damaged folder, and where the report cannot be written.
    """
    path = output or run.report_path
    view = build_view(read_facts(run), extra_sections(run))
    try:
        write_text(path, render(view))
    except OSError as error:
        raise UsageError(f"report {path}: {error.strerror}; write it elsewhere with `harness report RUN -o FILE`") from None
    for claim in view.verdict.claims:
        say(claim.text.replace("\u00a0", " "))
    return path


def render(view: View) -> str:
    """The report as HTML. Everything is escaped but the charts and other plugins' sections."""
    return page("report.html.j2", view=view)


def page(template: str, **values: object) -> str:
    """One of the pages as HTML."""
    return _environment().get_template(template).render(**values)


def prose(text: str) -> Markup:
    """Escaped text in which `name` becomes code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness_reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    environment.filters["trusted"] = Markup
    environment.globals["style"] = Markup(
        files("harness_reports.templates").joinpath("style.css").read_text(encoding="utf-8")
    )
    return environment
