"""Models → samples → scores and judgements → observations → estimates, each kept in the store and copied into the run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..audit import failed_canaries
from ..components import Artifact, Evidence, ScoringJudge
from ..errors import StageError
from ..keys import digest_rows, library_versions
from ..lock import compute_identity, judge_identity
from ..plan import JudgeNode, held_out
from ..plan.labels import read_labels
from ..plugins import source_hash
from ..records import (
    Estimate,
    Judgement,
    Observation,
    PairScore,
    Preference,
    Sample,
    Score,
    write_json,
    write_records,
)
from ..store import Workspace
from .audit import AuditEvidence, audit_estimates
from .canaries import canaries, judge_canaries
from .estimates import adjusted, agreement, make_estimates
from .keep import Kept, Records, keep, observe
from .pairs import keep_pairs
from .suites import load_suite
from .temperature import fit_temperature

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
        self.suites = {name: load_suite(name, suite, run.data, folder) for name, suite in plan.suites.items()}
        self.models = [name for name in run.graph.models() if name in run.artifacts]
        self.comparisons = [pair for pair in run.graph.comparisons() if set(pair) <= set(self.models)]
        self.judges = {name: node for name, node in run.graph.judges.items() if self._ready(node)}
        self._judging: dict[str, Any] = {}

    def estimates(self) -> list[Estimate]:
        """Every estimate of the plan; observations.jsonl and metrics.json are written into the run folder."""
        if self.plan.baseline not in self.models:
            self.run.warn(f"nothing was compared: the baseline {self.plan.baseline!r} did not finish")
            self.models, self.comparisons = [], []
        samples = {(model, suite): self._samples(model, suite) for suite in self.suites for model in self.models}
        scorers = {name: node for name, node in self.judges.items() if issubclass(node.judge.component, ScoringJudge)}
        scores = {
            (name, *where): self._scores(node, *where, answers)
            for name, node in {**scorers, **self._audited(scorers)}.items()
            for where, answers in samples.items()
        }
        judgements = {
            (name, candidate, baseline, suite): self._judgements(node, candidate, baseline, suite, samples, scores)
            for name, node in self.judges.items()
            for candidate, baseline in self.comparisons
            for suite in self.suites
        }
        references = {name: self._reference(node) for name, node in scorers.items()} if self.models else {}
        pairs = {
            (model, name): keep_pairs(self.run, model, name, suite.preferences, suite.preferences_fingerprint)
            for name, suite in self.suites.items()
            for model in self.run.graph.reward_models()
            if model in self.run.artifacts and suite.preferences
        }
        found = self._canaries(samples) if self.comparisons else {}
        kept = [
            *samples.values(), *scores.values(), *judgements.values(), *references.values(), *pairs.values(),
            *found.values(),
        ]  # fmt: skip
        keys = [each.key for each in kept if each]
        return self._estimates(keys, found, samples, scores, judgements, references, pairs)

    def _ready(self, node: JudgeNode) -> bool:
        lost = [name for name in node.models.values() if name not in self.run.artifacts]
        if lost:
            self.run.warn(f"judge {node.name!r} was left out: {lost[0]!r} did not finish")
        return not lost

    def _audited(self, scorers: Mapping[str, JudgeNode]) -> dict[str, JudgeNode]:
        """Reward models that judge nothing, but can be held against a judge that needs no model, such as a known truth."""
        entry = self.run.registry.get("judge", "reward-model")
        if entry is None or not self.models or all(node.models for node in scorers.values()):
            return {}
        used = {model for node in scorers.values() for model in node.models.values()}
        return {
            name: JudgeNode(name, entry, entry.component.Config(model=name), {"model": name})
            for name in self.run.graph.reward_models()
            if name in self.run.artifacts and name not in used and name not in scorers
        }

    # --- records ----------------------------------------------------------------------------------------------------------

    def _samples(self, model: str, suite: str) -> Kept[Sample]:
        artifact, loaded, options = self.run.artifacts[model], self.suites[suite], self.plan.generate
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

        def build() -> list[Sample]:
            from .steps import sample_answers

            return sample_answers(artifact, loaded, backend.component(), options, self.seed, self.run.compute)

        return keep(self.run, ("samples", model, suite), identity, build, Sample)

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
        (model,) = node.models.values()
        reference = held_out(self.run.graph, node)
        assert reference is not None  # the plan was checked
        data = self.run.data.get(reference)
        preferences = [row for row in data.rows if isinstance(row, Preference)]
        pairs = keep_pairs(self.run, model, reference, preferences, data.fingerprint)
        if not pairs.records:
            raise StageError(f"judge {node.name!r}: no pair of {reference} fits into {model!r}; it has no temperature")
        return fit_temperature([each.chosen_score - each.rejected_score for each in pairs.records])

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
        for (judge, _, _, suite), kept in judgements.items():
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
            "people": digest_rows(self._people()),
            **self._families(),
            "baseline": self.plan.baseline,
            "bootstrap": self.plan.bootstrap.model_dump(mode="json"),
            "seed": self.seed,
            "source": [source_hash("harness.evaluation.evaluate"), source_hash("harness.stats")],
            "libraries": library_versions(),
        }

        def build(work: Workspace) -> None:
            observations = list(self._observations(*evidence))
            write_records(work.output / "observations.jsonl", observations)
            measures = {m.name: (m, node.metric.component.scope) for node in metrics for m in node.measures}
            made = [
                *adjusted(
                    make_estimates(observations, measures, self.plan.baseline, self.plan.bootstrap, self.seed), measures
                ),
                *self._agreement(evidence[1]),
                *self._audit(evidence[2], canaries),
            ]
            estimates = [each.model_dump() for each in made if isinstance(each, Estimate)]
            skipped = [each for each in made if isinstance(each, str)]
            write_json(work.output / "metrics.json", {"estimates": estimates, "skipped": skipped})

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

    def _observations(
        self,
        samples: Mapping[tuple[str, str], Kept[Sample]],
        scores: Mapping[tuple[str, str, str], Kept[Score]],
        judgements: Mapping[tuple[str, str, str, str], Kept[Judgement]],
        references: Mapping[str, Kept[Score] | None],
        pairs: Mapping[tuple[str, str], Kept[PairScore]],
    ) -> Iterator[Observation]:
        """What each metric sees in the evidence of its scope."""
        rows = {name: {row.id: row for row in suite.rows} for name, suite in self.suites.items()}
        base = self.plan.baseline

        def answers(model: str, suite: str, baseline: str = base) -> Evidence:
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
                        baseline_scores=scores[judge, base, suite].records if model != base else (),
                        scale=self.judges[judge].judge.component.scale,
                        reference_scores=[row.score for row in kept.records if row.score is not None] if kept else (),
                    )
                    for judge, kept in references.items()
                    for model, suite in samples
                )
            elif scope == "judgements":
                found = (
                    replace(answers(candidate, suite, baseline), judge=judge, baseline=baseline, judgements=kept.records)
                    for (judge, candidate, baseline, suite), kept in judgements.items()
                )
            else:
                found = (Evidence(model, suite, rows[suite], pairs=kept.records) for (model, suite), kept in pairs.items())
            yield from observe(node, found)

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
