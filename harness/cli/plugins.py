"""`harness plugins`: what is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .plans import broken

if TYPE_CHECKING:
    from ..session import Session


@click.group("plugins", short_help="List the installed plugins and what they add.", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Plugins, and the components that they add."""
    if context.invoked_subcommand is None:
        context.invoke(list_plugins)


@command.command("list")
@click.pass_obj
def list_plugins(session: Session) -> None:
    """List every component: name, kind, plugin, version."""
    rows = [
        (entry.name, entry.kind, entry.plugin.name, f"{entry.plugin.distribution} {entry.plugin.version}")
        for _, entry in sorted(session.registry.entries.items())
    ]
    rows.insert(0, ("NAME", "KIND", "PLUGIN", "VERSION"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]))
    for plugin in session.plugins.broken:
        click.echo(broken(plugin), err=True)
