"""Training seeds: every stage is trained once per seed, and so is all that builds on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .graph import StageNode, copy_name

if TYPE_CHECKING:
    from .graph import JudgeNode
    from .model import BestOfN
    from .problems import Problems


def per_seed(stages: Mapping[str, StageNode], seeds: Sequence[int]) -> dict[str, StageNode]:
    """The stages, once per seed: the first seed's under their own names, each followed by its copies.

    A copy builds on the copies with its seed, and on the same data.
    """
    if not seeds:
        return dict(stages)
    found: dict[str, StageNode] = {}
    for name, node in stages.items():
        found[name] = replace(node, seed=seeds[0])
        for seed in seeds[1:]:
            found[copy_name(name, seed)] = _copy(node, seed, stages)
    return found


def best_of_n_per_seed(
    best: Mapping[str, BestOfN], stages: Mapping[str, StageNode], seeds: Sequence[int]
) -> dict[str, BestOfN]:
    """The candidates that are the best of n answers, once per seed: with the answers and the reward model of that seed."""
    found = dict(best)
    for name, each in best.items():
        for seed in seeds[1:]:
            of_seed = {key: _of_seed(getattr(each, key), seed, stages) for key in ("model", "reward")}
            found[copy_name(name, seed)] = each.model_copy(update=of_seed)
    return found


def check_seeds(
    stages: Mapping[str, StageNode], best: Mapping[str, BestOfN], seeds: Sequence[int], problems: Problems
) -> None:
    """Note names that the copies for further seeds would take from others."""
    taken = {*stages, *best}
    for name in taken:
        for seed in seeds[1:]:
            if (copy := copy_name(name, seed)) in taken:
                section = ("stages",) if copy in stages else ("evaluate", "best_of_n")
                problems.add((*section, copy), "training with several seeds makes one of this name too; rename this one")


def _copy(node: StageNode, seed: int, stages: Mapping[str, StageNode]) -> StageNode:
    return replace(
        node,
        name=copy_name(node.name, seed),
        seed=seed,
        copy_of=node.name,
        slots={slot: _of_seed(filling, seed, stages) for slot, filling in node.slots.items()},
        judges={slot: _judge(judge, seed, stages) for slot, judge in node.judges.items()},
        requires=tuple(gate.model_copy(update={"model": _of_seed(gate.model, seed, stages)}) for gate in node.requires),
    )


def _judge(judge: JudgeNode, seed: int, stages: Mapping[str, StageNode]) -> JudgeNode:
    """The judge of a slot: its options name the models that it uses, too."""
    models = {option: _of_seed(name, seed, stages) for option, name in judge.models.items()}
    return replace(judge, models=models, config=judge.config.model_copy(update=models))


def _of_seed(filling: str, seed: int, stages: Mapping[str, StageNode]) -> str:
    return copy_name(filling, seed) if filling in stages else filling
