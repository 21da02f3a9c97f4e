"""A reward model on held-out preferences: its scores, and the estimates that a stage may require before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..components import Dataset
from ..lock import compute_identity
from ..metrics import Evidence
from ..plan import MetricNode
from ..plan.model import Bootstrap
from ..plugins import source_hash
from ..records import Estimate, PairScore, Preference
from .estimates import make_estimates
from .keep import Kept, keep, observe

if TYPE_CHECKING:
    from ..runner import Run


def keep_pairs(run: Run, model: str, suite: str, preferences: Sequence[Preference], fingerprint: str) -> Kept[PairScore]:
    """A reward model's scores for both answers of each preference."""
    artifact, compute = run.artifacts[model], run.compute
    max_length = run.graph.stages[model].config.max_length

    def build() -> list[PairScore]:
        from .steps import score_pairs

        return score_pairs(artifact, suite, preferences, max_length, compute)

    identity = {"model": artifact.key, "rows": fingerprint, "max_length": max_length, "compute": compute_identity(compute)}
    return keep(run, ("pairs", model, suite), identity, build, PairScore)


def pair_estimates(run: Run, model: str, data: Dataset) -> list[Estimate]:
    """Every estimate that the installed metrics make of a reward model on preferences."""
    preferences = [row for row in data.rows if isinstance(row, Preference)]
    pairs = keep_pairs(run, model, data.reference, preferences, data.fingerprint)
    components = [run.registry.entries["metric", name] for name in run.registry.names("metric")]
    nodes = [MetricNode(entry, entry.component.measures) for entry in components if entry.component.scope == "pairs"]
    measures = {measure.name: (measure, "pairs") for node in nodes for measure in node.measures}
    evaluate = run.graph.plan.evaluate
    bootstrap, seed = (evaluate.bootstrap if evaluate else Bootstrap()), run.graph.plan.seed

    def build() -> list[Estimate]:
        evidence = Evidence(model, data.reference, {}, pairs=pairs.records)
        observations = [each for node in nodes for each in observe(node, [evidence])]
        made = make_estimates(observations, measures, "", bootstrap, seed)
        return [each for each in made if isinstance(each, Estimate)]

    identity = {
        "pairs": pairs.key,
        "metrics": [node.metric.identity() for node in nodes],
        "bootstrap": bootstrap.model_dump(mode="json"),
        "seed": seed,
        "source": [source_hash("harness.evaluation.pairs"), source_hash("harness.stats")],
    }
    return keep(run, ("requirements", model, data.reference), identity, build, Estimate).records
