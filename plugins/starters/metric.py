"""my-plugin: a metric of your own. It starts as the share of answers that ask something back; put yours in its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import harness


def asks_back(answer: str) -> float:
    """1 where the answer holds a question, else 0."""
    return float("?" in answer)


class MyPlugin(harness.Metric):
    """Whether an answer asks something back."""

    name = "my-plugin"
    measures = (harness.Measure(name="my-plugin", unit="share of answers"),)

    def observe(self, evidence: harness.Evidence, config: Any) -> Iterator[harness.Observation]:
        """One observation per answer, beside the baseline's to the same prompt."""
        baseline = {sample.prompt_id: asks_back(sample.answer) for sample in evidence.baseline_samples}
        for sample in evidence.samples:
            yield harness.Observation(
                prompt_id=sample.prompt_id,
                root=evidence.root(sample.prompt_id),
                suite=evidence.suite,
                model=evidence.model,
                metric="my-plugin",
                value=asks_back(sample.answer),
                baseline_value=baseline.get(sample.prompt_id),
            )


@harness.hookimpl
def harness_metrics() -> list[type[harness.Metric]]:
    return [MyPlugin]
