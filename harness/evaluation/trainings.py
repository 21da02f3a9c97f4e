"""Models that were trained once per seed: what each is called, what it is compared with, and the estimates of each seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..metrics import Measure
from ..plan.graph import copy_name
from ..plan.model import Bootstrap
from ..records import Estimate, Observation, SeedEstimate
from .estimates import make_estimates

if TYPE_CHECKING:
    from ..plan import Graph


class Trainings:
    """The models of a plan with every training seed. Comparisons stay within a seed.

    What no stage trains is one model, which every seed's baseline is compared with.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._baselines: dict[str, list[str]] = {}
        self._of_plan: dict[str, tuple[str, int | None]] = {}
        models = graph.models()
        for seed, named in graph.trainings():
            for name in models:
                found = self._baselines.setdefault(named(name), [])
                found.extend({named(models[0])} - {*found})
            for name in (*models, *graph.reward_models()):
                trained = name in graph.stages or name in graph.best_of_n
                self._of_plan[named(name)] = (name, seed if trained else None)
                if not trained and seed is not None:
                    self._of_plan[copy_name(name, seed)] = (name, seed)

    def models(self) -> list[str]:
        """The models whose answers are compared, those of the first seed first."""
        return list(self._baselines)

    def comparisons(self) -> list[tuple[str, str]]:
        """Every two models that judges compare, the baseline second."""
        found = [(named(one), named(two)) for _, named in self.graph.trainings() for one, two in self.graph.comparisons()]
        return list(dict.fromkeys(found))

    def reward_models(self) -> list[str]:
        """The stages that give reward models."""
        return [named(name) for _, named in self.graph.trainings() for name in self.graph.reward_models()]

    def baselines(self, model: str) -> list[str]:
        """What a model is compared with: the baseline of the same seed, or those of all seeds where no stage trains it."""
        return self._baselines.get(model) or self.graph.models()[:1]

    def observed(self, model: str, baseline: str) -> str:
        """What a model is called in what is observed beside `baseline`: with each seed's another name, where no stage trains it."""
        seed = self._of_plan[baseline][1]
        several, untrained = len(self.graph.plan.seeds) > 1, self._of_plan.get(model) == (model, None)
        return copy_name(model, seed) if several and untrained and seed is not None else model

    def of_plan(self, observation: Observation) -> Observation:
        """An observation under the names of the plan, with the training seed beside them."""
        if len(self.graph.plan.seeds) < 2 or observation.model not in self._of_plan:
            return observation
        model, seed = self._of_plan[observation.model]
        baseline = self._of_plan[observation.baseline][0] if observation.baseline else None
        return observation.model_copy(update={"model": model, "baseline": baseline, "training_seed": seed})


def seed_estimates(
    observations: Sequence[Observation],
    measures: Mapping[str, tuple[Measure, str]],
    baseline: str,
    bootstrap: Bootstrap,
    seed: int,
) -> Iterator[SeedEstimate]:
    """The estimates of each training seed by itself; none where there is one only."""
    seeds = dict.fromkeys(each.training_seed for each in observations if each.training_seed is not None)
    for training_seed in seeds if len(seeds) > 1 else ():
        mine = [each for each in observations if each.training_seed == training_seed]
        for estimate in make_estimates(mine, measures, baseline, bootstrap, seed):
            if isinstance(estimate, Estimate):
                yield SeedEstimate(**estimate.model_dump(), training_seed=training_seed)
