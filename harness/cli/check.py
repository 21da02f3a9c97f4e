"""`harness check`: a plan's problems, or what it would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ..rundir import RUNS
from ..session import Session
from .plans import load_plan, plan_arguments


@click.command("check", short_help="Validate a plan; print its stages and what is in the store.")
@plan_arguments
@click.option("--store", type=click.Path(path_type=Path), default=RUNS / ".store", show_default=True, help="Where results are kept.")
@click.option("--example", is_flag=True, help="Show one tokenized training example per stage, with its loss mask.")
@click.pass_obj
def command(session: Session, plan: str, settings: Sequence[str], store: Path, example: bool) -> None:
    """Validate PLAN: every problem at once, or its stages, what fills their slots, and what the store already has.

    Nothing is trained.
    """
    from ..preview import cached_stages, examples, outline

    graph = load_plan(session, plan, settings)
    for line in outline(graph, cached_stages(graph, store)):
        click.echo(line)
    for text in graph.warnings:
        click.echo(f"warning: {text}", err=True)
    if example:
        for line in examples(graph, store):
            click.echo(line)
