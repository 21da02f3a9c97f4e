"""`harness doctor`: what this machine has, and what stands in a plan's way."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import HarnessError, PlanError
from ..package_files import PACKAGE
from ..progress import counted, in_bytes
from .models import store_option
from .plans import load_plan, packaged_plans

if TYPE_CHECKING:
    from ..session import Session

DISTRIBUTION = "alignment-harness"


@click.command("doctor", short_help="What this machine has, and what stands in a plan's way.")
@store_option
@click.pass_obj
def command(session: Session, store: Path) -> int:
    """Print the machine's processor, GPUs, precision, libraries and free disk, and which packaged plans could run here.

    The exit status is 1 where a library is missing or of a version that does not fit.
    """
    import psutil

    from ..compute import bf16_drawback, choose_compute, cuda_names, host, torch_is_cpu_build

    about, compute, memory = host(), choose_compute(), psutil.virtual_memory()
    _line("machine", f"{about['platform']}, Python {about['python']}, harness {importlib.metadata.version(DISTRIBUTION)}")
    _line("processor", f"{about['cpu']}, {counted(about['cores'], 'core')}")
    _line("memory", f"{in_bytes(memory.available)} of {in_bytes(memory.total)} free")
    gpus = cuda_names()
    for gpu in gpus or ("none that the driver knows",):
        _line("GPU", gpu)
    if gpus and torch_is_cpu_build():
        _line("", "not used: this torch was built without CUDA; install one that has it")
    drawback = bf16_drawback(compute.device)
    _line("precision", f"fp32: {drawback}" if drawback else "bf16 by autocast, which is faster here than fp32")
    problems = list(library_problems(DISTRIBUTION))
    for text in problems or ("all of the versions that they should be",):
        _line("libraries", text)
    _line("disk", f"{in_bytes(shutil.disk_usage(_existing(store)).free)} free for the store, {store}")
    for name in sorted(packaged_plans()):
        _line(f"plan {name}", _plan_state(session, name))
    return 1 if problems else 0


def library_problems(distribution: str) -> Iterator[str]:
    """What a distribution requires, extras aside, and is missing here or of another version."""
    from packaging.requirements import Requirement

    for text in importlib.metadata.requires(distribution) or ():
        required = Requirement(text)
        if required.marker is not None and not required.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(required.name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{required.name} is missing; {sys.executable} -m pip install '{required.name}{required.specifier}'"
            continue
        if not required.specifier.contains(found, prereleases=True):
            yield f"{required.name} is {found}, and {required.specifier} is asked for"


def _plan_state(session: Session, name: str) -> str:
    """What is wrong with a packaged plan here, or what it takes from the Hub, as far as names tell."""
    try:
        graph = load_plan(session, name, ())
    except PlanError as error:
        return "; ".join(each.text for each in error.problems)
    except HarnessError as error:
        return str(error)
    base = graph.plan.base
    named = [base] if isinstance(base, str) and not base.startswith(PACKAGE) else []
    named += [path for node in graph.data.values() if isinstance(path := getattr(node.config, "path", None), str)]
    away = [each for each in named if not Path(each).exists()]
    return f"ready, if the Hub gives {' and '.join(away)}" if away else "ready"


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


def _line(name: str, text: str) -> None:
    click.echo(f"{name:<16}{text}")
