"""alignment-harness: train, compare and report on alignment methods from one plan.

The public API, for plugins and programs; everything else is private. Names are imported on first use, so that a plugin that
only adds a command costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from .components import (
        Aligner,
        AlignerConfig,
        Artifact,
        Backend,
        Compute,
        Dataset,
        GenerateOptions,
        Generation,
        Loaded,
        LoraOptions,
        Options,
        Source,
        SourceConfig,
        StageContext,
        TrainingConfig,
    )
    from .errors import DataError, HarnessError, StageError, UsageError
    from .health import Finding, Readings, Rule
    from .judges import Judge, JudgeContext, Pair, Rating, Scorer, ScoringJudge, Verdict, Workload
    from .metrics import Evidence, Measure, Metric
    from .records import (
        Check,
        Conversation,
        Estimate,
        HealthVerdict,
        Judgement,
        Likelihood,
        Message,
        Observation,
        PairScore,
        Preference,
        Prompt,
        PromptRow,
        Sample,
        Score,
        SeedEstimate,
        SliceEstimate,
        SuiteRow,
        Usage,
        root_of,
    )
    from .trends import Trend, residual_deviation, spread, trend, turns

hookimpl = pluggy.HookimplMarker("harness")

_HOMES = {
    ".components": (
        "Aligner", "AlignerConfig", "Artifact", "Backend", "Compute", "Dataset", "GenerateOptions", "Generation", "Loaded",
        "LoraOptions", "Options", "Source", "SourceConfig", "StageContext", "TrainingConfig",
    ),
    ".errors": ("DataError", "HarnessError", "StageError", "UsageError"),
    ".health": ("Finding", "Readings", "Rule"),
    ".judges": ("Judge", "JudgeContext", "Pair", "Rating", "Scorer", "ScoringJudge", "Verdict", "Workload"),
    ".metrics": ("Evidence", "Measure", "Metric"),
    ".records": (
        "Check", "Conversation", "Estimate", "HealthVerdict", "Judgement", "Likelihood", "Message", "Observation", "PairScore",
        "Preference", "Prompt", "PromptRow", "Sample", "Score",
        "SeedEstimate", "SliceEstimate", "SuiteRow", "Usage", "root_of",
    ),
    ".trends": ("Trend", "residual_deviation", "spread", "trend", "turns"),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Aligner",
    "AlignerConfig",
    "Artifact",
    "Backend",
    "Check",
    "Compute",
    "Conversation",
    "DataError",
    "Dataset",
    "Estimate",
    "Evidence",
    "Finding",
    "GenerateOptions",
    "Generation",
    "HarnessError",
    "HealthVerdict",
    "Judge",
    "JudgeContext",
    "Judgement",
    "Likelihood",
    "Loaded",
    "LoraOptions",
    "Measure",
    "Message",
    "Metric",
    "Observation",
    "Options",
    "Pair",
    "PairScore",
    "Preference",
    "Prompt",
    "PromptRow",
    "Rating",
    "Readings",
    "Rule",
    "Sample",
    "Score",
    "Scorer",
    "ScoringJudge",
    "SeedEstimate",
    "SliceEstimate",
    "Source",
    "SourceConfig",
    "StageContext",
    "StageError",
    "SuiteRow",
    "TrainingConfig",
    "Trend",
    "Usage",
    "UsageError",
    "Verdict",
    "Workload",
    "hookimpl",
    "residual_deviation",
    "root_of",
    "spread",
    "trend",
    "turns",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name], __name__), name)
    globals()[name] = found  # so that Python asks here once for each name
    return found
