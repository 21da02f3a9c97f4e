"""`harness plugins`: what is installed, a new package to start from, and whether a package is sound."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from .plans import broken

if TYPE_CHECKING:
    from ..session import Session

KINDS = ("aligner", "judge", "metric")


@click.group("plugins", short_help="List the installed plugins, begin a new one, try one.", invoke_without_command=True)
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


@command.command("new", short_help="Write a package to start from.")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default="aligner", show_default=True, help="What the plugin adds.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The folder to write. Default: harness-NAME.")
@click.pass_obj
def new(session: Session, name: str, kind: str, output: Path | None) -> None:
    """Write a package that adds an aligner, a judge or a metric called NAME: a module that works, a test, and a plan.

    Install it, change it into your own, and try it with `harness plugins check harness-NAME`.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(f"{name!r}: a plugin's name is of small letters, digits and single hyphens, such as my-{kind}")
    if entry := session.registry.get(kind, name):
        raise UsageError(
            f"{kind} {name!r} is there already, from {entry.plugin.distribution} {entry.plugin.version}; take another name"
        )
    folder, module = output or Path(f"harness-{name}"), f"harness_{name.replace('-', '_')}"
    files = {
        "pyproject.toml": "project.toml",
        f"{module}.py": f"{kind}.py",
        f"test_{module}.py": f"test_{kind}.py",
        "plan.yaml": f"{kind}.yaml",
    }
    starters = importlib.resources.files("harness_plugins.starters")
    try:
        folder.mkdir(parents=True)
        for file, starter in files.items():
            text = (starters / starter).read_text(encoding="utf-8")
            (folder / file).write_text(_renamed(text, kind, name, module), encoding="utf-8")
    except FileExistsError:
        raise UsageError(f"{folder}: exists; choose another folder with -o, or remove it") from None
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from None
    click.echo(str(folder))
    click.echo(
        f"next: pip install -e {folder}; harness plugins check harness-{name}; harness run {folder / 'plan.yaml'}", err=True
    )


def _renamed(text: str, kind: str, name: str, module: str) -> str:
    """A starter under a plugin's own name."""
    title = "".join(part.capitalize() for part in name.split("-"))
    text = text.replace(f"from .{kind} import", f"from {module} import").replace("harness_my_plugin", module)
    return text.replace("my-plugin", name).replace("MyPlugin", title)


@command.command("check", short_help="Try the plugins of an installed package.")
@click.argument("package")
@click.pass_obj
def check(session: Session, package: str) -> int:
    """Try the plugins of an installed PACKAGE: import them, and run what they add twice in a small toy world.

    Ends with status 1 where something is wrong.
    """
    from ..trial import plugins_of, try_plugins

    plugins = plugins_of(session, package)
    click.echo(f"{plugins[0].distribution} {plugins[0].version}")
    trial = try_plugins(session, plugins)
    for line in trial.lines:
        click.echo(f"  {line}")
    for problem in trial.problems:
        click.echo(f"problem: {problem}")
    return 1 if trial.problems else 0
