"""Health: what a stage's numbers mean while it trains. Rules look at what was logged and measured, and give verdicts.

A verdict is a function of the train log and of the estimates, and of nothing else, so a stage that is reused from the store
replays to the verdicts that it had. Rules are no part of a stage's key: a new threshold trains nothing again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .audit import failed_canaries
from .errors import StageError
from .records import Estimate, HealthVerdict
from .trends import Curve, Trend, trend

if TYPE_CHECKING:
    from .plan import Graph, JudgeNode

FEWEST_PROMPTS = 30
PROVEN_ABOVE = {"accuracy": 0.5, "accuracy-vs-shorter": 0.0, "accuracy-vs-longer": 0.0}
"""What the interval of a reward model's measure has to lie above."""


@dataclass(frozen=True)
class Readings:
    """What a rule looks at: the scalars that a stage has logged so far and, once they exist, estimates of its model.

    `independent` names the judges whose word counts on this model: none of them lies upstream of it or is unproven.
    """

    curves: Mapping[str, Curve]
    estimates: Sequence[Estimate] = ()
    baseline: str | None = None
    independent: frozenset[str] = frozenset()

    def first(self, name: str, count: int) -> list[float]:
        """The first so many logged values of a scalar."""
        return [value for _, value in self.curves.get(name, ())[:count]]

    def last(self, name: str, count: int) -> list[float]:
        """The last so many logged values of a scalar."""
        return [value for _, value in self.curves.get(name, ())[-count:]]

    def trend(self, name: str) -> Trend | None:
        """The change of a scalar from the first third of its values to the last; None for fewer than six."""
        return trend(self.curves.get(name, ()))

    def levels(self, metric: str) -> list[Estimate]:
        """Estimates of the model's own value of a metric, one a suite."""
        return [each for each in self.estimates if each.metric == metric and each.baseline is None]

    def against(self, metric: str, baseline: str | None = None) -> list[Estimate]:
        """Estimates that compare the model with a baseline (the plan's, where left out), by independent judges only."""
        other = baseline or self.baseline
        return [
            each
            for each in self.estimates
            if each.metric == metric
            and other is not None
            and each.baseline == other
            and (each.judge is None or each.judge in self.independent)
        ]


@dataclass(frozen=True)
class Finding:
    """What a rule saw: the value that it holds against its threshold, and a sentence that says so."""

    value: float
    text: str


@dataclass(frozen=True)
class Rule:
    """One thing that may go wrong with what an aligner trains, and how it shows.

    `look` gets the readings and returns a Finding, or None where all is well. It is called each time the stage has logged
    something, once every scalar of `scalars` has been logged `needs` times and the share `after` of the training is over;
    with `metrics` it waits for the evaluation, for estimates of each of them over at least `prompts` prompts. So a rule is
    silent where its evidence is missing or too thin. The first finding is the verdict, and the rule is done with this stage.

    `threshold` is the bound that a healthy stage keeps, in words; `advice` is what to do; `source` is where the bound comes
    from. A `note` is nothing to worry about, and never ends a stage. Rules of one aligner may share a name: they look for
    the same thing in different evidence, and one verdict is given. A subclass of an aligner is watched by its rules, too.
    """

    aligner: str
    name: str
    look: Callable[[Readings], Finding | None]
    threshold: str
    advice: str
    source: str = ""
    scalars: tuple[str, ...] = ()
    needs: int = 1
    after: float = 0.0
    metrics: tuple[str, ...] = ()
    prompts: int = FEWEST_PROMPTS
    level: Literal["warning", "note"] = "warning"


def rules_of(aligner: type, rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules that watch an aligner: its own, and those of the aligners that it is a subclass of."""
    names = {vars(each).get("name") for each in aligner.__mro__}
    return tuple(rule for rule in rules if rule.aligner in names)


def same_judge(one: JudgeNode, other: JudgeNode) -> bool:
    """Whether two judges without models of the plan are one: other options, but for `model`, leave its mistakes what they are."""
    if one.models or other.models:
        return False
    return one.judge.name == other.judge.name and getattr(one.config, "model", None) == getattr(other.config, "model", None)


def independent_judges(graph: Graph, stage: str, estimates: Iterable[Estimate]) -> frozenset[str]:
    """The judges whose word counts on a stage: it was not trained against them, and no model of theirs is it or unproven.

    Trained against are judges that are a reward of the stage, or of one that it builds on, and those with a model upstream.
    Unproven is a reward model whose accuracy is not shown to exceed chance, or that of a rule that looks at lengths alone, and
    a judge that fails its canaries.
    """
    estimates = list(estimates)
    doubtful = {each.model for each in estimates if each.low <= PROVEN_ABOVE.get(each.metric, float("-inf"))}
    tainted = {stage, *graph.upstream(stage), *doubtful}
    rewards = graph.trained_against(stage)
    return frozenset(
        name
        for name, judge in graph.judges.items()
        if not tainted.intersection(judge.models.values())
        and not any(same_judge(judge, each) for each in rewards)
        and not failed_canaries(estimates, name)
    )


@dataclass
class Monitor:
    """Watches one stage: every new value is shown to the rules, and each verdict told once.

    With `stop`, a warning about the training ends the stage with a StageError; one that rests on the evaluation comes when
    the stage is over, and cannot.
    """

    stage: str
    rules: Sequence[Rule]
    tell: Callable[[HealthVerdict], None]
    stop: bool = False
    _curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    _step: int = 0
    _told: set[str] = field(default_factory=set)
    _judged: set[str] = field(default_factory=set)

    def reset(self) -> None:
        """Forget everything that was logged, and what was judged of it: training starts over, or goes back to a checkpoint."""
        self._curves.clear()
        self._step = 0

    def log(self, step: int, values: Mapping[str, float], total: int | None = None) -> None:
        """Take in what the stage logged at a step; `total` is its last step, where known. Raises StageError with `stop`."""
        self._step = step
        for name, value in values.items():
            self._curves.setdefault(name, []).append((step, value))
        self._look_at_training(step / total if total and total > 0 else 0.0)

    def finish(self) -> None:
        """The training is over. Raises StageError with `stop`."""
        self._look_at_training(1.0)

    def evaluate(self, estimates: Iterable[Estimate], baseline: str | None, independent: frozenset[str]) -> None:
        """Take in estimates of the stage's model; those by judges that are not independent are evidence of nothing."""
        mine = [each for each in estimates if each.model == self.stage and each.judge in {None, *independent}]
        for rule in self._waiting():
            found = [each for each in mine if each.metric in rule.metrics and each.clusters >= rule.prompts]
            if rule.metrics and self._has_logged(rule) and {each.metric for each in found} >= set(rule.metrics):
                self._look(rule, Readings(self._curves, found, baseline, independent), None)

    def checked(self) -> tuple[list[str], list[str]]:
        """The names of the rules that could judge this stage, and of those whose evidence never was enough."""
        names = dict.fromkeys(rule.name for rule in self.rules)
        return [name for name in names if name in self._judged], [name for name in names if name not in self._judged]

    def _look_at_training(self, progress: float) -> None:
        readings = Readings(self._curves)
        found = [
            verdict
            for rule in self._waiting()
            if not rule.metrics and progress >= rule.after and self._has_logged(rule)
            if (verdict := self._look(rule, readings, self._step))
        ]
        for verdict in found:
            if self.stop and verdict.level == "warning":
                raise StageError(
                    f"stage {self.stage!r}: stopped at step {verdict.step} by its health rule {verdict.rule!r}: "
                    f"{verdict.text} (healthy: {verdict.threshold}). {verdict.advice} With `health: warn` the same command "
                    "goes on from the last checkpoint"
                )

    def _waiting(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.name not in self._told]

    def _has_logged(self, rule: Rule) -> bool:
        return all(len(self._curves.get(name, ())) >= rule.needs for name in rule.scalars)

    def _look(self, rule: Rule, readings: Readings, step: int | None) -> HealthVerdict | None:
        self._judged.add(rule.name)
        finding = rule.look(readings) if rule.name not in self._told else None
        if finding is None:
            return None
        self._told.add(rule.name)
        verdict = HealthVerdict(
            stage=self.stage,
            rule=rule.name,
            level=rule.level,
            step=step,
            value=finding.value,
            threshold=rule.threshold,
            text=finding.text,
            advice=rule.advice,
        )
        self.tell(verdict)
        return verdict


__all__ = ["FEWEST_PROMPTS", "Finding", "Monitor", "Readings", "Rule", "independent_judges", "rules_of", "same_judge"]
