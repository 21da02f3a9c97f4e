"""Models → samples → scores and judgements → observations → estimates, each kept in the store and copied into the run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..audit import failed_canaries
from ..components import Artifact
from ..errors import StageError
from ..judges import ScoringJudge
from ..keys import digest_rows, library_versions
from ..lock import compute_identity, judge_identity
from ..metrics import Evidence, Measure
from ..plan import JudgeNode, held_out, row_problem
from ..plan.labels import read_labels
from ..plugins import source_hash
from ..records import (
    Estimate,
    Judgement,
    Likelihood,
    Observation,
    PairScore,
    Preference,
    Sample,
    Score,
    SliceEstimate,
    write_json,
    write_records,
)
from ..store import Workspace
from ..trajectory import along, split
from .audit import AuditEvidence, audit_estimates
from .canaries import canaries, judge_canaries
from .estimates import adjusted, agreement, make_estimates, validated
from .keep import Kept, Records, keep, observe
from .overoptimisation import Along, turning_point
from .pairs import keep_pairs
from .slices import slice_estimates
from .suites import load_suite
from .trainings import Trainings, seed_estimates

if TYPE_CHECKING:
    from ..runner import Run


class Evaluation:
    """The evaluation that a plan asks for, over the models that its run has made."""

    def __init__(self, run: Run) -> None:
        plan = run.graph.plan.evaluate
        assert plan is not None
        self.run = run
        self.plan = plan
        self.seed = run.graph.plan.seed
        folder = run.graph.document.folder
        problem = row_problem(run.graph.metrics)
        self.suites = {name: load_suite(name, each, run.data, folder, problem) for name, each in plan.suites.items()}
        self.trainings = Trainings(run.graph)
        self.answering = [name for name in self.trainings.models() if self._answers(name)]
        self.models = [name for name in run.graph.models() if name in self.answering]
        self.compared = [pair for pair in self.trainings.comparisons() if set(pair) <= set(self.answering)]
        self.comparisons = [pair for pair in run.graph.comparisons() if pair in self.compared]
        self.judges = {name: node for name, node in run.graph.judges.items() if self._ready(node)}
        self.harm = {name: node for name, node in run.graph.harm.items() if self._ready(node)}
        self.scopes = {node.metric.component.scope for node in run.graph.metrics}
        trained = {name: run.artifacts[name] for name in self.models if name in run.artifacts}
        self.along = {name: found for name, artifact in trained.items() if (found := along(artifact))}
        self.artifacts = {**run.artifacts, **{each.name: each for found in self.along.values() for each in found}}
        self._judging: dict[str, Any] = {}

    def estimates(self) -> list[Estimate]:
        """Every estimate of the plan; observations.jsonl and metrics.json are written into the run folder."""
        if self.plan.baseline not in self.models:
            self.run.warn(f"nothing was compared: the baseline {self.plan.baseline!r} did not finish")
            self.answering, self.models, self.compared, self.comparisons, self.along = [], [], [], [], {}
        samples = {(model, suite): self._samples(model, suite) for suite in self.suites for model in self.answering}
        suite = next(iter(self.suites))
        samples |= {(each.name, suite): self._samples(each.name, suite) for found in self.along.values() for each in found}
        scorers = {name: node for name, node in self.judges.items() if issubclass(node.judge.component, ScoringJudge)}
        scores = {
            (name, *where): self._scores(node, *where, answers)
            for name, node in {**scorers, **self._audited(scorers)}.items()
            for where, answers in samples.items()
        }
        judgements = {
            (name, candidate, baseline, suite): self._judgements(node, candidate, baseline, suite, samples, scores)
            for name, node in self.judges.items()
            for candidate, baseline in self.compared
            for suite in self.suites
        }
        references = {name: self._reference(node) for name, node in scorers.items()} if self.models else {}
        pairs = {
            (model, name): keep_pairs(self.run, model, name, suite.preferences, suite.preferences_fingerprint)
            for name, suite in self.suites.items()
            for model in self.trainings.reward_models()
            if model in self.run.artifacts and suite.preferences
        }
        likelihoods = {
            (model, name): self._likelihoods(model, name)
            for name, suite in self.suites.items()
            for model in self.answering
            if "likelihoods" in self.scopes and suite.preferences and model in self.run.artifacts
        }
        harm = {
            (name, *where): self._harm(node, *where, answers)
            for name, node in self.harm.items()
            for where, answers in samples.items()
            if "harm" in self.scopes and where[0] in self.answering
        }
        evidence = (samples, scores, judgements, references, pairs, likelihoods, harm)
        canary = self._canaries(samples) if self.comparisons else {}
        keys = [each.key for found in (*evidence, canary) for each in found.values() if each]
        return self._estimates(keys, canary, *evidence)

    def _answers(self, model: str) -> bool:
        """Whether there are answers of a model: its stage, or those that make the best of n, did finish."""
        best = self.run.graph.best_of_n.get(model)
        lost = [name for name in ((best.model, best.reward) if best else (model,)) if name not in self.run.artifacts]
        if best and lost:
            self.run.warn(f"{model!r} was left out: {lost[0]!r} did not finish")
        return not lost

    def _ready(self, node: JudgeNode) -> bool:
        lost = [name for name in node.models.values() if name not in self.run.artifacts]
        if lost:
            self.run.warn(f"judge {node.name!r} was left out: {lost[0]!r} did not finish")
        return not lost

    def _audited(self, scorers: Mapping[str, JudgeNode]) -> dict[str, JudgeNode]:
        """Reward models that judge nothing, but that something is held against: a known truth, or policies along the way.

        A judge that needs no model says how well a reward model ranks answers; and over-optimisation shows beside the scores
        of the reward model that a stage was trained against.
        """
        entry = self.run.registry.get("judge", "reward-model")
        if entry is None or not self.models:
            return {}
        known_truth = not all(node.models for node in scorers.values())
        rewards = set(self.run.graph.watched().values())
        used = {model for node in scorers.values() for model in node.models.values()}
        return {
            name: JudgeNode(name, entry, entry.component.Config(model=name), {"model": name})
            for name in self.run.graph.reward_models()
            if name in self.run.artifacts and name not in used | set(scorers) and (known_truth or name in rewards)
        }

    # --- records ----------------------------------------------------------------------------------------------------------

    def _samples(self, model: str, suite: str) -> Kept[Sample]:
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

    def _likelihoods(self, model: str, suite: str) -> Kept[Likelihood]:
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

    def _scores(self, node: JudgeNode, model: str, suite: str, samples: Kept[Sample]) -> Kept[Score]:
        judge, models, identity = self._judge(node)
        context, replies = self.run.judge_context(node.name, suite)

        def build() -> Iterable[Score]:
            from .steps import score_samples

            return score_samples(node.name, judge, node.config, models, samples.records, context)

        parts = ("scores", node.name, model, suite)
        return keep(self.run, parts, {**identity, "samples": samples.key}, build, Score, replies)

    def _harm(self, node: JudgeNode, model: str, suite: str, samples: Kept[Sample]) -> Kept[Score]:
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

    def _judgements(
        self,
        node: JudgeNode,
        candidate: str,
        baseline: str,
        suite: str,
        samples: Mapping[tuple[str, str], Kept[Sample]],
        scores: Mapping[tuple[str, str, str], Kept[Score]],
    ) -> Kept[Judgement]:
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
        softened = {} if temperature is None else {"temperature": repr(temperature)}
        return keep(self.run, parts, {**identity, "samples": [mine.key, others.key], **softened}, build, Judgement, replies)

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

    def _reference(self, node: JudgeNode) -> Kept[Score] | None:
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

    # --- the judges -------------------------------------------------------------------------------------------------------

    def _canaries(self, samples: Mapping[tuple[str, str], Kept[Sample]]) -> dict[str, Kept[Judgement]]:
        """Every judge's preferences in comparisons whose outcome is known, on prompts of the first suite."""
        name, suite = next(iter(self.suites.items()))
        sides = [samples[model, name] for model in self.comparisons[0]]

        def kept(node: JudgeNode) -> Kept[Judgement]:
            judge, models, identity = self._judge(node)
            context, replies = self.run.judge_context(node.name, name)
            temperature = self._temperature(node)

            def build() -> Iterable[Judgement]:
                pairs = list(canaries(suite, *(side.records for side in sides)))
                return judge_canaries(node.name, judge, node.config, models, pairs, context, temperature)

            rows = [suite.fingerprint, suite.preferences_fingerprint, *(side.key for side in sides)]
            softened = {} if temperature is None else {"temperature": repr(temperature)}
            source = {"canaries": source_hash("harness.evaluation.canaries")}
            return keep(
                self.run,
                ("audit", node.name, "canaries"),
                {**identity, "rows": rows, **softened, **source},
                build,
                Judgement,
                replies,
            )

        return {judge: kept(node) for judge, node in self.judges.items()}

    def _audit(
        self, judgements: Mapping[tuple[str, str, str, str], Kept[Judgement]], canaries: Mapping[str, Kept[Judgement]]
    ) -> Iterator[Estimate | str]:
        """What the judgements show of the judges themselves."""
        if not canaries:
            return
        by_judge: dict[tuple[str, str], list[Judgement]] = {}
        for (judge, *pair, suite), kept in judgements.items():
            if tuple(pair) in self.comparisons:
                by_judge.setdefault((judge, suite), []).extend(kept.records)
        evidence = AuditEvidence(
            judgements=by_judge,
            canaries={judge: kept.records for judge, kept in canaries.items()},
            roots={name: {row.id: row.root or row.id for row in suite.rows} for name, suite in self.suites.items()},
            people=self._people(),
            **self._families(),
            scoring=frozenset(n for n, node in self.judges.items() if issubclass(node.judge.component, ScoringJudge)),
        )
        yield from audit_estimates(evidence, self.plan.bootstrap, self.seed)

    def _people(self) -> list[Judgement]:
        path = self.plan.human
        return [row for _, row in read_labels(self.run.graph.document.folder / path)] if path else []

    def _families(self) -> dict[str, dict[str, str | None]]:
        graph = self.run.graph
        return {
            "families": {model: graph.family(model) for model in self.models},
            "judge_families": {judge: graph.judge_family(judge) for judge in self.judges},
        }

    # --- estimates --------------------------------------------------------------------------------------------------------

    def _estimates(self, keys: Sequence[str], canaries: Mapping[str, Kept[Judgement]], *evidence: Any) -> list[Estimate]:
        run, metrics = self.run, self.run.graph.metrics
        identity = {
            "what": "estimates",
            "records": keys,
            "metrics": [[node.metric.identity(), [each.name for each in node.measures]] for node in metrics],
            # A metric's source does not cover the labelled cases that it ships as data.
            "instruments": digest_rows(each for node in metrics for each in node.metric.component().validate()),
            "people": digest_rows(self._people()),
            **self._families(),
            "baseline": self.plan.baseline,
            "seeds": self.run.graph.plan.seeds,
            "bootstrap": self.plan.bootstrap.model_dump(mode="json"),
            "slices": [self.plan.slices, *(suite.fingerprint for suite in self.suites.values())],
            "seed": self.seed,
            "source": [source_hash("harness.evaluation.evaluate"), source_hash("harness.stats")],
            "libraries": library_versions(),
        }

        def build(work: Workspace) -> None:
            observations = list(self._observations(*evidence))
            write_records(work.output / "observations.jsonl", observations)
            measures = {m.name: (m, node.metric.component.scope) for node in metrics for m in node.measures}
            options = (measures, self.plan.baseline, self.plan.bootstrap, self.seed)
            made = [
                *adjusted(make_estimates(observations, *options), measures),
                *self._agreement(evidence[1]),
                *self._turning_points(*evidence[:2]),
                *self._audit(evidence[2], canaries),
            ]
            estimates = [each.model_dump() for each in made if isinstance(each, Estimate)]
            skipped = [each for each in made if isinstance(each, str)]
            instruments = validated((node.metric.component() for node in metrics), self.plan.bootstrap, self.seed)
            document = {
                "estimates": estimates,
                "seeds": [each.model_dump() for each in seed_estimates(observations, *options)],
                "slices": [each.model_dump() for each in self._slices(observations, measures)],
                "instruments": [each.model_dump() for each in instruments],
                "skipped": skipped,
            }
            write_json(work.output / "metrics.json", document)

        result = run.produce("estimates", identity, build)
        for name in ("observations.jsonl", "metrics.json"):
            run.copy(result.path / name, name)
        metrics_file = json.loads((result.path / "metrics.json").read_text(encoding="utf-8"))
        for text in metrics_file["skipped"]:
            run.warn(f"no estimate: {text}")
        found = [Estimate.model_validate(each) for each in metrics_file["estimates"]]
        for judge in self.judges:
            for canary, each in failed_canaries(found, judge):
                run.warn(f"judge {judge!r} {canary.says}: {canary.evidence(each)}. Rest nothing on it.")
        return found

    def _slices(
        self, observations: Sequence[Observation], measures: Mapping[str, tuple[Measure, str]]
    ) -> list[SliceEstimate]:
        rows = {name: suite.rows for name, suite in self.suites.items()}
        options = (self.plan.baseline, self.plan.bootstrap, self.seed)
        trained = [each for each in observations if split(each.model)[1] is None]
        return slice_estimates(trained, rows, self.plan.slices, measures, *options)

    def _observations(
        self,
        samples: Mapping[tuple[str, str], Kept[Sample]],
        scores: Mapping[tuple[str, str, str], Kept[Score]],
        judgements: Mapping[tuple[str, str, str, str], Kept[Judgement]],
        references: Mapping[str, Kept[Score] | None],
        pairs: Mapping[tuple[str, str], Kept[PairScore]],
        likelihoods: Mapping[tuple[str, str], Kept[Likelihood]],
        harm: Mapping[tuple[str, str, str], Kept[Score]],
    ) -> Iterator[Observation]:
        """What each metric sees in the evidence of its scope."""
        rows = {name: {row.id: row for row in suite.rows} for name, suite in self.suites.items()}
        base = self.trainings.baseline

        def answers(model: str, suite: str, baseline: str | None = None) -> Evidence:
            baseline = baseline or base(model)
            return Evidence(
                model=model,
                suite=suite,
                rows=rows[suite],
                samples=samples[model, suite].records,
                baseline_samples=samples[baseline, suite].records if model != baseline else (),
            )

        for node in self.run.graph.metrics:
            scope = node.metric.component.scope
            found: Iterator[Evidence]
            if scope == "samples":
                found = (answers(model, suite) for model, suite in samples)
            elif scope == "scores":
                found = (
                    replace(
                        answers(model, suite),
                        judge=judge,
                        scores=scores[judge, model, suite].records,
                        baseline_scores=scores[judge, base(model), suite].records if model != base(model) else (),
                        scale=self._scale(judge),
                        reference_scores=[row.score for row in kept.records if row.score is not None] if kept else (),
                    )
                    for judge, model, suite, kept in self._scored(samples, references)
                )
            elif scope == "judgements":
                found = (
                    replace(answers(candidate, suite, baseline), judge=judge, baseline=baseline, judgements=kept.records)
                    for (judge, candidate, baseline, suite), kept in judgements.items()
                )
            elif scope == "harm":
                found = (
                    replace(
                        answers(model, suite),
                        judge=judge,
                        scores=kept.records,
                        baseline_scores=harm[judge, base(model), suite].records if model != base(model) else (),
                        scale=self.harm[judge].judge.component.scale,
                    )
                    for (judge, model, suite), kept in harm.items()
                )
            elif scope == "likelihoods":
                found = (
                    replace(
                        answers(model, suite),
                        likelihoods=kept.records,
                        baseline_likelihoods=likelihoods[base(model), suite].records if model != base(model) else (),
                    )
                    for (model, suite), kept in likelihoods.items()
                )
            else:
                found = (Evidence(model, suite, rows[suite], pairs=kept.records) for (model, suite), kept in pairs.items())
            yield from map(self.trainings.of_plan, observe(node, found))

    def _scored(
        self, samples: Mapping[tuple[str, str], Kept[Sample]], references: Mapping[str, Kept[Score] | None]
    ) -> Iterator[tuple[str, str, str, Kept[Score] | None]]:
        """Scorer, model, suite and reference scores: of every judge that scores, and of what a watched stage learned from."""
        for (judge, kept), (model, suite) in itertools.product(references.items(), samples):
            yield judge, model, suite, kept
        first = next(iter(self.suites))
        watched = self.run.graph.watched()
        taught = {(watched[stage], model) for stage in self.along if stage in watched for model in self._policies(stage)}
        yield from ((reward, model, first, None) for reward, model in sorted(taught))

    def _scale(self, scorer: str) -> tuple[float, float] | None:
        return self.judges[scorer].judge.component.scale if scorer in self.judges else None

    def _policies(self, stage: str) -> list[str]:
        """The models of a watched stage in the order of training: the baseline, where it began there, to the trained one."""
        start = [self.plan.baseline] if self.run.graph.stages[stage].slots.get("init") == self.plan.baseline else []
        return [*start, *(each.name for each in self.along.get(stage, ())), stage]

    def _agreement(self, scores: Mapping[tuple[str, str, str], Kept[Score]]) -> Iterator[Estimate | str]:
        """How each scorer with a model ranks the answers of all models, against each scorer without one."""
        scorers = dict.fromkeys(name for name, _, _ in scores)
        truths = [name for name in scorers if name in self.judges and not self.judges[name].models]
        for suite, loaded in self.suites.items():
            roots = {row.id: row.root or row.id for row in loaded.rows}
            for scorer in scorers:
                for truth in truths:
                    if scorer in truths:
                        continue
                    both = [
                        (mine, other, roots[mine.prompt_id])
                        for model in self.models
                        for mine, other in zip(
                            scores[scorer, model, suite].records, scores[truth, model, suite].records, strict=True
                        )
                    ]
                    yield from agreement(scorer, truth, suite, both, self.plan.bootstrap, self.seed)

    def _turning_points(
        self, samples: Mapping[tuple[str, str], Kept[Sample]], scores: Mapping[tuple[str, str, str], Kept[Score]]
    ) -> Iterator[Estimate | str]:
        """Where each scorer likes a stage's policies best, over those that were kept along its training."""
        suite = next(iter(self.suites))
        roots = {row.id: row.root or row.id for row in self.suites[suite].rows}
        for stage in self.along:
            policies = self._policies(stage)
            for scorer in dict.fromkeys(name for name, _, _ in scores):
                found = Along(
                    stage,
                    suite,
                    scorer,
                    [samples[name, suite].records for name in policies],
                    [scores[scorer, name, suite].records for name in policies],
                    from_start=policies[0] == self.plan.baseline,
                )
                yield from turning_point(found, roots, self.plan.bootstrap, self.seed)
