"""How commands find the store, the models of a run, or a model folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..components import Compute
from ..errors import UsageError
from ..rundir import RUNS, RunFolder
from ..store import MARKER, Store

store_option = click.option(
    "--store", type=click.Path(path_type=Path), default=RUNS / ".store", show_default=True, help="Where results are kept."
)


def run_models(run: RunFolder, store: Path, kind: str) -> dict[str, Path]:
    """The models of one kind that a run made, by stage. Raises UsageError for one that the store no longer has."""
    stages: Mapping[str, Any] = run.lock()["stages"]
    models = {}
    for name, about in run.run()["stages"].items():
        if about.get("status") in {"done", "reused"} and stages.get(name, {"gives": "model"})["gives"] == kind:
            folder = Store(store).folder(about["key"])
            if not (folder / MARKER).exists():
                raise UsageError(
                    f"{name}: the store {store} does not have it any more; run the plan again, or give its --store"
                )
            models[name] = folder
    return models


def find_model(name: str, kind: str, store: Path) -> Path:
    """What a command's MODEL means: a model folder, or RUN:STAGE, where RUN is a run folder or `latest`. Raises UsageError."""
    from ..rundir import find_run

    if (Path(name) / "config.json").is_file():
        return Path(name)
    run, colon, stage = name.rpartition(":")
    if not colon:
        raise UsageError(f"{name}: not a model folder (it has no config.json), nor RUN:STAGE, such as latest:reward")
    found = find_run(run)
    models = run_models(found, store, kind)
    if stage not in models:
        raise UsageError(f"{name}: the run {found.path} has no {kind} {stage!r}; it has {', '.join(models) or 'none'}")
    return models[stage]


def run_compute(run: RunFolder) -> Compute:
    """Where and how a run computed, as it was resolved then; on a machine without its device, as this one does."""
    from ..compute import choose_compute, usable_cores

    lock = run.lock()
    compute, trust = lock["compute"], lock["plan"]["trust_remote_code"]
    if compute["device"] != "cpu" and (here := choose_compute()).device == "cpu":
        return replace(here, trust_remote_code=trust)
    return Compute(compute["device"], compute["precision"], min(compute["threads"], usable_cores()), trust)


def read_json_line(line: str, number: int, fields: tuple[str, ...], where: str) -> dict[str, Any]:
    """One JSON object with these text fields. Raises UsageError with the line."""
    try:
        value = json.loads(line)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{where}:{number}: holds half a character (a lone surrogate such as \\ud800); remove it"
        ) from None
    except ValueError as error:
        raise UsageError(f"{where}:{number}: not valid JSON: {error}") from None
    if not isinstance(value, dict) or not value.keys() >= {*fields}:
        expected = ", ".join(f'"{each}": …' for each in fields)
        has = ", ".join(f'"{each}"' for each in value) if isinstance(value, dict) else "no object"
        raise UsageError(f"{where}:{number}: expected {{{expected}}}; this line has {has or 'no field'}")
    return dict(value)
