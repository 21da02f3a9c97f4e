"""Judgements from elsewhere → the same estimates as a run's, differences between models, and a ranking of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UsageError
from ..metrics import Measure
from ..records import Estimate, Observation
from .annotations import Judged, refuse_repeats
from .difficulty import Difficulties
from .estimates import adjusted

MEASURE = Measure(name="win-rate", unit="share of prompts", better="higher", compare=False, null=0.5)
DIFFERENCE = f"{MEASURE.name}-difference"
FITTED_ROWS = 15_000_000
"""How many rows the length-controlled fits see in all, over every pair and resample, before the resamples become fewer."""
FEWEST_RESAMPLES = 200
CORRECTED_ROWS = 5_000
"""Up to so many judgements BCa's jackknife, one more fit for each prompt, is affordable."""


@dataclass(frozen=True)
class Count:
    """What became of one judge's judgements of a pair; a tie is a preference of exactly 0.5."""

    judge: str
    suite: str
    model: str
    baseline: str
    judgements: int
    wins: int
    ties: int
    losses: int
    nulls: int


@dataclass(frozen=True)
class Analysis:
    """All that `harness analyze` says. `rankings` are by judge and suite; `notes` are sentences for the reader."""

    counts: tuple[Count, ...]
    estimates: tuple[Estimate, ...]
    rankings: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "estimates": [each.model_dump(mode="json") for each in self.estimates],
            "counts": [asdict(each) for each in self.counts],
            "rankings": list(self.rankings),
            "notes": list(self.notes),
        }


def analyse(
    rows: Sequence[Judged],
    difficulties: Difficulties | None = None,
    anchor: Any = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Analysis:
    """Win rates, raw and length-controlled, differences, Holm-adjusted p-values and rankings, for every judge and suite.

    Raises UsageError for a judgement that is repeated, or where none has a preference.
    """
    from .. import stats

    refuse_repeats(list(rows))
    pairs: dict[tuple[str, str, str, str], list[Judged]] = {}
    for row in rows:
        pairs.setdefault(row.pair, []).append(row)
    scored = {pair: found for pair, all_ in pairs.items() if (found := [row for row in all_ if row.preference is not None])}
    if not scored:
        raise UsageError(f"none of the {len(rows)} judgements has a preference; there is nothing to analyse")
    counts = tuple(_count(pair, found) for pair, found in pairs.items())
    notes = [f"{each.model} against {each.baseline}: no judgement has a preference" for each in counts if _empty(each)]
    options: dict[str, Any] = {"level": level, "seed": seed}
    made: list[Estimate | str] = []
    total = sum(map(len, scored.values()))
    for pair, found in scored.items():
        made.append(_attempt(lambda p=pair, f=found: _win_rate(p, f, resamples, options)))  # type: ignore[misc]
        made += _length_controlled(pair, found, difficulties, anchor, resamples, total, options)
    for (judge, suite, baseline), models in _by_baseline(scored).items():
        differences, skipped = stats.pairwise_differences(
            {
                model: {row.prompt_id: row.preference or 0.0 for row in scored[judge, suite, model, baseline]}
                for model in models
            },
            {row.prompt_id: row.root for model in models for row in scored[judge, suite, model, baseline]},
            metric=DIFFERENCE,
            judge=judge,
            suite=suite,
            unit=MEASURE.unit,
            resamples=resamples,
            **options,
        )
        made += [*differences, *skipped]
    made = adjusted(_of_one_kind(made), {MEASURE.name: (MEASURE, "judgements")})
    rankings = []
    for judge, suite in dict.fromkeys((pair[0], pair[1]) for pair in scored):
        rows_ = [row for pair, found in scored.items() if pair[:2] == (judge, suite) for row in found]
        if len({name for row in rows_ for name in (row.candidate, row.baseline)}) > 2:
            ranking, estimates = _ranking(judge, suite, rows_, resamples, options)
            made += estimates
            rankings += ranking
    return Analysis(
        counts=counts,
        estimates=tuple(each for each in made if isinstance(each, Estimate)),
        rankings=tuple(rankings),
        notes=tuple(dict.fromkeys([*notes, *(each for each in made if isinstance(each, str))])),
    )


def _count(pair: tuple[str, str, str, str], rows: Sequence[Judged]) -> Count:
    values = [row.preference for row in rows if row.preference is not None]
    return Count(
        judge=pair[0],
        suite=pair[1],
        model=pair[2],
        baseline=pair[3],
        judgements=len(rows),
        wins=sum(value > 0.5 for value in values),
        ties=sum(value == 0.5 for value in values),
        losses=sum(value < 0.5 for value in values),
        nulls=len(rows) - len(values),
    )


def _of_one_kind(made: Sequence[Estimate | str]) -> list[Estimate | str]:
    """The same without the differences of two models that met several baselines, each of which gives another."""
    by_pair: dict[tuple[str | None, str, frozenset[str | None]], list[Estimate]] = {}
    for each in made:
        if isinstance(each, Estimate) and each.metric == DIFFERENCE:
            by_pair.setdefault((each.judge, each.suite, frozenset((each.model, each.baseline))), []).append(each)
    several = [found for found in by_pair.values() if len(found) > 1]
    left_out = {id(each) for found in several for each in found}
    notes = [
        f"{found[0].model} less {found[0].baseline}: left out, for they met {len(found)} baselines, and their win rates differ "
        "otherwise by each; the ranking compares them"
        for found in several
    ]
    return [*(each for each in made if id(each) not in left_out), *notes]


def _empty(count: Count) -> bool:
    return count.nulls == count.judgements


def _attempt(make: Callable[[], Estimate]) -> Estimate | str:
    from .. import stats

    try:
        return make()
    except stats.TooFewPrompts as error:
        return str(error)


def _win_rate(pair: tuple[str, str, str, str], rows: Sequence[Judged], resamples: int, options: dict[str, Any]) -> Estimate:
    from .. import stats

    judge, suite, model, baseline = pair
    observations = [
        Observation(
            prompt_id=row.prompt_id,
            root=row.root,
            suite=suite,
            model=model,
            metric=MEASURE.name,
            judge=judge,
            value=row.preference or 0.0,
        )
        for row in rows
    ]
    return stats.estimate(observations, MEASURE, baseline=baseline, resamples=resamples, **options)


def _length_controlled(
    pair: tuple[str, str, str, str],
    rows: Sequence[Judged],
    difficulties: Difficulties | None,
    anchor: Any,
    resamples: int,
    total: int,
    options: dict[str, Any],
) -> list[Estimate | str]:
    import numpy as np

    from .. import stats

    judge, suite, model, baseline = pair
    unknown = sum(row.difference is None for row in rows)
    if unknown == len(rows):
        return [f"{model} against {baseline}: no length-controlled win rate, because lengths are missing"]
    made: list[Estimate | str] = []
    if unknown:
        rows = [row for row in rows if row.difference is not None]
        made.append(
            f"{model} against {baseline}: left out of the length-controlled win rate for want of lengths: {unknown}"
        )
    columns = [[row.preference or 0.0 for row in rows], [float(row.difference or 0) for row in rows]]
    if difficulties is not None:
        columns.append([difficulties.of(row) for row in rows])
    for metric, statistic in (
        ("length-controlled-win-rate", stats.length_controlled_win_rate),
        ("length-control-gap", stats.length_control_gap),
    ):
        fit: Callable[..., Any] = statistic if anchor is None else stats.anchored(statistic, anchor)
        made.append(
            _attempt(
                lambda m=metric, f=fit: stats.estimate_columns(  # type: ignore[misc]
                    columns,
                    [row.root for row in rows],
                    f,
                    model=model,
                    metric=m,
                    judge=judge,
                    suite=suite,
                    baseline=baseline,
                    unit=MEASURE.unit,
                    resamples=min(resamples, max(FEWEST_RESAMPLES, FITTED_ROWS // total)),
                    corrected=total <= CORRECTED_ROWS,
                    **options,
                )
            )
        )
    lengths = np.array(columns[1])
    if not stats.lengths_overlap(lengths):
        side = "longer" if lengths.mean() > 0 else "shorter"
        share = float((lengths > 0).mean() if side == "longer" else (lengths < 0).mean())
        made.append(
            f"{model} against {baseline}: {100 * share:.0f} % of the answers are {side}, so equal lengths lie outside the data "
            "and the length-controlled win rate is an extrapolation"
        )
    return made


def _by_baseline(scored: dict[tuple[str, str, str, str], list[Judged]]) -> dict[tuple[str, str, str], list[str]]:
    models: dict[tuple[str, str, str], list[str]] = {}
    for judge, suite, model, baseline in scored:
        models.setdefault((judge, suite, baseline), []).append(model)
    return models


def _ranking(
    judge: str, suite: str, rows: Sequence[Judged], resamples: int, options: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[Estimate | str]]:
    from .. import stats

    try:
        ranking = stats.rank_models(
            [row.candidate for row in rows],
            [row.baseline for row in rows],
            [row.preference or 0.0 for row in rows],
            [row.root for row in rows],
            resamples=resamples,
            **options,
        )
    except (stats.NotConnected, stats.TooFewPrompts) as error:
        return [], [f"no ranking by {judge} on {suite}: {error}"]
    made: list[Estimate | str] = [*stats.strength_estimates(ranking, judge, suite, options["seed"])]
    made += [
        f"{each.model} {'lost to nobody' if each.unbounded == 'above' else 'beat nobody'} outside its group, so its strength has "
        "no finite value; the one that is shown counts half a win more each way for every pair that met"
        for each in ranking.standings
        if each.unbounded
    ]
    return [{"judge": judge, "suite": suite, **asdict(ranking)}], made
