"""A tiny model, built once: 2 layers, a few hundred tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_model import TINY

from harness.components import Compute

TEXTS = (
    "the quick brown fox jumps over the lazy dog",
    "how are you today",
    "what is the capital of the city of light?",
) * 20


@pytest.fixture(scope="session")
def compute() -> Any:
    return Compute("cpu", "fp32", 1)


@pytest.fixture(scope="session")
def tiny() -> tuple[Any, Any]:
    """What the tiny model is built from: its specification and its texts."""
    return TINY, TEXTS


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, compute: Any) -> Path:
    from harness.engine.base import build_base

    folder = tmp_path_factory.mktemp("engine") / "base"
    build_base(TINY, TEXTS, folder, compute, seed=5)
    return folder


@pytest.fixture(scope="session")
def policy(base: Path, compute: Any) -> tuple[Any, Any]:
    """The tiny model with its weights scaled up, so that its distributions are far from uniform."""
    import torch

    from harness.engine.models import load_policy

    model, tokenizer = load_policy(base, compute)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
    return model, tokenizer
