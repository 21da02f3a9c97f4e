"""The toy world: a small language of questions and answers in which every text has a known true score."""

from __future__ import annotations

from .truth import truth

__all__ = ["truth"]
