"""Answers to look at: the best, the worst and random ones against the baseline, and the ones that failed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .evidence import primary
from .text import number, percent

if TYPE_CHECKING:
    from harness.records import Sample

    from .facts import Facts

EACH = 2
OBSERVED = 0.5
FAILURES = {
    "empty": "Empty",
    "length": "Cut off at the length limit",
    "repeated": "Mostly repeats itself",
    "refused": "Refuses what should be answered",
}


@dataclass(frozen=True)
class Answer:
    """One model's answer, with its score where a judge gave one."""

    model: str
    text: str
    score: str | None
    tokens: int
    finish: str


@dataclass(frozen=True)
class Comparison:
    """A candidate's answer beside the baseline's, and why it is shown."""

    why: str
    prompt: str
    preference: str
    answers: tuple[Answer, Answer]


@dataclass(frozen=True)
class Comparisons:
    """The comparisons shown for one candidate."""

    candidate: str
    baseline: str
    judge: str
    suite: str
    shown: tuple[Comparison, ...]


@dataclass(frozen=True)
class Failure:
    """One kind of failure of one model on one suite: how many answers, of how many that could have failed so, and some
    as (prompt, answer)."""

    model: str
    suite: str
    kind: str
    count: int
    of: int
    examples: tuple[tuple[str, str], ...]


def comparisons(facts: Facts) -> tuple[Comparisons, ...]:
    """For every candidate, by the judge and on the suite that its verdict rests on, else by the first that there are."""
    found = []
    for candidate in facts.candidates:
        estimate = primary(facts, candidate)
        keys = [key for key in facts.judgements if key[1] == f"{candidate}--{facts.baseline}"]
        keys.sort(key=lambda key: (estimate is None or (key[0], key[2]) != (estimate.judge, estimate.suite), key))
        if keys:
            found.append(_comparisons(facts, candidate, keys[0]))
    return tuple(found)


def _comparisons(facts: Facts, candidate: str, key: tuple[str, str, str]) -> Comparisons:
    judge, _, suite = key
    baseline = str(facts.baseline)
    samples = [{each.prompt_id: each for each in facts.samples.get((model, suite), ())} for model in (candidate, baseline)]
    scores = [
        {each.prompt_id: each.score for each in facts.scores.get((judge, model, suite), ())}
        for model in (candidate, baseline)
    ]
    judged = {
        each.prompt_id: each.preference
        for each in facts.judgements[key]
        if each.preference is not None and all(each.prompt_id in model for model in samples)
    }

    def gain(prompt_id: str) -> tuple[float, float, str]:
        one, other = (model.get(prompt_id) for model in scores)
        gap = one - other if one is not None and other is not None else 0.0
        return judged[prompt_id], gap, shuffled(facts.seed, prompt_id)

    ranked = sorted(judged, key=gain, reverse=True)
    best = [each for each in ranked[:EACH] if judged[each] > 0.5]
    worst = [each for each in ranked[::-1][:EACH] if judged[each] < 0.5]
    rest = sorted(set(ranked) - set(best) - set(worst), key=lambda each: shuffled(facts.seed, each))
    shown = []
    for why, ids in (("Largest gain", best), ("Largest loss", worst), ("Random", rest[:EACH])):
        for prompt_id in ids:
            pair = [model[prompt_id] for model in samples]
            views = [_answer(sample, scored.get(prompt_id)) for sample, scored in zip(pair, scores, strict=True)]
            shown.append(Comparison(why, prompt_text(pair[0]), percent(judged[prompt_id]), (views[0], views[1])))
    return Comparisons(candidate, baseline, judge, suite, tuple(shown))


def failures(facts: Facts) -> tuple[Failure, ...]:
    """Kinds of failure with at least one case, by model and suite.

    Whether an answer repeats itself or refuses is what the metrics `repetition` and `over-refusal` observed, and they are of
    the answers that these did observe.
    """
    observed: dict[tuple[str, str, str], dict[str, bool]] = {}
    for each in facts.observations:
        if each.metric in {"repetition", "over-refusal"}:
            observed.setdefault((each.metric, each.model, each.suite), {})[each.prompt_id] = each.value >= OBSERVED
    found = []
    for (model, suite), samples in facts.samples.items():
        repeated = observed.get(("repetition", model, suite), {})
        refused = observed.get(("over-refusal", model, suite), {})
        kinds = {
            "empty": (len(samples), [sample for sample in samples if not sample.answer.strip()]),
            "length": (len(samples), [sample for sample in samples if sample.finish == "length"]),
            "repeated": (len(repeated), [sample for sample in samples if repeated.get(sample.prompt_id)]),
            "refused": (len(refused), [sample for sample in samples if refused.get(sample.prompt_id)]),
        }
        for kind, (of, cases) in kinds.items():
            if cases:
                found.append(Failure(model, suite, FAILURES[kind], len(cases), of, _examples(facts.seed, cases)))
    return tuple(found)


def shuffled(seed: int, prompt_id: str) -> str:
    """A key that puts prompts into an order which depends on the seed alone."""
    return hashlib.sha256(f"{seed}:{prompt_id}".encode()).hexdigest()


def prompt_text(sample: Sample) -> str:
    """The conversation up to the answer: the one turn that there is, or all turns with their roles."""
    if len(sample.prompt) == 1:
        return sample.prompt[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in sample.prompt)


def _examples(seed: int, cases: Sequence[Sample]) -> tuple[tuple[str, str], ...]:
    chosen = sorted(cases, key=lambda sample: shuffled(seed, sample.prompt_id))[:EACH]
    return tuple((prompt_text(sample), sample.answer) for sample in chosen)


def _answer(sample: Sample, score: float | None) -> Answer:
    return Answer(sample.model, sample.answer, None if score is None else number(score), sample.tokens, sample.finish)
