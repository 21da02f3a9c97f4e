"""Sources → data sets: read once, split by conversation root, cut to their limits, fingerprinted."""

from __future__ import annotations

import hashlib
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .components import Dataset
from .errors import DataError
from .keys import digest_rows

if TYPE_CHECKING:
    from .plan.graph import DataNode, Graph
    from .records import PromptRow


class DataSets:
    """The data of a plan, by reference such as `hh.train`; a source is read when first asked for, and once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.folder = graph.document.folder
        self._loaded: dict[str, dict[str, Dataset]] = {}

    def get(self, reference: str) -> Dataset:
        """The data set that a reference names. Raises DataError."""
        name = reference.partition(".")[0]
        if name not in self._loaded:
            node = self._graph.data[name]
            self._loaded[name] = load(node, self._graph.plan.seed, self._graph.document.folder)
        return self._loaded[name][reference]

    def has(self, reference: str) -> bool:
        """Whether a reference is one to data of the plan, and not to a model."""
        return reference.partition(".")[0] in self._graph.data

    def texts(self) -> list[str]:
        """Every text that stages train on, in a fixed order: what a tokenizer may be trained on."""
        references = {
            reference
            for stage in self._graph.stages.values()
            for reference in stage.slots.values()
            if reference.partition(".")[0] in self._graph.data
        }
        texts = []
        for reference in sorted(references):
            for row in self.get(reference).rows:
                texts += [message.content for message in row.prompt]
                texts += [str(text) for field in ("answer", "chosen", "rejected") if (text := getattr(row, field, None))]
        return texts

    def loaded(self) -> dict[str, Dataset]:
        """What was read so far, by reference."""
        return {reference: each for sets in self._loaded.values() for reference, each in sets.items()}


def load(node: DataNode, seed: int, folder: Path) -> dict[str, Dataset]:
    """Read one source and split it, by reference.

    Raises DataError for what cannot be read, for no good row, and for more bad rows than `max_dropped` allows.
    """
    config = node.config
    try:
        loaded = node.source.component().load(config, folder)
    except DataError as error:
        raise DataError(f"data.{node.name}: {error}") from None
    dropped = {reason: count for reason, count in loaded.dropped.items() if count}
    too_many(f"data.{node.name}", len(loaded.rows), dropped, config.max_dropped, loaded.examples)
    sets = {}
    for split, rows in split_by_root(loaded.rows, config.split, seed).items():
        reference = f"{node.name}.{split}" if split else node.name
        if not rows:
            raise DataError(f"data.{node.name}: split {split!r} is empty: {_few_roots(loaded.rows)}")
        kept = tuple(rows[: config.limit])
        sets[reference] = Dataset(reference, node.kind, kept, digest_rows(kept), dropped, config.max_dropped, loaded.unread)
    return sets


def _few_roots(rows: Sequence[PromptRow]) -> str:
    """Why a split of these rows may be empty, and what to do."""
    roots = len({row.root for row in rows})
    if roots == 1 < len(rows):
        begin = textwrap.shorten(repr(rows[0].root), 60, placeholder="…")
        return (
            f"all {len(rows)} rows begin with the same first human turn, {begin}, and such rows stay together; give rows that "
            "begin otherwise, or each split a data set of its own"
        )
    return (
        f"there are {len(rows)} rows of {roots} conversation root{'' if roots == 1 else 's'} (first human turns), and a root stays "
        "in one split; give more conversations, or the split a larger share"
    )


def too_many(
    where: str, kept: int, dropped: Mapping[str, int], limit: float, examples: Mapping[str, str] | None = None
) -> None:
    """Raise DataError if no row is left, or if the share of dropped ones is above the limit. `examples` are told, by reason."""
    lost = sum(dropped.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items(), key=lambda item: -item[1]))
    most = max(dropped, key=lambda reason: dropped[reason], default="")
    example = f". The first {most}: {examples[most]}" if examples and most in examples else ""
    if not kept and not dropped:
        raise DataError(f"{where}: the source gave no row")
    if not kept:
        raise DataError(f"{where}: no usable row ({reasons}); look at the file's format")
    if lost > limit * (kept + lost):
        raise DataError(
            f"{where}: {lost} of {kept + lost} rows had to be dropped ({reasons}), more than max_dropped: {limit:g} "
            f"allows; mend the data, or raise max_dropped if that is expected{example}"
        )


def split_by_root(rows: Sequence[PromptRow], shares: Mapping[str, float], seed: int) -> dict[str, list[PromptRow]]:
    """Rows by split, in their order. Rows with one root stay together, and adding rows moves none of the others.

    A root's place on [0, 1) is a hash of the seed and the root, so that shares hold in expectation.
    """
    if not shares:
        return {"": list(rows)}
    splits: dict[str, list[PromptRow]] = {name: [] for name in shares}
    ends = list(itertools.accumulate(shares.values()))
    if ends[-1] > 1 - 1e-9:
        ends[-1] = 1.0
    for row in rows:
        place = int.from_bytes(hashlib.sha256(f"{seed}\0{row.root}".encode()).digest()[:8], "big") / 2**64
        name = next((name for name, end in zip(shares, ends, strict=True) if place < end), None)
        if name is not None:
            splits[name].append(row)
    return splits
