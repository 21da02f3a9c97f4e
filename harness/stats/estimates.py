"""The one place where estimates are made: which statistic, which interval, which test."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ..records import Estimate, Observation
from .bootstrap import bca, percentile
from .clusters import Clusters, Floats, TooFewPrompts
from .intervals import Interval
from .means import ANY, DIFFERENCE_OF_SHARES, FEW_CLUSTERS, student_t
from .rates import rate_difference_interval, rate_interval
from .seeds import CrossedInterval, crossed_interval
from .significance import sign_test_of_mean

if TYPE_CHECKING:
    from ..metrics import Measure

RATE_UNITS = ("share", "rate", "probability", "proportion", "fraction")
"""How the unit of a rate begins. Only this tells thirty answers of one token from thirty refusals."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made: their level, how often to resample, the seed of it, and whether BCa or percentiles."""

    level: float
    resamples: int
    seed: int
    corrected: bool = True


def estimate(
    observations: Sequence[Observation],
    measure: Measure,
    *,
    baseline: str | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """The estimate of one measure from its observations of one model, judge and suite; prompts are clustered by root.

    With a `baseline`, and observations that hold its values, it is the paired difference from the baseline over the
    prompts that have both; a fitted statistic is fitted to each side. Observations of several training seeds make one
    estimate over seeds and prompts, `crossed_interval`. Otherwise it is of the values themselves and
    `baseline` is only recorded (a win rate compares already).

    Interval: Wilson's for rates (values that are all 0 or 1, or in [0, 1] in the unit of a rate), Agresti & Min's for
    paired differences of 0/1 rates; else the BCa bootstrap, or Student's for fewer than ten clusters.
    The exact sign test is of differences against 0, else of values against `measure.null` where there is one; a fitted
    statistic has none.

    Raises TooFewPrompts where no interval exists (one prompt, unless it is a rate), and ValueError for no
    observations or for observations that differ in model, metric, judge or suite or are not of this measure.
    """
    first = _common(observations)
    if first.metric != measure.name:
        raise ValueError(f"observations of {first.metric} for the measure {measure.name}")
    paired = [o for o in observations if o.baseline_value is not None] if baseline is not None else []
    used = paired or observations
    values = np.array([o.value for o in used], dtype=np.float64)
    columns, null, bounds = values[None], measure.null, ANY
    statistic: Callable[..., Any] | None = measure.statistic
    rate: Literal["rate", "difference"] | None = "rate" if _is_rate(values, measure.unit) else None
    if statistic is not None:
        columns = _columns(values, [o.covariates for o in used])
    if paired:
        others = np.array([o.baseline_value for o in paired], dtype=np.float64)
        if statistic is None:
            columns, null = (values - others)[None], 0.0
        else:
            columns = np.concatenate([columns, _columns(others, [o.baseline_covariates for o in paired])])
            statistic = _difference(statistic)
        both = np.concatenate([values, others])
        shares = _is_rate(both, measure.unit)
        rate = "difference" if shares and np.isin(both, (0, 1)).all() else None
        bounds = DIFFERENCE_OF_SHARES if shares else ANY
    return _estimate(
        columns,
        [o.root for o in used],
        statistic,
        rate=rate if statistic is None else None,
        null=null if statistic is None else None,
        bounds=bounds,
        bootstrap=Bootstrap(level, resamples, seed),
        seeds=[o.training_seed for o in used],
        names={
            "model": first.model,
            "metric": first.metric,
            "judge": first.judge,
            "suite": first.suite,
            "baseline": baseline,
            "unit": measure.unit,
        },
    )


def paired_difference(
    first: Sequence[Observation],
    second: Sequence[Observation],
    measure: Measure,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """How much `first`'s model exceeds `second`'s in one measure, over the prompts that both have.

    The metric is named `<metric>-difference` and the second model is its baseline: two candidates' win rates against
    one common baseline, for example. Raises TooFewPrompts without common prompts, and ValueError for observations that
    differ in metric, judge or suite or that hold a prompt twice.
    """
    one, other = _common(first), _common(second)
    if (one.metric, one.judge, one.suite) != (other.metric, other.judge, other.suite):
        raise ValueError("a paired difference needs observations of one metric, judge and suite")
    others = {(o.prompt_id, o.training_seed): o for o in second}
    if len(others) < len(second) or len({(o.prompt_id, o.training_seed) for o in first}) < len(first):
        raise ValueError("a prompt is observed twice")
    # A model that was trained once stands against every seed's.
    once = {o.training_seed for o in second} == {None}
    name = f"{measure.name}-difference"
    pairs = [
        mine.model_copy(
            update={"metric": name, "baseline_value": its.value, "baseline_covariates": its.covariates},
        )
        for mine in first
        if (its := others.get((mine.prompt_id, None if once else mine.training_seed))) is not None
    ]
    if not pairs:
        raise TooFewPrompts(
            f"{one.model} and {other.model} share no prompt of {one.suite} that both have {measure.name} for"
        )
    return estimate(pairs, replace(measure, name=name), baseline=other.model, level=level, resamples=resamples, seed=seed)


def estimate_columns(
    columns: npt.ArrayLike,
    roots: Sequence[Hashable],
    statistic: Callable[..., Any],
    *,
    model: str,
    metric: str,
    suite: str,
    unit: str,
    judge: str | None = None,
    baseline: str | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    corrected: bool = True,
) -> Estimate:
    """The estimate of a statistic that needs several numbers of each prompt, such as a correlation.

    `columns` (k, n) holds k numbers for each of n observations, `roots` (n,) their clusters. `statistic` gets the k
    columns, each of shape (..., n'), and returns shape (...); it is refitted for every resample of whole clusters. Not
    `corrected`, the interval is the percentiles, which saves the refits of BCa's jackknife.
    Raises TooFewPrompts where no interval exists, and ValueError for shapes that do not fit.
    """
    table = np.atleast_2d(np.asarray(columns, dtype=np.float64))
    if table.ndim != 2 or table.shape[1] != len(roots):
        raise ValueError(f"columns of shape {table.shape} for {len(roots)} roots")
    names = {"model": model, "metric": metric, "judge": judge, "suite": suite, "baseline": baseline, "unit": unit}
    return _estimate(
        table,
        roots,
        statistic,
        rate=None,
        null=None,
        bootstrap=Bootstrap(level, resamples, seed, corrected),
        names=names,
    )


def _estimate(
    columns: Floats,
    roots: Sequence[Hashable],
    statistic: Callable[..., Any] | None,
    *,
    rate: Literal["rate", "difference"] | None,
    null: float | None,
    bootstrap: Bootstrap,
    names: dict[str, Any],
    bounds: tuple[float, float] = ANY,
    seeds: Sequence[int | None] = (),
) -> Estimate:
    clusters = Clusters.of(roots)
    try:
        if len(set(seeds)) > 1:
            interval: Interval = _over_seeds(columns, roots, seeds, statistic, rate, null, bootstrap, names["metric"])
        else:
            interval = _interval(columns, clusters, statistic, rate, bounds, bootstrap)
    except TooFewPrompts as error:
        raise TooFewPrompts(f"{names['metric']} of {names['model']} on {names['suite']}: {error}") from None
    over: dict[str, Any] = {}
    if isinstance(interval, CrossedInterval):
        over = {"seeds": len(set(seeds)), "seed_error": interval.seed_error, "prompt_error": interval.prompt_error}
        p_value = interval.p_value
    else:
        p_value = None if null is None else sign_test_of_mean(columns[0], clusters, null)
    return Estimate(
        **names,
        value=interval.value,
        standard_error=interval.standard_error,
        low=interval.low,
        high=interval.high,
        level=bootstrap.level,
        n=clusters.n,
        clusters=clusters.count,
        method=interval.method,
        resamples=interval.resamples,
        seed=bootstrap.seed,
        p_value=p_value,
        **over,
    )


def _over_seeds(
    columns: Floats,
    roots: Sequence[Hashable],
    seeds: Sequence[int | None],
    statistic: Callable[..., Any] | None,
    rate: Literal["rate", "difference"] | None,
    null: float | None,
    bootstrap: Bootstrap,
    metric: str,
) -> CrossedInterval:
    """The interval over training seeds and prompts, from the seed of each observation."""
    # A fitted win rate is a rate, too: Wilson's limits keep it below 1.
    if statistic is not None and metric.endswith("win-rate"):
        rate = "rate"
    places: dict[int | None, list[int]] = {}
    for place, seed in enumerate(seeds):
        places.setdefault(seed, []).append(place)
    return crossed_interval(
        [columns[:, each] for each in places.values()],
        [[roots[place] for place in each] for each in places.values()],
        statistic,
        rate=rate,
        null=null,
        level=bootstrap.level,
    )


def _interval(
    columns: Floats,
    clusters: Clusters,
    statistic: Callable[..., Any] | None,
    rate: Literal["rate", "difference"] | None,
    bounds: tuple[float, float],
    bootstrap: Bootstrap,
) -> Interval:
    """The table of `harness.stats`."""
    if rate is not None:
        return (rate_interval if rate == "rate" else rate_difference_interval)(columns[0], clusters, bootstrap.level)
    if statistic is None and clusters.count < FEW_CLUSTERS:
        return student_t(columns[0], clusters, bootstrap.level, bounds)
    make = bca if bootstrap.corrected else percentile
    return make(columns, clusters, statistic, level=bootstrap.level, resamples=bootstrap.resamples, seed=bootstrap.seed)


def _common(observations: Sequence[Observation]) -> Observation:
    """The first observation, which shares model, metric, judge and suite with all others."""
    if not observations:
        raise ValueError("no observations")
    if len({(o.model, o.metric, o.judge, o.suite) for o in observations}) > 1:
        raise ValueError("observations differ in model, metric, judge or suite")
    return observations[0]


def _is_rate(values: Floats, unit: str) -> bool:
    """Whether `values` are shares of something: all 0 or 1 and both of them, or in [0, 1] in the unit of a rate."""
    both = bool(np.isin(values, (0, 1)).all()) and bool(np.ptp(values))
    return both or (unit.startswith(RATE_UNITS) and bool(values.min() >= 0) and bool(values.max() <= 1))


def _columns(values: Floats, covariates: Sequence[Sequence[float]]) -> Floats:
    """The values (n,) and the covariates of each as columns (1 + k, n)."""
    if len({len(each) for each in covariates}) > 1:
        raise ValueError("observations differ in how many covariates they have")
    return np.vstack([values, np.array(covariates, dtype=np.float64).T]) if covariates[0] else values[None]


def _difference(statistic: Callable[..., Any]) -> Callable[..., Any]:
    """The statistic of the first half of the columns less that of the second half."""
    return lambda *columns: statistic(*columns[: len(columns) // 2]) - statistic(*columns[len(columns) // 2 :])
