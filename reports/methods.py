"""What each stage cost, and the methods beside each other: what they win, what they need, how steadily they train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.trends import trend

from .evidence import primary
from .text import amount, interval, number, seconds, size
from .trends import find, reward_curve

if TYPE_CHECKING:
    from .facts import Facts

MODELS_IN_MEMORY = {
    "sft": (1, "policy"),
    "reward": (1, "reward model"),
    "dpo": (2, "policy, reference"),
    "ppo": (4, "policy, reference, reward model, value model"),
}


@dataclass(frozen=True)
class Cost:
    """What one stage took when it was computed."""

    stage: str
    aligner: str
    status: str
    seconds: str
    memory: str
    parameters: str
    tokens_per_second: str
    reason: str | None


@dataclass(frozen=True)
class Method:
    """One method as measured in this run."""

    stage: str
    aligner: str
    win_rate: str
    kl: str
    models: str
    models_named: str
    seconds: str
    seconds_with_upstream: str
    options: str
    stability: str


def costs(facts: Facts) -> tuple[Cost, ...]:
    """A row for every stage."""
    rows = []
    for stage in facts.stages:
        outcome = facts.outcomes.get(stage, {})
        counted = find(facts.series(stage), "num_tokens")
        taken, tokens = outcome.get("seconds"), outcome.get("tokens") or (counted[-1][1] if counted else None)
        rows.append(
            Cost(
                stage,
                facts.aligner(stage),
                str(outcome.get("status") or "not started"),
                seconds(taken),
                _memory(outcome),
                amount(outcome.get("parameters")),
                amount(tokens / taken) if tokens and taken else "–",
                outcome.get("reason"),
            )
        )
    return tuple(rows)


def _memory(outcome: Mapping[str, Any]) -> str:
    """The most memory that a stage held, of the machine and, where it trained on one, of the GPU."""
    held = size(outcome.get("peak_memory_bytes"))
    device = outcome.get("peak_device_memory_bytes")
    return held if device is None else f"{held}, GPU {size(device)}"


def methods(facts: Facts) -> tuple[Method, ...]:
    """A row for every stage that trained, in the plan's order."""
    rows = []
    for stage in facts.own_stages:
        if not facts.aligner(stage) or facts.outcomes.get(stage, {}).get("status") not in {"done", "reused"}:
            continue
        rate, divergence = primary(facts, stage), facts.level_of("kl", stage)
        models, named = MODELS_IN_MEMORY.get(facts.aligner(stage), ("–", "not known for this aligner"))
        rows.append(
            Method(
                stage,
                facts.aligner(stage),
                interval(rate, 0.5) if rate else "baseline" if stage == facts.baseline else "–",
                interval(divergence) if divergence else "–",
                str(models),
                named,
                seconds(facts.outcomes[stage].get("seconds")),
                seconds(_with_upstream(facts, stage)),
                str(len(facts.stages[stage].get("set") or ())),
                _stability(facts, stage),
            )
        )
    return tuple(rows)


def _with_upstream(facts: Facts, stage: str) -> float | None:
    taken = [facts.outcomes.get(name, {}).get("seconds") for name in (stage, *facts.upstream(stage))]
    known = [value for value in taken if value is not None]
    return sum(known) if len(known) == len(taken) else None


def _stability(facts: Facts, stage: str) -> str:
    series = facts.series(stage)
    parts = []
    if norms := find(series, "grad_norm", ".*/grad_norm"):
        values = [value for _, value in norms]
        parts.append(f"gradient norm at most {number(max(values))}, median {number(median(values))}")
    if (rewards := reward_curve(series)) and (found := trend(rewards)):
        way = "rose" if found.low > 0 else "fell" if found.high < 0 else "did not clearly change"
        parts.append(f"reward {way}")
    elif (losses := find(series, "loss", "train[/_]loss")) and (found := trend(losses)):
        way = "fell" if found.high < 0 else "rose" if found.low > 0 else "did not clearly change"
        parts.append(f"loss {way}")
    return "; ".join(parts) or "–"
