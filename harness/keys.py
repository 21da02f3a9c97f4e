"""Content addresses: everything that a result depends on, as canonical JSON, as SHA-256."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from functools import cache
from typing import Any

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "numpy", "scipy")


def canonical_json(value: object) -> str:
    """JSON that is equal for equal values: sorted keys, no spaces, no NaN. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: object) -> str:
    """SHA-256 of a value's canonical JSON, as hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_rows(rows: Iterable[Any]) -> str:
    """SHA-256 of records in their order, as hex."""
    fingerprint = hashlib.sha256()
    for row in rows:
        fingerprint.update(row.model_dump_json().encode() + b"\n")
    return fingerprint.hexdigest()


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that numbers depend on, read from their metadata without importing them."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
