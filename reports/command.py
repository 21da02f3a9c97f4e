"""`harness report`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write here, not into the run folder."
)
def report(run: str, output: Path | None) -> None:
    """Render the report of a run again, from its folder alone. RUN is a run folder or `latest`."""
    from harness.rundir import find_run

    from .render import write_report

    click.echo(write_report(find_run(run), output))
