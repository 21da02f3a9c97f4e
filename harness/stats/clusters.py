"""Prompts that share a conversation root, and what sharing it does to the precision of a mean."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import StageError

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.intp]

ROUNDING = 1e-12
"""Numbers that differ by less than this share of their size are equal but for rounding."""


class TooFewPrompts(StageError):
    """The observations are too few for any interval; the estimate has to be left out."""


@dataclass(frozen=True)
class Clusters:
    """n observations in G groups. `index` (n,) is each observation's group, `sizes` (G,) how many each group has."""

    index: Indices
    sizes: Indices

    @classmethod
    def of(cls, roots: Sequence[Hashable]) -> Clusters:
        """Group observations by root; groups are numbered in order of appearance. Raises ValueError for none."""
        if not roots:
            raise ValueError("no observations")
        numbers: dict[Hashable, int] = {}
        index = np.array([numbers.setdefault(root, len(numbers)) for root in roots], dtype=np.intp)
        return cls(index, np.bincount(index).astype(np.intp))

    @property
    def n(self) -> int:
        """How many observations there are."""
        return len(self.index)

    @property
    def count(self) -> int:
        """How many groups there are, G."""
        return len(self.sizes)

    def require_several(self) -> None:
        """Raise TooFewPrompts for a single group: it tells nothing of how groups differ."""
        if self.count < 2:
            raise TooFewPrompts("all observations are of one conversation root; evaluate more prompts for an interval")

    def sums(self, values: Floats) -> Floats:
        """Sum of `values` (n,) in each group, (G,)."""
        return np.bincount(self.index, weights=values, minlength=self.count).astype(np.float64)

    def means(self, values: Floats) -> Floats:
        """Mean of `values` (n,) in each group, (G,)."""
        return self.sums(values) / self.sizes

    @cached_property
    def order(self) -> Indices:
        """The observations (n,) with each group's side by side."""
        return np.argsort(self.index, kind="stable")

    @cached_property
    def starts(self) -> Indices:
        """Where each group begins in `order`, (G,)."""
        return np.asarray(np.cumsum(self.sizes) - self.sizes)

    def rows(self, draws: Indices) -> Indices:
        """The observations of a sequence of groups `draws` (d,), whole groups after one another, (sum of their sizes,)."""
        sizes = self.sizes[draws]
        ends = np.cumsum(sizes)
        positions = np.arange(ends[-1]) + np.repeat(self.starts[draws] - (ends - sizes), sizes)
        rows: Indices = self.order[positions]
        return rows


def constant(values: Floats) -> bool:
    """Whether all of `values` (n,) are the same number but for rounding."""
    return bool(np.ptp(values) <= ROUNDING * np.abs(values).max())


def standard_error(values: Floats, clusters: Clusters) -> float:
    """Cluster-robust standard error of the mean of `values` (n,).

    sqrt(G / (G - 1) · Σ_g (Σ_i (x_gi - mean))²) / n: Liang & Zeger (1986); Miller (2024, arXiv 2411.00640), with the
    factor G / (G - 1) that makes it the usual s / √n where every cluster has one observation. Raises TooFewPrompts for
    a single cluster.
    """
    clusters.require_several()
    residuals = clusters.sums(values - values.mean())
    return float(np.sqrt(clusters.count / (clusters.count - 1) * np.square(residuals).sum()) / clusters.n)


def effective_size(values: Floats, clusters: Clusters) -> float:
    """How many independent `values` (n,) are worth as much as these clustered ones.

    n / deff, where the design effect deff is the cluster-robust variance of the mean over s² / n, the variance that
    independent values would have, and at least 1 (Kish 1965, section 8.2). Where the data cannot tell (a constant sample,
    one cluster) members of a cluster count as copies of each other, the worst case: see `copies_size`.
    """
    n = clusters.n
    if clusters.count == n:
        return float(n)
    if clusters.count == 1 or constant(values):
        return copies_size(clusters)
    independent = float(values.var(ddof=1)) / n
    return float(n / max(1.0, standard_error(values, clusters) ** 2 / independent))


def copies_size(clusters: Clusters) -> float:
    """How many independent observations there are if siblings are copies of each other: n² / Σ m² (Kish 1965)."""
    return float(clusters.n**2 / np.square(clusters.sizes.astype(np.float64)).sum())
