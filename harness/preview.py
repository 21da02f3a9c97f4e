"""What `harness check` shows of a plan before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from .audit import CANARY_PROMPTS, NEW_QUESTIONS
from .components import Artifact, Compute
from .compute import compute_warnings, resolve_compute
from .data import DataSets
from .evaluation.suites import LoadedSuite, load_suites
from .evaluation.trainings import Trainings
from .judges import Workload
from .keys import digest
from .lock import stage_identity, stage_inputs
from .models import base_identity, build_base_model
from .overlap import overlap_warnings
from .plan import BASE, Graph
from .plan.model import Evaluate
from .progress import counted
from .records import Preference, PromptRow
from .store import Store

POWER = 0.8
"""The probability with which a difference is to be found, by convention."""


class Preview:
    """A plan, its data and its store, looked at without training. Raises DataError or UsageError for data that cannot be read."""

    def __init__(self, graph: Graph, store: Store) -> None:
        self.graph = graph
        self.store = store
        self.data = DataSets(graph)
        self.compute: Compute = resolve_compute(graph.plan)

    @cached_property
    def suites(self) -> dict[str, LoadedSuite]:
        """The plan's suites."""
        return load_suites(self.graph, self.data)

    def warnings(self) -> Iterator[str]:
        """What a reader of the numbers must know; reads all data."""
        yield from self.graph.warnings
        yield from overlap_warnings(self.graph, self.data, self.suites)
        yield from compute_warnings(self.compute)

    def outline(self) -> Iterator[str]:
        """One line per stage: what fills its slots, and whether the store has it; then data and evaluation."""
        plan, compute = self.graph.plan, self.compute
        stages, threads = counted(len(self.graph.stages), "stage"), counted(compute.threads, "thread")
        yield f"{plan.name}: {stages} on {compute.device}, {compute.precision}, {threads}"
        cached = self.cached()
        width = max(map(len, self.graph.stages))
        for name, node in self.graph.stages.items():
            slots = ", ".join(f"{slot}={reference}" for slot, reference in node.fillings().items())
            requires = "".join(f" requires {gate}" for gate in node.requires)
            state = "in the store" if name in cached else "to train"
            yield f"  {name:<{width}}  {node.aligner.name}({slots}){requires} → {node.gives} [{state}]"
        for node in self.graph.stages.values():
            for reference in node.slots.values():
                if self.data.has(reference):
                    self.data.get(reference)
        for reference, dataset in self.data.loaded().items():
            dropped = "".join(f", {count} dropped: {reason}" for reason, count in dataset.dropped.items())
            roots = len({row.root for row in dataset.rows})
            unread = f"; not read: {', '.join(dataset.unread)}" if dataset.unread else ""
            yield f"  data {reference}: {len(dataset.rows)} {dataset.kind}, {roots} roots{dropped}{unread}"
        if evaluate := plan.evaluate:
            judges = ", ".join(self.graph.judges) or "none"
            if self.graph.harm:
                judges += f"; of harm: {', '.join(self.graph.harm)}"
            seeds = f" with training seeds {', '.join(map(str, plan.seeds))}" if plan.seeds else ""
            yield f"  evaluate {', '.join(evaluate.candidates)} against {evaluate.baseline} on {', '.join(evaluate.suites)}{seeds}"
            yield f"  judges: {judges}; metrics: {', '.join(evaluate.metrics)}"
            for name, suite in self.suites.items():
                clusters = [row.root or row.id for row in suite.rows]
                power = _power(clusters, evaluate.bootstrap.level) if self.graph.judges else ""
                yield f"  suite {name}: {len(clusters)} prompts{power}"
            yield from self._forecasts(evaluate, self.suites)

    def _forecasts(self, evaluate: Evaluate, suites: Mapping[str, LoadedSuite]) -> Iterator[str]:
        """What each judge that costs something would cost."""
        folder = self.graph.document.folder
        prompts = {name: [row.messages() for row in suite.rows] for name, suite in suites.items()}
        first, trainings = next(iter(prompts)), Trainings(self.graph)
        workload = Workload(
            prompts=prompts,
            comparisons=len(trainings.comparisons()),
            models=len(trainings.models()),
            answer_tokens=evaluate.generate.max_new_tokens,
            canaries={first: prompts[first][:CANARY_PROMPTS] * NEW_QUESTIONS},
            # The last policy that a stage keeps is its model.
            along=sum(getattr(node.config, "checkpoints", 0) - 1 for node in self.graph.along()),
        )
        unsafe = {name: [row.messages() for row in suite.rows if row.expect == "refuse"] for name, suite in suites.items()}
        for judges, load in (
            (self.graph.judges, workload),
            (self.graph.harm, replace(workload, prompts=unsafe, canaries={}, along=0)),
        ):
            for name, node in judges.items():
                if text := node.judge.component().forecast(node.config, folder, load):
                    yield f"  judge {name}: {text}"

    def cached(self) -> dict[str, Artifact]:
        """The models that the store has already, by stage; what builds on one that it has not is not there either."""
        found: dict[str, Artifact] = {}
        base = self.store.get(digest(base_identity(self.graph, self.data.texts)))
        if base is not None:
            found[BASE] = Artifact(BASE, "model", base.path, str(base.about["key"]))
        for name, node in self.graph.stages.items():
            if not all(each in found or self.data.has(each) for each in node.made_from()):
                continue
            inputs = stage_inputs(node, found, self.data)
            result = self.store.get(digest(stage_identity(self.graph, node, inputs, self.compute)))
            if result is not None:
                found[name] = Artifact(name, node.gives, result.path, str(result.about["key"]))
        return found

    def examples(self) -> Iterator[str]:
        """The first row of each stage's data as its aligner sees it: tokens, and which of them carry the loss.

        Opens the starting model's tokenizer, and puts the model into the store if it is not there yet.
        """
        from .engine.models import load_tokenizer

        identity = base_identity(self.graph, self.data.texts)
        base = self.store.produce(
            identity,
            lambda work: (
                {"seconds": 0.0, "peak_memory_bytes": 0} | build_base_model(self.graph, self.data.texts, work, self.compute)
            ),
        )
        tokenizer = load_tokenizer(base.path, trust_remote_code=self.compute.trust_remote_code)
        for name, node in self.graph.stages.items():
            reference = node.slots.get("data")
            if reference is None:
                continue
            yield f"{name}: the first row of {reference}; «tokens that carry the loss», | between tokens"
            for part, ids, learned in _tokenized(self.data.get(reference).rows[0], node, tokenizer):
                yield f"  {part}: {_marked(tokenizer, ids, learned)}"


def _tokenized(row: PromptRow, node: Any, tokenizer: Any) -> Iterator[tuple[str, Sequence[int], int]]:
    """Each part of a row: what it is, its token ids, and where in it the loss begins."""
    from .engine.chat import encode_answer, encode_prompt, fit, tokenize_preferences

    longest = node.config.max_length
    answers = {field: str(text) for field in ("answer", "chosen", "rejected") if (text := getattr(row, field, None))}
    learned = getattr(node.config, "answers", None)
    if "reward" in node.fillings() or not answers:
        prompt = encode_prompt(tokenizer, row.prompt)
        yield "prompt, to be answered by the policy", prompt, len(prompt)
        return
    if isinstance(row, Preference) and learned is None:
        pairs, counts = tokenize_preferences([row], tokenizer, longest)
        for pair in pairs:
            cut = ", cut to fit" if counts.get("truncated") else ""
            yield f"prompt{cut}, shared by both answers", pair.prompt_ids, len(pair.prompt_ids)
            for part, ids in (("chosen", pair.chosen_ids), ("rejected", pair.rejected_ids)):
                yield (part, ids, 0) if node.gives == "model" else (f"{part}, scored at its last token", ids, len(ids) - 1)
        if not pairs:
            prompt = encode_prompt(tokenizer, row.prompt)
            yield f"the pair is over max_length {longest}, dropped", prompt, len(prompt)
        return
    if learned == "chosen":
        answers.pop("rejected", None)
    for part, text in answers.items():
        answer = encode_answer(tokenizer, text)
        fitted = fit(tokenizer, row.prompt, len(answer), longest)
        if fitted is None:
            yield f"{part}: over max_length {longest}, dropped", answer, len(answer)
            continue
        yield part, [*fitted.ids, *answer], len(fitted.ids)


def _marked(tokenizer: Any, ids: Sequence[int], start: int) -> str:
    """Tokens as text, the learned ones in guillemets."""
    texts = [tokenizer.decode([each]).replace("\n", "⏎") for each in ids]
    quiet, learned = "|".join(texts[:start]), "|".join(texts[start:])
    return f"{quiet}«{learned}»" if learned else quiet


def _power(roots: Sequence[str], level: float) -> str:
    """Which win rate the prompts of these roots can tell from ½; siblings are taken for copies."""
    from . import stats

    clusters = stats.Clusters.of(roots)
    independent = stats.copies_size(clusters)
    worth = f", worth at least {independent:.3g} independent ones" if clusters.count < clusters.n else ""
    far = stats.detectable_win_rate(independent, level=level, power=POWER)
    if far is None:
        return f"{worth}: too few to tell any win rate from 0.5"
    return f"{worth}: a win rate of at least 0.5 ± {far:.2g} would be found with power {POWER:g}"


def preview(graph: Graph, store: Path) -> Preview:
    """Look at a plan with the store in that folder."""
    return Preview(graph, Store(store))
