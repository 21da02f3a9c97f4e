"""`harness report`."""

from __future__ import annotations

from pathlib import Path

import click

from harness.errors import UsageError


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write here, not into the run folder."
)
def report(run: str, output: Path | None) -> None:
    """Render the report of a run again, from its folder alone. RUN is a run folder or `latest`."""
    from harness.rundir import find_run

    from .render import write_report

    found = find_run(run)
    if output and output.suffix != ".html" and output.resolve().is_relative_to(found.path.resolve()):
        raise UsageError(
            f"-o {output}: the run folder keeps its records there; choose another name, one that ends in .html"
        )
    click.echo(write_report(found, output))
