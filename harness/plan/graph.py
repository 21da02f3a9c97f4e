"""The graph of stages that a checked plan stands for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..components import SourceConfig
    from ..metrics import Measure
    from ..plugins import Entry
    from .document import Document
    from .model import BestOfN, Gate, Plan

BASE = "base"
ESTIMATES = "estimates"
"""The last step of an evaluation, among whose records no stage of the name may stand."""
SCORING_JUDGE = "scoring-judge"
"""The kind of a slot that a judge may fill, with its options in place."""


def _closure(start: str, following: Callable[[str], Iterable[str]]) -> set[str]:
    """Everything that follows from `start`, directly or not."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in following(waiting.pop()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def copy_name(name: str, seed: int) -> str:
    """What a stage, or a best of n, is called that stands for another one with a further training seed."""
    return f"{name}-seed-{seed}"


def model_family(name: object) -> str | None:
    """The letters that a model's name begins with, such as `smollm`; None for what is no name of a published model."""
    if not isinstance(name, str) or name.startswith((".", "/", "~")):
        return None
    found = re.match(r"[A-Za-z]+", name.rpartition("/")[2])
    return found[0].lower() if found else None


@dataclass(frozen=True)
class Slot:
    """What an aligner takes in one slot: any of `kinds`, and whether it may be left out."""

    kinds: tuple[str, ...]
    optional: bool

    @classmethod
    def parse(cls, text: str) -> Slot:
        """Read a slot as an aligner declares it, such as "conversations | preferences" or "preferences?"."""
        return cls(tuple(kind.strip() for kind in text.rstrip("?").split("|")), text.endswith("?"))

    def accepts(self, kind: str) -> bool:
        """Whether an input of that kind fits; every row of data holds a prompt."""
        return kind in self.kinds or ("prompts" in self.kinds and kind in {"preferences", "conversations"})


@dataclass(frozen=True)
class DataNode:
    """One entry of the plan's data."""

    name: str
    source: Entry
    config: SourceConfig

    @property
    def kind(self) -> str:
        """The kind of its rows."""
        return str(self.source.component.gives)


@dataclass(frozen=True)
class JudgeNode:
    """One judge of the plan, and the stages whose models it uses, by option."""

    name: str
    judge: Entry
    config: Any
    models: Mapping[str, str]

    def __str__(self) -> str:
        models = ", ".join(f"{option}={name}" for option, name in self.models.items())
        return f"judge {self.judge.name}({models})" if models else f"judge {self.judge.name}"


@dataclass(frozen=True)
class StageNode:
    """One stage: an aligner, its options, and what fills its slots: `base`, another stage, or a data reference.

    `judges` are the slots that a judge fills instead. `seed` is what it is trained with, the plan's where that is None;
    `copy_of` names the stage that it repeats with a further training seed.
    """

    name: str
    aligner: Entry
    config: Any
    slots: Mapping[str, str]
    requires: tuple[Gate, ...]
    options_set: tuple[str, ...]
    judges: Mapping[str, JudgeNode] = field(default_factory=dict)
    seed: int | None = None
    copy_of: str | None = None

    @property
    def gives(self) -> str:
        """The kind of model that comes out."""
        return str(self.aligner.component.gives)

    def names(self) -> list[str]:
        """What the stage names: what it is made from, and the models of its requirements."""
        return [*self.made_from(), *(gate.model for gate in self.requires)]

    def made_from(self) -> list[str]:
        """What fills the stage's slots by its name, and the models of the judges that fill the others."""
        return [*self.slots.values(), *(model for judge in self.judges.values() for model in judge.models.values())]

    def fillings(self) -> dict[str, str]:
        """What fills each slot, in words."""
        return {**self.slots, **{slot: str(judge) for slot, judge in self.judges.items()}}


@dataclass(frozen=True)
class MetricNode:
    """One metric of the plan and those of its measures that the plan asks for."""

    metric: Entry
    measures: tuple[Measure, ...]


@dataclass(frozen=True)
class Graph:
    """A checked plan, resolved: every name has become the thing that it names. `stages` come after what they build on.

    `harm` are judges, too: they compare nothing and score answers to unsafe prompts. With training seeds the first seed's
    stages have the plan's names, and judges use these; the others' are copies. `best_of_n` are the candidates that are the
    best of n answers of a model.
    """

    plan: Plan
    document: Document
    data: Mapping[str, DataNode]
    stages: Mapping[str, StageNode]
    judges: Mapping[str, JudgeNode]
    metrics: tuple[MetricNode, ...]
    warnings: tuple[str, ...] = ()
    harm: Mapping[str, JudgeNode] = field(default_factory=dict)
    best_of_n: Mapping[str, BestOfN] = field(default_factory=dict)

    def seed_of(self, stage: StageNode) -> int:
        """The seed that a stage is trained with."""
        return self.plan.seed if stage.seed is None else stage.seed

    def inputs(self, stage: str) -> list[str]:
        """The stages that have to be done before a stage: those it is made from, and those it requires something of."""
        return [*self.made_from(stage), *(gate.model for gate in self._requires(stage) if gate.model in self.stages)]

    def made_from(self, stage: str) -> list[str]:
        """The stages that a stage is made from directly; the best of n answers, from who gives them and who chooses."""
        best, node = self.best_of_n.get(stage), self.stages.get(stage)
        names = [best.model, best.reward] if best else node.made_from() if node else []
        return [name for name in names if name in self.stages]

    def ancestors(self, stage: str) -> set[str]:
        """Every stage that has to be done before a stage, directly or not."""
        return _closure(stage, self.inputs)

    def upstream(self, stage: str) -> set[str]:
        """Every stage that a stage is made from, directly or not. What it only requires something of left no trace in it."""
        return _closure(stage, self.made_from)

    def _requires(self, stage: str) -> tuple[Gate, ...]:
        return self.stages[stage].requires if stage in self.stages else ()

    def trained_against(self, stage: str) -> list[JudgeNode]:
        """The judges that fill a slot of a stage, or of one that it is made from."""
        names = [stage, *sorted(self.upstream(stage))]
        return [judge for name in names if name in self.stages for judge in self.stages[name].judges.values()]

    def trained_on(self, stage: str) -> set[str]:
        """The data references that a stage, or one that it is made from, trained on."""
        return {reference for name in {stage, *self.upstream(stage)} for reference in self.own_data(name)}

    def own_data(self, stage: str) -> set[str]:
        """The data references that a stage itself trained on; what fills a slot named `valid` only measures."""
        slots = self.stages[stage].slots if stage in self.stages else {}
        return {name for slot, name in slots.items() if slot != "valid" and name not in self.stages and name != BASE}

    def family(self, stage: str) -> str | None:
        """The family of models that a stage's model is of: that of the Hub id in its option `model`, else of what it
        builds on, else of the base; None where the name of none tells."""
        passed: set[str] = set()
        # A plan whose stages build on each other in a circle is told of it elsewhere.
        while (node := self.stages.get(stage)) is not None and stage not in passed:
            if isinstance(named := getattr(node.config, "model", None), str):
                return model_family(named)
            passed.add(stage)
            stage = node.slots.get("init", BASE)
        return model_family(self.plan.base)

    def judge_family(self, judge: str) -> str | None:
        """The family of a judge: of its option `family` or `model`, or of the model of a stage that it uses."""
        node = self.judges[judge]
        if node.models:
            return self.family(next(iter(node.models.values())))
        return getattr(node.config, "family", None) or model_family(getattr(node.config, "model", None))

    def models(self) -> list[str]:
        """The models whose answers are compared, the baseline first."""
        evaluate = self.plan.evaluate
        return [] if evaluate is None else [evaluate.baseline, *(c for c in evaluate.candidates if c != evaluate.baseline)]

    def comparisons(self) -> list[tuple[str, str]]:
        """Every two models that judges compare, the baseline second: with `compare: all` each candidate and an earlier one."""
        evaluate, models = self.plan.evaluate, self.models()
        pairs = [(second, first) for first, second in itertools.combinations(models, 2)]
        return pairs if evaluate and evaluate.compare == "all" else [pair for pair in pairs if pair[1] == models[0]]

    def along(self) -> list[StageNode]:
        """The compared stages that keep policies along their training."""
        compared = (self.stages[name] for name in self.models() if name in self.stages)
        return [node for node in compared if getattr(node.config, "checkpoints", 0)]

    def watched(self) -> dict[str, str]:
        """The stages `along`, with the reward model that each was trained against.

        Those whose reward model is a judge of the plan are left out: it scores them anyway.
        """
        judging = {*self.judges, *(model for node in self.judges.values() for model in node.models.values())}
        return {
            node.name: reward
            for node in self.along()
            if (reward := node.slots.get("reward")) in self.reward_models() and reward not in judging
        }

    def reward_models(self) -> list[str]:
        """The stages of the plan that give reward models."""
        return [name for name, each in self.stages.items() if each.gives == "reward-model" and each.copy_of is None]

    def trainings(self) -> list[tuple[int | None, Callable[[str], str]]]:
        """Every training seed, and what a model's name is with it: `base`, which none trains, keeps its own.

        One without a number where the plan has no training seeds.
        """

        def named(seed: int) -> Callable[[str], str]:
            return lambda name: copy if (copy := copy_name(name, seed)) in {*self.stages, *self.best_of_n} else name

        first = self.plan.seeds[0] if self.plan.seeds else None
        return [(first, lambda name: name), *((seed, named(seed)) for seed in self.plan.seeds[1:])]


def held_out(graph: Graph, judge: JudgeNode) -> str | None:
    """The preferences that a judge's reward model was validated on, else the plan's reference; None if there are none."""
    stages = (graph.stages[name] for name in judge.models.values() if name in graph.stages)
    found = next((stage.slots["valid"] for stage in stages if "valid" in stage.slots), None)
    return found or (graph.plan.evaluate.reference if graph.plan.evaluate else None)
