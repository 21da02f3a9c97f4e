"""A stage's policies along its training, as its artifact holds them: each is a model of its own, named STAGE@STEP."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .components import Artifact

FOLDER = "trajectory"
MARK = "@"


def along(artifact: Artifact) -> list[Artifact]:
    """The policies kept before the last step, in the order of their steps."""
    folder = artifact.path / FOLDER
    steps = sorted(int(path.name) for path in folder.iterdir()) if folder.is_dir() else []
    return [
        replace(artifact, name=f"{artifact.name}{MARK}{step}", path=folder / str(step), key=f"{artifact.key}{MARK}{step}")
        for step in steps
    ]


def split(model: str) -> tuple[str, int | None]:
    """The stage of a model's name, and its step where it is a policy from along the way."""
    stage, mark, step = model.partition(MARK)
    return stage, int(step) if mark else None
