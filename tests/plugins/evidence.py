"""What a metric is asked about, and what it observed, for tests of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness import Evidence, Metric, SuiteRow


def evidence(rows: Sequence[SuiteRow], model: str = "dpo", **fields: Any) -> Evidence:
    return Evidence(model=model, suite="s", rows={each.id: each for each in rows}, **fields)


def observed(metric: Metric, given: Evidence) -> dict[str, dict[str, Any]]:
    """Measure to prompt to value and baseline value; every observation must belong to what was asked about."""
    result: dict[str, dict[str, Any]] = {}
    for each in metric.observe(given, metric.Config()):
        assert (each.model, each.suite, each.judge) == (given.model, given.suite, given.judge)
        assert each.prompt_id not in result.setdefault(each.metric, {})
        result[each.metric][each.prompt_id] = (each.value, each.baseline_value)
    assert set(result) <= {measure.name for measure in metric.measures}
    return result
