"""The reward models: how often they are right, how honest their confidence is, and where they are most wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .judges import LENGTH_RULES, standing
from .results import null_of
from .text import interval, number, percent

if TYPE_CHECKING:
    from harness.records import PairScore
    from harness.stats import ReliabilityBin

    from .facts import Facts

BINS = 5
WORST = 5
_MEASURES = {
    "accuracy": "Accuracy on held-out pairs",
    "accuracy-ceiling": "The most that any model could reach",
    **{metric: f"Accuracy above that of {rule}" for metric, rule in LENGTH_RULES.items()},
    "nll": "Negative log-likelihood",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "margin-length": "Correlation of margin and length",
}


@dataclass(frozen=True)
class WorstPair:
    """A pair that the reward model ranks against the annotator with the widest margin."""

    prompt: str
    chosen: str
    rejected: str
    margin: str
    probability: str | None


@dataclass(frozen=True)
class RewardModel:
    """One reward model on one suite of preferences."""

    model: str
    suite: str
    measures: tuple[tuple[str, str], ...]
    bins: tuple[ReliabilityBin, ...]
    worst: tuple[WorstPair, ...]


def reward_models(facts: Facts) -> tuple[RewardModel, ...]:
    """Every reward model on every suite that it was measured on."""
    measured = [(each.model, each.suite) for each in facts.estimates if each.metric == "accuracy"]
    # Pairs that were only scored because a stage required it are not among the measured ones.
    keys = dict.fromkeys(measured or facts.pairs)
    return tuple(_reward_model(facts, model, suite) for model, suite in keys)


def _reward_model(facts: Facts, model: str, suite: str) -> RewardModel:
    import numpy as np

    from harness import stats

    pairs = facts.pairs.get((model, suite), ())
    measures = [
        (name, interval(each, null_of(each)))
        for metric, name in _MEASURES.items()
        for each in facts.select(metric, model, suite)
    ]
    judges = [judge for judge in facts.judges if model in facts.judge_models(judge)]
    measures += [
        (
            f"Rank correlation with `{each.judge}`{standing(facts, each.judge).sign} on the answers to `{each.suite}`",
            interval(each),
        )
        for each in facts.select("spearman")
        if each.model in (model, *judges) and each.judge
    ]
    level = facts.estimates[0].level if facts.estimates else 0.95
    margins = np.array([pair.chosen_score - pair.rejected_score for pair in pairs])
    return RewardModel(model, suite, tuple(measures), stats.reliability(margins, BINS, level), _worst(pairs))


def _worst(pairs: Sequence[PairScore]) -> tuple[WorstPair, ...]:
    wrong = [pair for pair in pairs if pair.chosen_score < pair.rejected_score]
    wrong.sort(key=lambda pair: (pair.chosen_score - pair.rejected_score, pair.prompt_id))
    return tuple(
        WorstPair(
            pair.prompt[-1].content if pair.prompt else "",
            pair.chosen,
            pair.rejected,
            number(pair.chosen_score - pair.rejected_score),
            None if pair.probability is None else percent(pair.probability),
        )
        for pair in wrong[:WORST]
    )
