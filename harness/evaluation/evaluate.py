"""Models → samples → scores and judgements → observations → estimates, each kept in the store and copied into the run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..audit import failed_canaries
from ..judges import ScoringJudge
from ..keys import digest_rows, library_versions
from ..metrics import Evidence, Measure
from ..plan import ESTIMATES, JudgeNode
from ..plan.labels import read_labels
from ..plugins import source_hash
from ..records import (
    Estimate,
    Judgement,
    Observation,
    Score,
    SliceEstimate,
    write_json,
    write_records,
)
from ..store import Workspace
from ..trajectory import along, split
from .audit import AuditEvidence, audit_estimates
from .estimates import adjusted, agreement, make_estimates, validated
from .keep import Kept, observe
from .overoptimisation import Along, turning_point
from .pairs import keep_pairs
from .recorder import Recorded, Recorder
from .slices import slice_estimates
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
        self.suites = run.suites
        self.trainings = Trainings(run.graph)
        answering = [name for name in self.trainings.models() if self._answers(name)]
        self.answering = [name for name in answering if self._comparable(name, answering)]
        self.models = [name for name in run.graph.models() if name in self.answering]
        self.compared = [pair for pair in self.trainings.comparisons() if set(pair) <= set(self.answering)]
        self.comparisons = [pair for pair in run.graph.comparisons() if pair in self.compared]
        self.judges = {name: node for name, node in run.graph.judges.items() if self._ready(node)}
        self.harm = {name: node for name, node in run.graph.harm.items() if self._ready(node)}
        self.scopes = {node.metric.component.scope for node in run.graph.metrics}
        trained = {name: run.artifacts[name] for name in self.models if name in run.artifacts}
        self.along = {name: found for name, artifact in trained.items() if (found := along(artifact))}
        kept_along = {each.name: each for found in self.along.values() for each in found}
        self.recorder = Recorder(run, self.suites, {**run.artifacts, **kept_along})

    def estimates(self) -> list[Estimate]:
        """Every estimate of the plan; observations.jsonl and metrics.json are written into the run folder."""
        if self.plan.baseline not in self.models:
            self.run.warn(f"nothing was compared: the baseline {self.plan.baseline!r} did not finish")
            self.answering, self.models, self.compared, self.comparisons, self.along = [], [], [], [], {}
        return self._estimates(self._recorded())

    def _recorded(self) -> Recorded:
        """All records of the models that did finish."""
        make, first = self.recorder, next(iter(self.suites))
        samples = {(model, suite): make.samples(model, suite) for suite in self.suites for model in self.answering}
        samples |= {(each.name, first): make.samples(each.name, first) for found in self.along.values() for each in found}
        scorers = {name: node for name, node in self.judges.items() if issubclass(node.judge.component, ScoringJudge)}
        scores = {
            (name, *where): make.scores(node, *where, answers)
            for name, node in {**scorers, **self._audited(scorers)}.items()
            for where, answers in samples.items()
        }
        sides = [samples[model, first] for pair in self.comparisons[:1] for model in pair]
        return Recorded(
            samples,
            scores,
            judgements={
                (name, candidate, baseline, suite): make.judgements(node, candidate, baseline, suite, samples, scores)
                for name, node in self.judges.items()
                for candidate, baseline in self.compared
                for suite in self.suites
            },
            references={name: make.reference(node) for name, node in scorers.items()} if self.models else {},
            pairs={
                (model, name): keep_pairs(self.run, model, name, suite.preferences, suite.preferences_fingerprint)
                for name, suite in self.suites.items()
                for model in self.trainings.reward_models()
                if model in self.run.artifacts and suite.preferences
            },
            likelihoods={
                (model, name): make.likelihoods(model, name)
                for name, suite in self.suites.items()
                for model in self.answering
                if "likelihoods" in self.scopes and suite.preferences and model in self.run.artifacts
            },
            harm={
                (name, *where): make.harm(node, *where, answers)
                for name, node in self.harm.items()
                for where, answers in samples.items()
                if "harm" in self.scopes and where[0] in self.answering
            },
            canaries={name: make.canaries(node, first, sides) for name, node in self.judges.items()} if sides else {},
        )

    def _answers(self, model: str) -> bool:
        """Whether there are answers of a model: its stage, or those that make the best of n, did finish."""
        best = self.run.graph.best_of_n.get(model)
        lost = [name for name in ((best.model, best.reward) if best else (model,)) if name not in self.run.artifacts]
        if best and lost:
            self.run.warn(f"{model!r} was left out: {lost[0]!r} did not finish")
        return not lost

    def _comparable(self, model: str, answering: Sequence[str]) -> bool:
        """Whether there are answers of a baseline of the model, too; of the plan's own it is told elsewhere."""
        baselines = self.trainings.baselines(model)
        found = any(baseline in answering for baseline in baselines)
        if not found and self.plan.baseline not in baselines:
            self.run.warn(f"{model!r} was left out: its baseline {baselines[0]!r} did not finish")
        return found

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

    def _audit(self, recorded: Recorded) -> Iterator[Estimate | str]:
        """What the judgements show of the judges themselves; with several training seeds, those of the first."""
        if not recorded.canaries:
            return
        by_judge: dict[tuple[str, str], list[Judgement]] = {}
        for (judge, *pair, suite), kept in recorded.judgements.items():
            if tuple(pair) in self.comparisons:
                by_judge.setdefault((judge, suite), []).extend(kept.records)
        evidence = AuditEvidence(
            judgements=by_judge,
            canaries={judge: kept.records for judge, kept in recorded.canaries.items()},
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

    def _estimates(self, recorded: Recorded) -> list[Estimate]:
        run, metrics = self.run, self.run.graph.metrics
        identity = {
            "what": "estimates",
            "records": recorded.keys(),
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
            observations = list(self._observations(recorded))
            write_records(work.output / "observations.jsonl", observations)
            measures = {m.name: (m, node.metric.component.scope) for node in metrics for m in node.measures}
            options = (measures, self.plan.baseline, self.plan.bootstrap, self.seed)
            made = [
                *adjusted(make_estimates(observations, *options), measures),
                *self._agreement(recorded.scores),
                *self._turning_points(recorded),
                *self._audit(recorded),
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

        result = run.produce(ESTIMATES, identity, build)
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

    def _observations(self, recorded: Recorded) -> Iterator[Observation]:
        """What each metric sees in the evidence of its scope."""
        rows = {name: {row.id: row for row in suite.rows} for name, suite in self.suites.items()}
        samples, scores, harm, likelihoods = recorded.samples, recorded.scores, recorded.harm, recorded.likelihoods

        def against(model: str) -> list[str]:
            return [baseline for baseline in self.trainings.baselines(model) if baseline in self.answering]

        def answers(model: str, suite: str, baseline: str) -> Evidence:
            return Evidence(
                model=self.trainings.observed(model, baseline),
                suite=suite,
                rows=rows[suite],
                samples=samples[model, suite].records,
                baseline_samples=samples[baseline, suite].records if model != baseline else (),
            )

        for node in self.run.graph.metrics:
            scope = node.metric.component.scope
            found: Iterator[Evidence]
            if scope == "samples":
                found = (answers(model, suite, baseline) for model, suite in samples for baseline in against(model))
            elif scope == "scores":
                found = (
                    replace(
                        answers(model, suite, baseline),
                        judge=judge,
                        scores=scores[judge, model, suite].records,
                        baseline_scores=scores[judge, baseline, suite].records if model != baseline else (),
                        scale=self._scale(judge),
                        reference_scores=[row.score for row in kept.records if row.score is not None] if kept else (),
                    )
                    for judge, model, suite, kept in self._scored(recorded)
                    for baseline in against(model)
                )
            elif scope == "judgements":
                found = (
                    replace(answers(candidate, suite, baseline), judge=judge, baseline=baseline, judgements=kept.records)
                    for (judge, candidate, baseline, suite), kept in recorded.judgements.items()
                )
            elif scope == "harm":
                found = (
                    replace(
                        answers(model, suite, baseline),
                        judge=judge,
                        scores=kept.records,
                        baseline_scores=harm[judge, baseline, suite].records if model != baseline else (),
                        scale=self.harm[judge].judge.component.scale,
                    )
                    for (judge, model, suite), kept in harm.items()
                    for baseline in against(model)
                )
            elif scope == "likelihoods":
                found = (
                    replace(
                        answers(model, suite, baseline),
                        likelihoods=kept.records,
                        baseline_likelihoods=likelihoods[baseline, suite].records if model != baseline else (),
                    )
                    for (model, suite), kept in likelihoods.items()
                    for baseline in against(model)
                )
            else:
                found = (
                    Evidence(model, suite, rows[suite], pairs=kept.records)
                    for (model, suite), kept in recorded.pairs.items()
                )
            yield from map(self.trainings.of_plan, observe(node, found))

    def _scored(self, recorded: Recorded) -> Iterator[tuple[str, str, str, Kept[Score] | None]]:
        """Scorer, model, suite and reference scores: of every judge that scores, and of what a watched stage learned from."""
        for (judge, kept), (model, suite) in itertools.product(recorded.references.items(), recorded.samples):
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

    def _turning_points(self, recorded: Recorded) -> Iterator[Estimate | str]:
        """Where each scorer likes a stage's policies best, over those that were kept along its training."""
        suite = next(iter(self.suites))
        roots = {row.id: row.root or row.id for row in self.suites[suite].rows}
        for stage in self.along:
            policies = self._policies(stage)
            for scorer in dict.fromkeys(name for name, _, _ in recorded.scores):
                found = Along(
                    stage,
                    suite,
                    scorer,
                    [recorded.samples[name, suite].records for name in policies],
                    [recorded.scores[scorer, name, suite].records for name in policies],
                    from_start=policies[0] == self.plan.baseline,
                )
                yield from turning_point(found, roots, self.plan.bootstrap, self.seed)
