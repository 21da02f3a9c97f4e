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
from ..progress import counted
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

    from ..compute import choose_compute, cuda_names, host, torch_is_cpu_build

    about, compute, memory = host(), choose_compute(), psutil.virtual_memory()
    _line("machine", f"{about['platform']}, Python {about['python']}, harness {importlib.metadata.version(DISTRIBUTION)}")
    _line("processor", f"{about['cpu']}, {counted(about['cores'], 'core')}")
    _line("memory", f"{_gib(memory.available)} of {_gib(memory.total)} free")
    gpus = cuda_names()
    for gpu in gpus or ("none that the driver knows",):
        _line("GPU", gpu)
    if gpus and torch_is_cpu_build():
        _line("", "not used: this torch was built without CUDA; install one that has it")
    _line("precision", _precision(compute.device))
    problems = list(library_problems(DISTRIBUTION))
    for text in problems or ("all of the versions that they should be",):
        _line("libraries", text)
    _line("disk", f"{_gib(shutil.disk_usage(_existing(store)).free)} free for the store, {store}")
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


def _precision(device: str) -> str:
    from ..compute import bf16_drawback

    drawback = bf16_drawback(device)
    name = "processor" if device == "cpu" else "GPU"
    return f"fp32: this {name} {drawback}" if drawback else f"bf16 by autocast, which is faster than fp32 on this {name}"


def _plan_state(session: Session, name: str) -> str:
    try:
        graph = load_plan(session, name, ())
    except PlanError as error:
        return "; ".join(each.text for each in error.problems)
    except HarnessError as error:
        return str(error)
    away = [str(graph.plan.base)] if isinstance(graph.plan.base, str) and "://" not in graph.plan.base else []
    return f"ready, if {' and '.join(away)} can be had from the Hub" if away else "ready"


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB"


def _line(name: str, text: str) -> None:
    click.echo(f"{name:<16}{text}")
