"""`harness schema`: the plan's JSON Schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..session import Session


@click.command("schema", short_help="Print the JSON Schema of the plan, for editors.")
@click.pass_obj
def command(session: Session) -> None:
    """Print the JSON Schema of the plan, with the options of every installed component."""
    from ..plan.schema import plan_schema

    click.echo(json.dumps(plan_schema(session.registry), indent=1))
