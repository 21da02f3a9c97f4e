"""Observations → estimates: which numbers a plan's measures become. The intervals are made by `harness.stats`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..metrics import Measure, Metric
from ..plan.model import Bootstrap
from ..records import Estimate, Observation, Score

Key = tuple[str, str, str | None, str, str | None]


def grouped(observations: Iterable[Observation]) -> dict[Key, list[Observation]]:
    """Observations by model, metric, judge, suite and the model that was compared with, in the order of their first."""
    groups: dict[Key, list[Observation]] = {}
    for each in observations:
        groups.setdefault((each.model, each.metric, each.judge, each.suite, each.baseline), []).append(each)
    return groups


def make_estimates(
    observations: Sequence[Observation],
    measures: Mapping[str, tuple[Measure, str]],
    baseline: str,
    bootstrap: Bootstrap,
    seed: int,
) -> Iterator[Estimate | str]:
    """Every estimate of the plan's measures, by name with their scope; a sentence for one that has too few prompts.

    A measure of samples or scores is given by itself and, if `compare`, as the paired difference from the baseline. One of
    judgements is a comparison already; candidates' preferences against the baseline are also compared with each other,
    prompt by prompt.
    """
    from .. import stats

    options = {"level": bootstrap.level, "resamples": bootstrap.resamples, "seed": seed}
    groups = grouped(observations)
    for (model, metric, _, _, compared), group in groups.items():
        measure, scope = measures[metric]
        against: list[str | None] = [None]
        if scope == "judgements":
            against = [compared]
        elif scope == "pairs":
            against = [measure.against]
        elif measure.compare and model != baseline and any(each.baseline_value is not None for each in group):
            against = [None, baseline]
        for other in against:
            try:
                yield stats.estimate(group, measure, baseline=other, **options)  # type: ignore[arg-type]
            except stats.TooFewPrompts as error:
                yield str(error)
    rivals = [key for key in groups if key[-1] == baseline]
    for first, second in itertools.combinations(rivals, 2):
        if first[1:] == second[1:]:
            try:
                yield stats.paired_difference(groups[second], groups[first], measures[first[1]][0], **options)  # type: ignore[arg-type]
            except stats.TooFewPrompts as error:
                yield str(error)


def validated(metrics: Iterable[Metric], bootstrap: Bootstrap, seed: int) -> list[Estimate]:
    """How often the instruments of these metrics are right on cases whose truth is known, each instrument once."""
    from .. import stats

    found: dict[Key, Estimate] = {}
    for metric in metrics:
        measures = {measure.name: measure for measure in metric.validation}
        for key, group in grouped(metric.validate()).items():
            if key not in found:
                found[key] = stats.estimate(
                    group, measures[key[1]], level=bootstrap.level, resamples=bootstrap.resamples, seed=seed
                )
    return list(found.values())


def adjusted(made: Iterable[Estimate | str], measures: Mapping[str, tuple[Measure, str]]) -> list[Estimate | str]:
    """The same, with Holm-adjusted p-values of the plan's comparisons.

    A family is every comparison of models by one judge on one suite in one measure: each candidate's preferences against
    the baseline and the candidates' differences. These answer one question together, which model is better, and a judge
    or a suite more is a question of its own.
    """
    from .. import stats

    found, families = list(made), dict[tuple[str | None, str, str], list[int]]()
    compared = {
        name: metric
        for metric, (_, scope) in measures.items()
        if scope == "judgements"
        for name in (metric, f"{metric}-difference")
    }
    for place, each in enumerate(found):
        if isinstance(each, Estimate) and each.p_value is not None and each.metric in compared:
            families.setdefault((each.judge, each.suite, compared[each.metric]), []).append(place)
    for places in families.values():
        members = [each for place in places if isinstance(each := found[place], Estimate)]
        p_values = stats.holm([each.p_value for each in members if each.p_value is not None])
        for place, each, p_value in zip(places, members, p_values, strict=True):
            found[place] = each.model_copy(update={"p_adjusted": p_value})
    return found


def agreement(
    scorer: str, judge: str, suite: str, scores: Sequence[tuple[Score, Score, str]], bootstrap: Bootstrap, seed: int
) -> Iterator[Estimate | str]:
    """Spearman's rank correlation between two scorers of the same answers; each triple is a score of both and the root."""
    from .. import stats

    known = [(a.score, b.score, root) for a, b, root in scores if a.score is not None and b.score is not None]
    if not known:
        return
    try:
        yield stats.estimate_columns(
            [[a for a, _, _ in known], [b for _, b, _ in known]],
            [root for _, _, root in known],
            stats.spearman,
            model=scorer,
            metric="spearman",
            judge=judge,
            suite=suite,
            unit="rank correlation",
            level=bootstrap.level,
            resamples=bootstrap.resamples,
            seed=seed,
        )
    except stats.TooFewPrompts as error:
        yield str(error)
