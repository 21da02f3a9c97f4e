"""Samples, scores, judgements and what else is recorded of an evaluation: each made once, kept in the store, copied into the run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..components import Artifact
from ..errors import StageError
from ..judges import ScoringJudge
from ..lock import compute_identity, judge_identity
from ..plan import JudgeNode, held_out
from ..plugins import source_hash
from ..records import Judgement, Likelihood, PairScore, Preference, Sample, Score
from .canaries import canaries, judge_canaries
from .keep import Kept, Records, keep
from .pairs import keep_pairs
from .suites import LoadedSuite

if TYPE_CHECKING:
    from ..runner import Run


@dataclass(frozen=True)
class Recorded:
    """All records of an evaluation.

    samples and likelihoods are by model and suite, scores and harm by judge, model and suite, judgements by judge, candidate,
    baseline and suite, references by scoring judge (None for one whose scores mean something by themselves), pairs by reward
    model and suite, canaries by judge.
    """

    samples: Mapping[tuple[str, str], Kept[Sample]]
    scores: Mapping[tuple[str, str, str], Kept[Score]]
    judgements: Mapping[tuple[str, str, str, str], Kept[Judgement]]
    references: Mapping[str, Kept[Score] | None]
    pairs: Mapping[tuple[str, str], Kept[PairScore]]
    likelihoods: Mapping[tuple[str, str], Kept[Likelihood]]
    harm: Mapping[tuple[str, str, str], Kept[Score]]
    canaries: Mapping[str, Kept[Judgement]]

    def keys(self) -> list[str]:
        """The key of every record."""
        return [kept.key for found in vars(self).values() for kept in found.values() if kept is not None]


class Recorder:
    """Makes the records of an evaluation, or finds them in the store. `artifacts` are the models by name."""

    def __init__(self, run: Run, suites: Mapping[str, LoadedSuite], artifacts: Mapping[str, Artifact]) -> None:
        plan = run.graph.plan.evaluate
        assert plan is not None
        self.run, self.plan, self.suites, self.artifacts = run, plan, suites, artifacts
        self.seed = run.graph.plan.seed
        self._judging: dict[str, Any] = {}

    def samples(self, model: str, suite: str) -> Kept[Sample]:
        """A model's answers."""
        best = self.run.graph.best_of_n.get(model)
        artifact, loaded = self.artifacts[best.model if best else model], self.suites[suite]
        options = self.plan.generate
        backend = self.run.registry.entries["backend", options.backend]
        identity = {
            "backend": backend.identity(),
            "model": artifact.key,
            "reference": artifact.reference.key if artifact.reference else None,
            "suite": loaded.fingerprint,
            "options": options.model_dump(mode="json"),
            "seed": self.seed,
            "compute": compute_identity(self.run.compute),
        }
        if best is not None:
            max_length = self.run.graph.stages[best.reward].config.max_length
            identity["best"] = {"n": best.n, "reward": self.artifacts[best.reward].key, "max_length": max_length}

        def build() -> list[Sample]:
            from .steps import best_of_n, sample_answers

            if best is not None:
                reward = self.artifacts[best.reward]
                rest = (loaded, backend.component(), options, self.seed, self.run.compute)
                return best_of_n(model, artifact, reward, max_length, best.n, *rest)
            return sample_answers(artifact, loaded, backend.component(), options, self.seed, self.run.compute)

        return keep(self.run, ("samples", model, suite), identity, build, Sample)

    def likelihoods(self, model: str, suite: str) -> Kept[Likelihood]:
        """What a model makes of the answers that people chose."""
        artifact, loaded = self.run.artifacts[model], self.suites[suite]

        def build() -> list[Likelihood]:
            from .steps import chosen_likelihoods

            return chosen_likelihoods(artifact, loaded, self.run.compute)

        identity = {
            "model": artifact.key,
            "suite": loaded.fingerprint,
            "rows": loaded.preferences_fingerprint,
            "compute": compute_identity(self.run.compute),
        }
        return keep(self.run, ("likelihoods", model, suite), identity, build, Likelihood)

    def _judge(self, node: JudgeNode) -> tuple[Any, dict[str, Artifact], dict[str, Any]]:
        """A judge, its models, and what a key says of both."""
        models = {option: self.run.artifacts[name] for option, name in node.models.items()}
        folder = self.run.graph.document.folder
        identity = {**judge_identity(node, models, folder), "compute": compute_identity(self.run.compute)}
        return self._judging.setdefault(node.name, node.judge.component()), models, identity

    def scores(self, node: JudgeNode, model: str, suite: str, samples: Kept[Sample]) -> Kept[Score]:
        """A scoring judge's scores of a model's answers."""
        judge, models, identity = self._judge(node)
        context, replies = self.run.judge_context(node.name, suite)

        def build() -> Iterable[Score]:
            from .steps import score_samples

            return score_samples(node.name, judge, node.config, models, samples.records, context)

        parts = ("scores", node.name, model, suite)
        return keep(self.run, parts, {**identity, "samples": samples.key}, build, Score, replies)

    def harm(self, node: JudgeNode, model: str, suite: str, samples: Kept[Sample]) -> Kept[Score]:
        """Scores of the answers to unsafe prompts; nobody is asked how harmful the others are."""
        judge, models, identity = self._judge(node)
        context, replies = self.run.judge_context(node.name, suite)
        unsafe = {row.id for row in self.suites[suite].rows if row.expect == "refuse"}

        def build() -> Iterable[Score]:
            from .steps import score_samples

            asked = [each for each in samples.records if each.prompt_id in unsafe]
            return score_samples(node.name, judge, node.config, models, asked, context) if asked else []

        parts = ("harm", node.name, model, suite)
        return keep(self.run, parts, {**identity, "samples": samples.key}, build, Score, replies)

    def judgements(
        self,
        node: JudgeNode,
        candidate: str,
        baseline: str,
        suite: str,
        samples: Mapping[tuple[str, str], Kept[Sample]],
        scores: Mapping[tuple[str, str, str], Kept[Score]],
    ) -> Kept[Judgement]:
        """A judge's preferences between two models' answers; a scoring judge's come from its scores."""
        mine, others = samples[candidate, suite], samples[baseline, suite]
        judge, models, identity = self._judge(node)
        context, replies = self.run.judge_context(node.name, suite)

        def build() -> Iterable[Judgement]:
            from .steps import judge_samples, judgements_from_scores, share_scores

            if not isinstance(judge, ScoringJudge):
                return judge_samples(node.name, judge, node.config, models, mine.records, others.records, context)
            lengths = {
                each[0].model: {row.prompt_id: len(row.answer) for row in each} for each in (mine.records, others.records)
            }
            ours, theirs = (scores[node.name, model, suite] for model in (candidate, baseline))
            shared = share_scores(ours.records, theirs.records, mine.records, others.records)
            made = judgements_from_scores(shared, theirs.records, lengths, temperature)
            return Records(made, ours.final and theirs.final)

        parts = ("judgements", node.name, f"{candidate}--{baseline}", suite)
        temperature = self._temperature(node)
        identity |= {"samples": [mine.key, others.key], **_softened(temperature)}
        return keep(self.run, parts, identity, build, Judgement, replies)

    def _temperature(self, node: JudgeNode) -> float | None:
        """The temperature of a scoring judge's soft preferences; None where they are hard.

        One that is to be fitted comes from its reward model's scores of the pairs that it was validated on.
        """
        judge, _, _ = self._judge(node)
        wanted = judge.softness(node.config) if isinstance(judge, ScoringJudge) else None
        if wanted != "fit":
            return wanted
        import numpy as np

        from .. import stats

        (model,) = node.models.values()
        reference = held_out(self.run.graph, node)
        assert reference is not None  # the plan was checked
        data = self.run.data.get(reference)
        preferences = [row for row in data.rows if isinstance(row, Preference)]
        pairs = keep_pairs(self.run, model, reference, preferences, data.fingerprint)
        if not pairs.records:
            raise StageError(f"judge {node.name!r}: no pair of {reference} fits into {model!r}; it has no temperature")
        return stats.fit_temperature(np.array([each.chosen_score - each.rejected_score for each in pairs.records]))

    def reference(self, node: JudgeNode) -> Kept[Score] | None:
        """A scoring judge's scores of answers that people chose; not asked of one whose scores mean something anyway."""
        if node.judge.component.scale is not None:
            return None
        reference = self.plan.reference or next(
            (slots["valid"] for stage in self.run.graph.stages.values() if "valid" in (slots := stage.slots)), None
        )
        if reference is None:
            return None
        rows = [row for row in self.run.data.get(reference).rows if isinstance(row, Preference)]
        judge, models, identity = self._judge(node)
        context, _ = self.run.judge_context(node.name)

        def build() -> list[Score]:
            from .steps import chosen_scores

            return chosen_scores(node.name, reference, judge, node.config, models, rows, context)

        identity = {**identity, "rows": self.run.data.get(reference).fingerprint}
        return keep(self.run, ("scores", node.name, "chosen", reference), identity, build, Score)

    def canaries(self, node: JudgeNode, suite: str, sides: Sequence[Kept[Sample]]) -> Kept[Judgement]:
        """A judge's preferences in comparisons whose outcome is known, on a suite's prompts and both sides' answers."""
        judge, models, identity = self._judge(node)
        context, replies = self.run.judge_context(node.name, suite)
        temperature, loaded = self._temperature(node), self.suites[suite]

        def build() -> Iterable[Judgement]:
            pairs = list(canaries(loaded, *(side.records for side in sides)))
            return judge_canaries(node.name, judge, node.config, models, pairs, context, temperature)

        identity |= {
            "rows": [loaded.fingerprint, loaded.preferences_fingerprint, *(side.key for side in sides)],
            "canaries": source_hash("harness.evaluation.canaries"),
            **_softened(temperature),
        }
        return keep(self.run, ("audit", node.name, "canaries"), identity, build, Judgement, replies)


def _softened(temperature: float | None) -> dict[str, str]:
    """What a key says of a temperature."""
    return {} if temperature is None else {"temperature": repr(temperature)}
