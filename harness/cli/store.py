"""`harness store`: what is kept of earlier runs, and room for later ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..progress import counted, in_bytes
from ..rundir import RUNS
from .models import store_option

if TYPE_CHECKING:
    from ..inventory import Item
    from ..rundir import RunFolder
    from ..store import Store


def _places(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where the store and the runs are."""
    runs = click.option(
        "--runs",
        type=click.Path(path_type=Path),
        multiple=True,
        default=(RUNS,),
        show_default=True,
        help="A folder of run folders, or one of them, that was moved since it was written; may be repeated.",
    )
    return store_option(runs(function))


@click.group("store", short_help="List what the store keeps; remove what no run uses.", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """The store keeps every trained model and every record, so that nothing is computed twice."""
    if context.invoked_subcommand is None:
        context.invoke(list_items)


@command.command("ls")
@_places
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_items(store: Path, runs: Sequence[Path], as_json: bool) -> None:
    """List results and unfinished work, the largest first, with the runs that use each."""
    from ..inventory import inventory

    opened = _open(store)
    items = inventory(opened, _runs(opened, runs))
    if as_json:
        documents = [{**vars(each), "path": str(each.path), "uses": [str(run) for run in each.uses]} for each in items]
        click.echo(json.dumps(documents, indent=1))
        return
    _table(items)
    unused = [each for each in items if not each.uses]
    click.echo(f"{_sum(items)}, of which no run uses {_sum(unused)}", err=True)


@command.command("gc")
@_places
@click.option("--unfinished", is_flag=True, help="Remove unfinished work as well; such stages begin anew.")
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
def collect(store: Path, runs: Sequence[Path], unfinished: bool, dry_run: bool) -> None:
    """Remove the results that no run folder uses.

    The store knows where its runs were written. Name those that were moved since with --runs, or what they use goes.

    A result that goes is computed again by the plan that needs it. What judges replied is bought once, and never removed; what
    is younger than an hour stays, for it may belong to a run that is going on.
    """
    from ..inventory import disposable, inventory, remove

    opened = _open(store)
    folders = _runs(opened, runs)
    if not folders:
        raise UsageError(
            f"no run under {', '.join(map(str, runs))}, so that everything would go; say where your run folders are with --runs"
        )
    items = inventory(opened, folders)
    going = [each for each in disposable(items, unfinished) if dry_run or remove(opened, each)]
    if going:
        _table(going)
    click.echo(f"{'would remove' if dry_run else 'removed'} {_sum(going)}", err=True)
    left = [each for each in items if not each.finished]
    if left and not unfinished:
        click.echo(f"unfinished work stays, {_sum(left)}; --unfinished removes it", err=True)


def _open(path: Path) -> Store:
    from ..store import Store

    if not path.is_dir():
        raise UsageError(f"store {path}: there is none; give yours with --store")
    return Store(path)


def _runs(store: Store, roots: Sequence[Path]) -> list[RunFolder]:
    from ..inventory import run_folders

    for root in roots:
        if root != RUNS and not run_folders([root]):
            raise UsageError(f"--runs {root}: holds no run; name a run folder, or a folder of them")
    return run_folders([*roots, *store.runs()])


def _table(items: Iterable[Item]) -> None:
    rows = [("KEY", "SIZE", "WRITTEN", "WHAT", "USED BY")]
    for item in items:
        others = f" and {len(item.uses) - 1} more" if len(item.uses) > 1 else ""
        written = f"{datetime.fromtimestamp(item.changed):%Y-%m-%d %H:%M}"
        used = f"{item.uses[0]}{others}" if item.uses else "-"
        rows.append((item.key[:12], in_bytes(item.bytes), written, item.what, used))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)]
        cells[1] = row[1].rjust(widths[1])
        click.echo("  ".join([*cells, row[4]]))


def _sum(items: Sequence[Item]) -> str:
    return f"{counted(len(items), 'item')}, {in_bytes(sum(item.bytes for item in items))}"
