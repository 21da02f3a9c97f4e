"""`harness init`: a plan to start from."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import UsageError, hint
from .plans import packaged_plans

PACKAGED = ", ".join(sorted(packaged_plans()))


@click.command("init", short_help="Write a plan to start from.", epilog=f"NAME is one of {PACKAGED}.")
@click.argument("name", default="quickstart")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("plan.yaml"),
    show_default=True,
    help="The file to write.",
)
def command(name: str, output: Path) -> None:
    """Write the packaged plan NAME to a file of your own."""
    plans = packaged_plans()
    if name not in plans:
        raise UsageError(f"no packaged plan {name!r}{hint(name, sorted(plans))}")
    text = plans[name].read_text(encoding="utf-8")
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{output}: exists; choose another name with -o, or remove it") from None
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror}") from None
    click.echo(str(output))
