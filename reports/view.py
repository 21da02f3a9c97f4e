"""The view model: all that the templates show, as plain values. No template computes anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.records import Estimate

from . import pictures
from .advice import Advice, advice
from .answers import Comparisons, Failure, comparisons, failures
from .audit import Audit, audit
from .carriers import Carried, carried
from .criteria import Criterion, criteria
from .curves import StageCurves, training_curves
from .decision import Decision, decision
from .health import StageHealth, health, warnings_in_words
from .judges import costs_in_words
from .methods import Cost, Method, costs, methods
from .overoptimisation import Overoptimisation, overoptimisation
from .results import Detail, Table, details, tables
from .rewards import RewardModel, reward_models
from .seeds import Seeds, training_seeds
from .slices import Slices, slices
from .sweeps import Sweep, sweeps
from .text import count, interval, seconds, size
from .verdict import Verdict, verdict

if TYPE_CHECKING:
    from markupsafe import Markup

    from .facts import Facts
    from .sections import Section

STATUS = {
    "running": "Still running: this report shows what there is so far.",
    "failed": "This run failed. What follows is what was done before.",
    "interrupted": "This run was interrupted. Run the plan again to go on where it stopped.",
    "gated": "This run ended because a requirement of its plan was not met.",
}


@dataclass(frozen=True)
class Gate:
    """A requirement of the plan and what became of it."""

    text: str
    status: str
    evidence: str


@dataclass(frozen=True)
class Stopped:
    """A stage that did not come to its end, and why."""

    stage: str
    status: str
    reason: str


@dataclass(frozen=True)
class Trained:
    """A stage's curves with their charts."""

    curves: StageCurves
    charts: tuple[Markup, ...]


@dataclass(frozen=True)
class Calibrated:
    """A reward model with its calibration chart."""

    measured: RewardModel
    chart: Markup | None


@dataclass(frozen=True)
class Split:
    """How many rows of a data reference were used, and how many were dropped and why."""

    reference: str
    rows: str
    roots: str
    dropped: str


@dataclass(frozen=True)
class View:
    """The report."""

    title: str
    status: str
    status_text: str | None
    error: str | None
    facts: tuple[tuple[str, str], ...]
    stopped: tuple[Stopped, ...]
    metrics_lost: bool
    verdict: Verdict
    decision: Decision
    warnings: tuple[str, ...]
    gates: tuple[Gate, ...]
    tables: tuple[Table, ...]
    details: tuple[Detail, ...]
    win_rates: pictures.Picture | None
    kl: tuple[pictures.Picture, ...]
    seeds: Seeds | None
    sweeps: tuple[Sweep, ...]
    overoptimisation: tuple[Overoptimisation, ...]
    trained: tuple[Trained, ...]
    reward_models: tuple[Calibrated, ...]
    audit: Audit | None
    comparisons: tuple[Comparisons, ...]
    failures: tuple[Failure, ...]
    carried: tuple[Carried, ...]
    slices: Slices | None
    health: tuple[StageHealth, ...]
    health_warnings: str | None
    advice: tuple[Advice, ...]
    costs: tuple[Cost, ...]
    evaluation: tuple[tuple[str, str], ...]
    judge_costs: tuple[str, ...]
    methods: tuple[Method, ...]
    criteria: tuple[Criterion, ...]
    plan: str
    resolved: str
    versions: tuple[tuple[str, str], ...]
    data: tuple[Split, ...]
    extra: tuple[Section, ...]


def build_view(facts: Facts, extra: tuple[Section, ...] = ()) -> View:
    """The view of a run."""
    shown = training_curves(facts)
    drawn = pictures.stage_curves(shown)
    models = reward_models(facts)
    status = str(facts.run.get("status") or "unknown")
    return View(
        title=str((facts.plan.get("report") or {}).get("title") or facts.run.get("name") or "Run"),
        status=status,
        status_text=STATUS.get(status),
        error=facts.run.get("error"),
        facts=_facts(facts),
        stopped=_stopped(facts),
        metrics_lost=facts.metrics_lost,
        verdict=verdict(facts),
        decision=decision(facts),
        warnings=tuple(map(str, facts.run.get("warnings") or ())),
        gates=tuple(_gate(each) for each in facts.run.get("gates") or ()),
        tables=tables(facts),
        details=details(facts),
        win_rates=pictures.win_rates(facts),
        kl=pictures.kl_against_win_rate(facts),
        seeds=training_seeds(facts),
        sweeps=sweeps(facts),
        overoptimisation=overoptimisation(facts),
        trained=tuple(Trained(each, drawn[each.stage]) for each in shown),
        reward_models=tuple(Calibrated(*each) for each in zip(models, pictures.calibration(models), strict=True)),
        audit=audit(facts),
        comparisons=comparisons(facts),
        failures=failures(facts),
        carried=carried(facts),
        slices=slices(facts),
        health=health(facts),
        health_warnings=warnings_in_words(facts),
        advice=advice(facts),
        costs=costs(facts),
        evaluation=_evaluation(facts),
        judge_costs=costs_in_words(facts),
        methods=methods(facts),
        criteria=criteria(facts),
        plan=facts.plan_text,
        resolved=json.dumps(facts.plan, indent=2, ensure_ascii=False) if facts.plan else "",
        versions=tuple((str(name), str(version)) for name, version in sorted(_versions(facts).items())),
        data=tuple(_split(str(name), each) for name, each in (facts.lock.get("data") or {}).items()),
        extra=extra,
    )


def _facts(facts: Facts) -> tuple[tuple[str, str], ...]:
    """What, where and when, in a line under the title."""
    run, host = facts.run, facts.run.get("host") or {}
    cores, memory = host.get("cores"), host.get("memory_bytes")
    machine = ", ".join(
        str(part) for part in (host.get("cpu"), f"{cores} cores" if cores else None, memory and size(memory)) if part
    )
    found = {
        "Run": run.get("name"),
        "Started": str(run.get("started") or "").replace("T", " ").partition(".")[0],
        "Took": seconds(run["seconds"]) if run.get("seconds") is not None else None,
        "Base": _base(facts),
        "Seed": facts.plan.get("seed"),
        "Training seeds": ", ".join(map(str, facts.plan.get("seeds") or ())),
        "Device": " ".join(str(run[key]) for key in ("device", "precision") if run.get(key)),
        "Machine": machine,
        "Revision": str(run.get("git") or "")[:12],
    }
    return tuple((name, str(value)) for name, value in found.items() if value not in (None, ""))


def _base(facts: Facts) -> str | None:
    base = facts.plan.get("base")
    if isinstance(base, Mapping):
        return ", ".join(f"{key} {value}" for key, value in base.items())
    commit = facts.outcomes.get("base", {}).get("commit")
    return f"{base} at commit {commit}" if commit else base


def _stopped(facts: Facts) -> tuple[Stopped, ...]:
    return tuple(
        Stopped(name, str(each["status"]), str(each.get("reason") or "no reason was recorded"))
        for name, each in facts.outcomes.items()
        if each.get("status") in {"failed", "skipped"}
    )


def _gate(gate: Mapping[str, Any]) -> Gate:
    measured = gate.get("estimate")
    evidence = interval(Estimate.model_validate(measured)) if measured else "no such estimate, or several"
    return Gate(str(gate.get("text") or ""), str(gate.get("status") or "missing"), evidence)


def _evaluation(facts: Facts) -> tuple[tuple[str, str], ...]:
    """How long each kind of step of the evaluation took: sampling, scoring, judging, estimating."""
    kinds: dict[str, list[float]] = {}
    for name, step in (facts.run.get("evaluation") or {}).items():
        if step.get("seconds") is not None:
            kinds.setdefault(str(name).partition("/")[0], []).append(step["seconds"])
    return tuple((f"{kind}, {count(len(each), 'step')}", seconds(sum(each))) for kind, each in kinds.items())


def _versions(facts: Facts) -> dict[str, Any]:
    host = facts.run.get("host") or {}
    return {
        **{key: host[key] for key in ("python", "platform") if host.get(key)},
        **(facts.lock.get("versions") or {}),
        **(facts.run.get("versions") or {}),
    }


def _split(reference: str, each: Mapping[str, Any]) -> Split:
    rows, dropped = int(each.get("rows") or 0), each.get("dropped") or {}
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(dropped.items()))
    return Split(reference, f"{rows:,}", f"{int(each.get('roots') or 0):,}", reasons or "none")
