"""Parts of a suite: the same estimates for prompts of one category, length, number of turns, or kind of check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ..metrics import Measure
from ..plan.model import Bootstrap
from ..records import Estimate, Observation, SliceEstimate, SuiteRow
from .estimates import make_estimates

FEWEST, FEWEST_OTHER = 5, 10
"""Groups of prompts that a slice must have to get an estimate: one that is or compares rates, and any other."""

RESAMPLES = 2000
"""There are many slices, and none of them decides a verdict."""


def slices(rows: Sequence[SuiteRow], dimension: str) -> dict[str, set[str]]:
    """The slices of a suite by name, each with its prompts' ids; none where there would be one only.

    `category` is the row's; `length` parts the suite into thirds by the characters of the prompt, all turns together; `turns`
    counts the user's, from three on together; `checks` are the kinds of check, of which a row may have several.
    """
    label = _labels(rows)[dimension]
    found: dict[str, set[str]] = {}
    for row in rows:
        for name in label(row):
            found.setdefault(name, set()).add(row.id)
    names = sorted(found) if dimension in {"category", "checks"} else sorted(found, key=_by_number)
    return {name: found[name] for name in names} if len(found) > 1 else {}


def slice_estimates(
    observations: Sequence[Observation],
    rows: Mapping[str, Sequence[SuiteRow]],
    dimensions: Sequence[str],
    measures: Mapping[str, tuple[Measure, str]],
    baseline: str,
    bootstrap: Bootstrap,
    seed: int,
) -> list[SliceEstimate]:
    """The estimates of every measure of prompts, on every slice of each suite's `rows` by `dimensions`.

    p-values are adjusted by Benjamini and Hochberg's method over all slices of one metric, whatever model, judge, suite and
    dimension: these are what a reader looks through together.
    """
    fewer = bootstrap.model_copy(update={"resamples": min(bootstrap.resamples, RESAMPLES)})
    by_suite: dict[str, list[Observation]] = {}
    for each in observations:
        if measures[each.metric][1] != "pairs":
            by_suite.setdefault(each.suite, []).append(each)
    found = []
    for suite, of_suite in by_suite.items():
        for dimension in dimensions:
            for name, ids in slices(rows[suite], dimension).items():
                inside = [each for each in of_suite if each.prompt_id in ids]
                found += [
                    SliceEstimate(**estimate.model_dump(), dimension=dimension, slice=name)
                    for estimate in make_estimates(inside, measures, baseline, fewer, seed)
                    if isinstance(estimate, Estimate) and _enough(estimate)
                ]
    return list(_adjusted(found))


def _enough(estimate: Estimate) -> bool:
    return estimate.clusters >= (
        FEWEST if estimate.method.startswith(("wilson", "agresti-min", "crossed-wilson")) else FEWEST_OTHER
    )


def _adjusted(estimates: Sequence[SliceEstimate]) -> Iterator[SliceEstimate]:
    from .. import stats

    families: dict[str, list[float]] = {}
    for each in estimates:
        if each.p_value is not None:
            families.setdefault(each.metric, []).append(each.p_value)
    adjusted = {metric: iter(stats.benjamini_hochberg(values)) for metric, values in families.items()}
    for each in estimates:
        yield each if each.p_value is None else each.model_copy(update={"p_adjusted": next(adjusted[each.metric])})


def _labels(rows: Sequence[SuiteRow]) -> dict[str, Callable[[SuiteRow], Sequence[str]]]:
    """How each dimension names the slices that a row belongs to."""
    lengths = sorted(map(_length, rows))
    first, second = (lengths[len(lengths) * part // 3] if lengths else 0 for part in (1, 2))

    def length(row: SuiteRow) -> list[str]:
        if _length(row) < first:
            return [f"under {first} characters"]
        return [f"{first} to {second - 1} characters" if _length(row) < second else f"{second} characters or more"]

    def turns(row: SuiteRow) -> list[str]:
        count = sum(message.role == "user" for message in row.messages())
        return ["3 turns or more" if count > 2 else "1 turn" if count == 1 else f"{count} turns"]

    return {
        "category": lambda row: [row.category] if row.category else [],
        "length": length,
        "turns": turns,
        "checks": lambda row: sorted({check.kind for check in row.checks}),
    }


def _length(row: SuiteRow) -> int:
    return sum(len(message.content) for message in row.messages())


def _by_number(name: str) -> tuple[int, int]:
    """Shortest first: "under 40" before "40 to 60" before "60 or more"."""
    numbers = [int(word) for word in name.split() if word.isdigit()]
    return numbers[0], -1 if name.startswith("under") else 1
