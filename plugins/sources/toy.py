"""Preferences in a toy world, where the true score of every answer and the best possible accuracy are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Self

from pydantic import Field, model_validator

import harness

from ..toy.lexicon import (
    CIRCUMSTANCES,
    FILLERS,
    FRAMES,
    GROUNDS,
    HARMLESS,
    HOW_TO,
    OFFERS,
    POLITE_CLOSINGS,
    POLITE_OPENERS,
    REFUSALS,
    RUDE_CLOSINGS,
    RUDE_OPENERS,
    UNSAFE,
    Subject,
)
from ..toy.truth import truth


class Toy(harness.Source):
    """How-to questions, harmless questions and unsafe requests; each preference is drawn from Bradley-Terry.

    P(a is preferred to b) = sigmoid((truth(a) - truth(b)) / temperature), Bradley & Terry 1952. `probability` of a row is
    that of its `chosen` answer, so it is below one half where the draw went against the better answer.
    """

    name = "toy"
    gives = "preferences"

    class Config(harness.SourceConfig):
        """`unsafe` and `harmless` are shares of the prompts; how-to questions make up the rest."""

        pairs: int = Field(default=4000, ge=1)
        temperature: float = Field(default=0.8, gt=0)
        unsafe: float = Field(default=0.2, ge=0, le=1)
        harmless: float = Field(default=0.2, ge=0, le=1)
        seed: int = 0

        @model_validator(mode="after")
        def _shares(self) -> Self:
            if self.unsafe + self.harmless > 1:
                raise ValueError("unsafe and harmless are shares of the same prompts; together at most 1")
            return self

    def load(self, config: Config, folder: Path) -> harness.Loaded:
        """`config.pairs` preferences; equal options give equal rows, on every machine."""
        rng = Random(config.seed)
        return harness.Loaded([_preference(rng, config, number) for number in range(config.pairs)])


def ceiling(rows: Iterable[harness.Preference | harness.PairScore]) -> float:
    """The best possible accuracy on rows of known probability: the mean of max(p, 1 - p), in [0.5, 1]; NaN for none."""
    best = [max(row.probability, 1 - row.probability) for row in rows if row.probability is not None]
    return math.fsum(best) / len(best) if best else math.nan


def _preference(rng: Random, config: Toy.Config, number: int) -> harness.Preference:
    subject = _subject(rng, config)
    prompt = write_prompt(rng, subject)
    chosen = rejected = write_answer(rng, subject)
    while rejected == chosen:
        rejected = write_answer(rng, subject)
    probability = 1 / (1 + math.exp((truth(prompt, rejected) - truth(prompt, chosen)) / config.temperature))
    if rng.random() >= probability:
        chosen, rejected, probability = rejected, chosen, 1 - probability
    return harness.Preference(
        id=f"toy-{number:06d}",
        root=prompt,
        prompt=(harness.Message(role="user", content=prompt),),
        category=subject.name if subject.kind == "how-to" else subject.kind,
        expect="refuse" if subject.kind == "unsafe" else "answer",
        chosen=chosen,
        rejected=rejected,
        probability=probability,
    )


def _subject(rng: Random, config: Toy.Config) -> Subject:
    draw = rng.random()
    if draw < config.unsafe:
        return UNSAFE
    return rng.choice(HARMLESS if draw < config.unsafe + config.harmless else HOW_TO)


def write_prompt(rng: Random, subject: Subject) -> str:
    """A question about a subject."""
    circumstance = rng.choice(CIRCUMSTANCES)
    ask = rng.choice(subject.asks)
    return rng.choice(FRAMES[subject.kind]).format(f"{ask} {circumstance}" if circumstance else ask)


OPENERS, CLOSINGS = (POLITE_OPENERS, (), RUDE_OPENERS), (POLITE_CLOSINGS, (), RUDE_CLOSINGS)
MANNERS = tuple(itertools.accumulate((0.4, 0.25, 0.35)))
"""How often an answer is polite, or at most neither, and so on."""


def write_answer(rng: Random, subject: Subject) -> str:
    """An answer of mixed quality to a question about a subject, without regard to what was asked of it."""
    opener = rng.choices(OPENERS, cum_weights=MANNERS)[0]
    closing = rng.choices(CLOSINGS, cum_weights=MANNERS)[0]
    parts = [*_one(rng, opener), *_body(rng, subject), *_one(rng, closing)]
    return " ".join(parts)


def _body(rng: Random, subject: Subject) -> list[str]:
    ways = ("points", "astray", "filler", "refusal")
    way = rng.choices(ways, (0.35, 0.05, 0.15, 0.45) if subject.kind == "unsafe" else (0.55, 0.1, 0.2, 0.15))[0]
    if way == "refusal":
        return [rng.choice(REFUSALS), *_maybe(rng, GROUNDS), *_maybe(rng, OFFERS)]
    if way == "filler":
        return [rng.choice(FILLERS)]
    about = subject if way == "points" else _other(rng, subject)
    steps = sorted(rng.sample(range(len(about.points)), rng.randint(1, 3)))
    return [about.points[step] for step in steps]


def _other(rng: Random, subject: Subject) -> Subject:
    """Another subject of the same kind; a how-to subject for an unsafe one."""
    others = HARMLESS if subject.kind == "harmless" else HOW_TO
    return rng.choice([other for other in others if other is not subject])


def _one(rng: Random, phrases: tuple[str, ...]) -> list[str]:
    return [rng.choice(phrases)] if phrases else []


def _maybe(rng: Random, phrases: tuple[str, ...]) -> list[str]:
    return _one(rng, phrases) if rng.random() < 0.5 else []
