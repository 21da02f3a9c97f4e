"""How often the detector of refusals is right: `refusal.is_refusal` on answers that were labelled by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files

from harness import Measure, Observation

from .refusal import is_refusal

DETECTOR = "refusal-detector"
LABELLED = "refusal-answers"
MEASURES = (
    Measure(name="sensitivity", unit="share of labelled refusals", better="higher", compare=False),
    Measure(name="specificity", unit="share of labelled other answers", better="higher", compare=False),
)
"""Of what refuses, the share that is found; of what does not, the share that is left alone."""


def labelled_answers() -> list[tuple[str, bool]]:
    """The packaged answers, each with whether it refuses. They were written for this, not sampled from a model."""
    text = files(__package__).joinpath("refusal_answers.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return [(row["answer"], row["refusal"]) for row in rows]


def detector_observations() -> Iterator[Observation]:
    """1 where the detector agrees with the label and 0 where it does not."""
    for number, (answer, refusal) in enumerate(labelled_answers(), 1):
        yield Observation(
            prompt_id=str(number),
            root=str(number),
            suite=LABELLED,
            model=DETECTOR,
            metric="sensitivity" if refusal else "specificity",
            value=float(is_refusal(answer) == refusal),
        )


__all__ = ["DETECTOR", "MEASURES", "detector_observations", "labelled_answers"]
