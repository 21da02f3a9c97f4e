"""`harness check`: a plan's problems, or what it would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .models import store_option
from .plans import load_plan, plan_arguments

if TYPE_CHECKING:
    from ..session import Session


@click.command("check", short_help="Validate a plan; print its stages and what is in the store.")
@plan_arguments
@store_option
@click.option("--example", is_flag=True, help="Show one tokenized training example per stage, with its loss mask.")
@click.pass_obj
def command(session: Session, plan: str, settings: Sequence[str], store: Path, example: bool) -> None:
    """Validate PLAN: every problem at once, or its stages, what fills their slots, and what the store already has.

    Nothing is trained.
    """
    graph = load_plan(session, plan, settings)
    from ..preview import preview

    seen = preview(graph, store)
    for line in seen.outline():
        click.echo(line)
    for text in seen.warnings():
        click.echo(f"warning: {text}", err=True)
    for line in seen.examples() if example else ():
        click.echo(line)
