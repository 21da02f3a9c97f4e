"""The report: run folder → view model → charts → one HTML file. A plugin like any other, and it needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    import click

    from harness.rundir import RunFolder


@harness.hookimpl
def harness_run_finish(run: RunFolder, say: Callable[[str], None]) -> None:
    """Write report.html into the run folder, and tell its verdict."""
    from .render import write_report

    say(f"report: {write_report(run, say=say)}")


@harness.hookimpl(trylast=True)
def harness_render_analysis(analysis: Mapping[str, Any]) -> str:
    """The page that `harness analyze -o` writes."""
    from .analysis import render_analysis

    return render_analysis(analysis)


@harness.hookimpl
def harness_commands(cli: click.Group) -> None:
    """Add `harness report`."""
    from .command import report

    cli.add_command(report)


@harness.hookimpl
def harness_configure(session: Any) -> None:
    """Remember where the other plugins' sections of the report come from."""
    from . import sections

    sections.use(session.plugins.hook)
