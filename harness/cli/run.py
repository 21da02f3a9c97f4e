"""`harness run`: the main job."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from ..compute import resolve_compute
from ..errors import UsageError
from ..progress import Progress, counted
from ..rundir import RUNS, RunFolder
from ..session import Session
from .models import store_option
from .plans import load_plan, plan_arguments


@click.command("run", short_help="Train, compare and report, as a plan says.")
@plan_arguments
@click.option("--out", type=click.Path(path_type=Path), help="The run folder. Default: runs/NAME/TIMESTAMP.")
@store_option
@click.option(
    "--only",
    multiple=True,
    metavar="STAGE",
    help="Train this stage, with every training seed, and what it builds on; may be repeated.",
)
@click.option("--fresh", is_flag=True, help="Compute everything again, whatever the store has.")
@click.option("--json", "as_json", is_flag=True, help="Print run folder, status and estimates as one JSON document.")
@click.pass_obj
def command(
    session: Session,
    plan: str,
    settings: Sequence[str],
    out: Path | None,
    store: Path,
    only: Sequence[str],
    fresh: bool,
    as_json: bool,
) -> int:
    """Train, compare and report, as PLAN says. PLAN is a file, or the name of a packaged plan such as `quickstart`.

    Finished steps are kept in the store: run the same command again, and it goes on where it stopped.
    """
    from ..runner import Run
    from ..stages import InProcess
    from ..store import Store

    graph = load_plan(session, plan, settings)
    for name in only:
        if name not in graph.stages:
            raise UsageError(f"--only {name}: no such stage; there are {', '.join(graph.stages)}")
    session.plugins.manager.register(InProcess(), name="in-process")
    progress = Progress()
    compute = resolve_compute(graph.plan)
    folder = RunFolder(out or RUNS / graph.plan.name / datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3])
    kept = Store(store, progress.say)
    kept.prepare()
    progress.say(
        f"{graph.plan.name}: {counted(len(graph.stages), 'stage')} on {compute.device}, fp32 weights, "
        f"{compute.precision} matrix products, {counted(compute.threads, 'thread')} → {folder.path}"
    )
    run = Run(
        graph=graph,
        registry=session.registry,
        plugins=session.plugins,
        store=kept,
        folder=folder,
        compute=compute,
        progress=progress,
        command=["harness", *sys.argv[1:]],
        only=frozenset(only),
        fresh=fresh,
    )
    status = run.execute()
    if as_json:
        estimates = [each.model_dump() for each in folder.estimates()]
        click.echo(
            json.dumps({"run": str(folder.path), "status": folder.run()["status"], "estimates": estimates}, indent=1)
        )
    else:
        click.echo(str(folder.report_path if folder.report_path.exists() else folder.path))
    return status
