"""Checkpoints of a training loop: written whole or not at all, checked before they are used, two kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEPT = 2


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any]) -> None:
    """Write `state` as the checkpoint after `step`, and drop all but the newest KEPT.

    The folder gets its name once everything is on disk, so an interruption leaves no half of a checkpoint under it.
    """
    import torch

    temporary = folder / f".step-{step:08d}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with (temporary / "state.pt").open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        (temporary / "checkpoint.json").write_text(json.dumps({"step": step, "sha256": _digest(temporary / "state.pt")}))
        final = folder / f"step-{step:08d}"
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def load_checkpoint(folder: Path, device: str) -> tuple[int, dict[str, Any]] | None:
    """The newest checkpoint that is whole, as its step and state; None without one."""
    import torch

    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            about = json.loads((path / "checkpoint.json").read_text())
            if about["sha256"] == _digest(path / "state.pt"):
                return int(about["step"]), torch.load(path / "state.pt", map_location=device, weights_only=True)
        except (OSError, ValueError, KeyError):
            continue
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
