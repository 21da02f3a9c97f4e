"""Policies along a training: what each scorer says of them, and where what is meant stops rising (Gao et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..plan.model import Bootstrap
from ..records import Estimate, Sample, Score

if TYPE_CHECKING:
    import numpy.typing as npt

RESAMPLES = 2000


@dataclass(frozen=True)
class Along:
    """The policies of one stage in the order of training: their answers to one suite, and what one scorer says of them.

    `samples` and `scores` hold one list for each policy, prompt by prompt in the same order. With `from_start` the first is
    what training began with, and has not moved.
    """

    stage: str
    suite: str
    scorer: str
    samples: Sequence[Sequence[Sample]]
    scores: Sequence[Sequence[Score]]
    from_start: bool


def turning_point(along: Along, roots: Mapping[str, str], bootstrap: Bootstrap, seed: int) -> Iterator[Estimate | str]:
    """How far the policy that a scorer likes best has moved, in root KL (√nats per answer), over prompts that all answered.

    The square root because rewards are smooth in it: Gao, Schulman & Hilton 2022, arXiv 2210.10760, section 3. The best
    policy is chosen anew in every resample, so the interval says how sure that choice is.
    """
    from .. import stats

    complete = [
        place for place in range(len(along.samples[0])) if all(scores[place].score is not None for scores in along.scores)
    ]
    if not complete:
        return
    rewards = [[scores[place].score for place in complete] for scores in along.scores]
    divergences = [
        [0.0 if along.from_start and not policy else samples[place].kl for place in complete]
        for policy, samples in enumerate(along.samples)
    ]
    count = len(rewards)

    def best(*columns: npt.NDArray[Any]) -> npt.NDArray[Any]:
        likes = np.stack([column.mean(axis=-1) for column in columns[:count]])
        moved = np.stack([column.mean(axis=-1) for column in columns[count:]])
        return np.asarray(np.sqrt(np.take_along_axis(moved, likes.argmax(axis=0)[None], axis=0)[0].clip(min=0)))

    try:
        yield stats.estimate_columns(
            np.array([*rewards, *divergences], dtype=np.float64),
            [roots[along.samples[0][place].prompt_id] for place in complete],
            best,
            model=along.stage,
            metric="turning-point",
            judge=along.scorer,
            suite=along.suite,
            unit="root nats",
            level=bootstrap.level,
            resamples=min(bootstrap.resamples, RESAMPLES),
            seed=seed,
        )
    except stats.TooFewPrompts as error:
        yield str(error)
