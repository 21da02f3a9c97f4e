"""Built-in backends: what turns prompts into answers."""

from __future__ import annotations

import harness


@harness.hookimpl
def harness_backends() -> list[type[harness.Backend]]:
    from .transformers import Transformers

    return [Transformers]
