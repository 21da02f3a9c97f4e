"""Everything that the report looks at, read from the run folder once, and the look-ups that several sections share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from harness.trajectory import split

if TYPE_CHECKING:
    from harness.records import (
        Estimate,
        HealthVerdict,
        Judgement,
        Observation,
        PairScore,
        Sample,
        Score,
        SeedEstimate,
        SliceEstimate,
    )
    from harness.rundir import RunFolder, Scalar

ANY: Final = "\0any"


@dataclass(frozen=True)
class Facts:
    """The contents of a run folder. A run that stopped early has empty fields, never missing ones.

    Policies kept along a training appear in `along` only, by their estimates. Of several training seeds, the estimates are
    over all of them; answers, scores and judgements are those of the first. `paid` has by judge all that it was paid for, harm
    and every seed's and policy's among it. `metrics_lost` says that the run made estimates,
    and that its folder has them no more.
    """

    run: Mapping[str, Any]
    lock: Mapping[str, Any]
    plan_text: str = ""
    metrics_lost: bool = False
    estimates: Sequence[Estimate] = ()
    along: Sequence[Estimate] = ()
    seeds: Sequence[SeedEstimate] = ()
    slices: Sequence[SliceEstimate] = ()
    instruments: Sequence[Estimate] = ()
    scalars: Sequence[Scalar] = ()
    observations: Sequence[Observation] = ()
    samples: Mapping[tuple[str, str], Sequence[Sample]] = field(default_factory=dict)
    scores: Mapping[tuple[str, str, str], Sequence[Score]] = field(default_factory=dict)
    judgements: Mapping[tuple[str, str, str], Sequence[Judgement]] = field(default_factory=dict)
    canaries: Mapping[str, Sequence[Judgement]] = field(default_factory=dict)
    paid: Mapping[str, Sequence[Judgement | Score]] = field(default_factory=dict)
    pairs: Mapping[tuple[str, str], Sequence[PairScore]] = field(default_factory=dict)
    health: Sequence[HealthVerdict] = ()
    health_checked: Mapping[str, tuple[Sequence[str], Sequence[str]]] = field(default_factory=dict)

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """The resolved plan."""
        return self.lock.get("plan") or {}

    @cached_property
    def evaluate(self) -> Mapping[str, Any]:
        """The plan's `evaluate` part."""
        return self.plan.get("evaluate") or {}

    @cached_property
    def stages(self) -> Mapping[str, Mapping[str, Any]]:
        """Stages as resolved: aligner, gives, slots, options, and the options that were set, in the plan's order."""
        locked = self.lock.get("stages") or {}
        return {**locked, **{name: {} for name in self.run.get("stages") or {} if name not in locked}}

    @cached_property
    def own_stages(self) -> tuple[str, ...]:
        """The stages of the plan, without their copies for further training seeds."""
        return tuple(name for name, each in self.stages.items() if not each.get("copy_of"))

    @cached_property
    def outcomes(self) -> Mapping[str, Mapping[str, Any]]:
        """What became of each stage: status, seconds, peak memory, reason."""
        return self.run.get("stages") or {}

    @property
    def seed(self) -> int:
        """The plan's seed."""
        return int(self.plan.get("seed") or 0)

    @property
    def baseline(self) -> str | None:
        """The model that the candidates are compared with."""
        return self.evaluate.get("baseline") or next(
            (each.baseline for each in self.estimates if each.metric == "win-rate"), None
        )

    @cached_property
    def candidates(self) -> tuple[str, ...]:
        """The models that are compared with the baseline."""
        measured = (each.model for each in self.estimates if each.metric == "win-rate")
        return tuple(dict.fromkeys(self.evaluate.get("candidates") or measured))

    @cached_property
    def suites(self) -> tuple[str, ...]:
        """Suites in the plan's order, then those that only estimates name."""
        return tuple(dict.fromkeys([*(self.evaluate.get("suites") or {}), *(each.suite for each in self.estimates)]))

    @cached_property
    def judges(self) -> tuple[str, ...]:
        """Judges in the plan's order, then those that only estimates name."""
        named = (each.judge for each in (*self.estimates, *self.slices) if each.judge)
        return tuple(dict.fromkeys([*(self.evaluate.get("judges") or {}), *named]))

    @cached_property
    def reward_models(self) -> tuple[str, ...]:
        """Stages that give a reward model."""
        given = [name for name in self.own_stages if self.stages[name].get("gives") == "reward-model"]
        return tuple(dict.fromkeys([*given, *(model for model, _ in self.pairs)]))

    def instrument(self, metric: str) -> tuple[Estimate, ...]:
        """How often what reads the answers for a metric was right on labelled cases; nothing where nothing reads them."""
        name = ((self.lock.get("metrics") or {}).get(metric) or {}).get("instrument")
        return tuple(each for each in self.instruments if each.model == name)

    def aligner(self, stage: str) -> str:
        """The aligner of a stage."""
        return str(self.stages.get(stage, {}).get("aligner") or self.outcomes.get(stage, {}).get("aligner") or "")

    def upstream(self, stage: str) -> tuple[str, ...]:
        """All stages that a stage builds on, the nearest first; the best of n builds on who answers and who chooses."""
        found: dict[str, None] = {}
        waiting = [stage]
        while waiting:
            name = waiting.pop(0)
            best = (self.lock.get("best_of_n") or {}).get(name) or {}
            for value in [*(self.stages.get(name, {}).get("slots") or {}).values(), *best.values()]:
                if value in self.stages and value not in found:
                    found[value] = None
                    waiting.append(value)
        return tuple(found)

    def judge_models(self, judge: str) -> tuple[str, ...]:
        """The stages whose models a judge uses."""
        resolved = (self.lock.get("judges") or {}).get(judge) or {}
        return tuple(dict.fromkeys((resolved.get("models") or {}).values()))

    def rewarded(self, stage: str, judge: str) -> bool:
        """Whether a stage, or one that it builds on, learned from a judge without models that is this one, too."""
        resolved = (self.lock.get("judges") or {}).get(judge) or {}
        given = [
            each
            for name in (stage, *self.upstream(stage))
            for each in (self.stages.get(name, {}).get("judges") or {}).values()
        ]
        return any(_identity(each) == _identity(resolved) for each in given if not each.get("models"))

    def select(
        self,
        metric: str,
        model: str | None = None,
        suite: str | None = None,
        judge: str | None = ANY,
        baseline: str | None = ANY,
    ) -> list[Estimate]:
        """Estimates of a metric, in the order of the plan's suites. `judge` and `baseline` may be asked to be None."""
        found = [
            each
            for each in self.estimates
            if each.metric == metric
            and model in (None, each.model)
            and suite in (None, each.suite)
            and judge in (ANY, each.judge)
            and baseline in (ANY, each.baseline)
        ]
        return sorted(found, key=lambda each: self.suites.index(each.suite))

    def level_of(self, metric: str, model: str, suite: str | None = None) -> Estimate | None:
        """The first estimate of a model's own value of a metric, not of a difference."""
        return next(iter(self.select(metric, model, suite, baseline=None)), None)

    def warned(self, stage: str, *rules: str) -> bool:
        """Whether one of these health rules gave a warning on a stage."""
        return any((each.stage, each.level) == (stage, "warning") and each.rule in rules for each in self.health)

    def series(self, stage: str) -> dict[str, list[tuple[int, float]]]:
        """The curves that a stage logged: steps and values by name."""
        curves: dict[str, list[tuple[int, float]]] = {}
        for scalar in self.scalars:
            if scalar.stage == stage:
                curves.setdefault(scalar.name, []).append((scalar.step, scalar.value))
        return curves


def _trained(model: str) -> bool:
    """Whether a model is what a stage gave, not a policy from along its way."""
    return split(model)[1] is None


def _copies(lock: Mapping[str, Any]) -> set[str]:
    """What stands for a stage, or a best of n, with a further training seed."""
    of_plan = ((lock.get("plan") or {}).get("evaluate") or {}).get("best_of_n") or {}
    stages = {name for name, each in (lock.get("stages") or {}).items() if each.get("copy_of")}
    return stages | ({*(lock.get("best_of_n") or {})} - {*of_plan})


def _identity(judge: Mapping[str, Any]) -> tuple[Any, Any]:
    """What makes a judge the one it is: its name, and the model behind it where an option names one."""
    return judge.get("judge"), (judge.get("options") or {}).get("model")


def _paid(*kept: Mapping[tuple[str, str, str], Sequence[Judgement | Score]]) -> dict[str, list[Judgement | Score]]:
    """By judge, the records that it was paid for."""
    found: dict[str, list[Judgement | Score]] = {}
    for (judge, *_), records in ((key, records) for each in kept for key, records in each.items()):
        if paid := [each for each in records if each.usage is not None]:
            found.setdefault(judge, []).extend(paid)
    return found


def read_facts(folder: RunFolder) -> Facts:
    """Read a run folder. Raises UsageError for a damaged file; of a run that stopped early only run.json has to be
    there."""
    run, estimates = folder.run(), folder.estimates()
    lock = folder.lock() if (folder.path / "plan.lock.json").exists() else {}
    copies = _copies(lock)
    scores, judgements = folder.scores(), folder.judgements()
    first = next(iter((lock.get("plan") or {}).get("seeds") or ()), None)

    def shown(*models: str) -> bool:
        return all(_trained(each) and each not in copies for each in models)

    return Facts(
        run=run,
        lock=lock,
        plan_text=folder.plan_path.read_text(encoding="utf-8", errors="replace") if folder.plan_path.exists() else "",
        metrics_lost="estimates" in (run.get("evaluation") or {}) and not folder.has_metrics,
        estimates=tuple(each for each in estimates if _trained(each.model)),
        along=tuple(each for each in estimates if not _trained(each.model)),
        seeds=tuple(folder.seeds()),
        slices=tuple(each for each in folder.slices() if _trained(each.model)),
        instruments=tuple(folder.instruments()),
        scalars=tuple(folder.scalars()),
        observations=tuple(
            each for each in folder.observations() if _trained(each.model) and each.training_seed in (None, first)
        ),
        samples={key: records for key, records in folder.samples().items() if shown(key[0])},
        scores={key: records for key, records in scores.items() if shown(key[1])},
        judgements={key: records for key, records in judgements.items() if shown(*key[1].split("--"))},
        canaries=folder.canaries(),
        paid=_paid(judgements, scores, folder.harm()),
        pairs={key: records for key, records in folder.pairs().items() if shown(key[0])},
        health=tuple(folder.health()),
        health_checked=folder.health_checked(),
    )
