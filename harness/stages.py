"""Trains the stages of a run: those that are wanted, in the order of the graph, what is not in the store yet."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from .components import Aligner, Artifact, Compute
from .context import TRAIN_LOG, RunningStage, read_train_log
from .errors import HarnessError, StageError, in_words
from .evaluation.pairs import pair_estimates
from .health import Monitor, independent_judges, rules_of
from .judges import JudgeContext
from .keys import library_versions
from .lock import Input, compute_identity, lock_document, stage_identity, stage_inputs
from .models import base_identity, build_base_model, write_model_card
from .plan import BASE, Gate, StageNode, interval_text, matching
from .records import Estimate, HealthVerdict, SeedEstimate
from .store import Result, Workspace

if TYPE_CHECKING:
    from .runner import Run

hookimpl = pluggy.HookimplMarker("harness")


@dataclass(frozen=True)
class StageJob:
    """A stage that is ready to train: its aligner, its options, and the artifacts, data sets and judges in its slots."""

    name: str
    aligner: type[Aligner]
    config: Any
    inputs: Mapping[str, Input]


class InProcess:
    """The built-in way to execute a stage: here and now."""

    @hookimpl(trylast=True)
    def harness_run_stage(self, stage: StageJob, context: RunningStage) -> bool:
        """Run the aligner in this process. Raises StageError, also where the device's memory runs out."""
        try:
            stage.aligner().run(stage.config, stage.inputs, context)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch's: the core does not import it
                raise
            raise StageError(
                f"stage {stage.name!r}: out of memory on {context.compute.device}; lower per_device_train_batch_size (and raise "
                "gradient_accumulation_steps as much, where the aligner reads it: the result stays the same), or set "
                "args: {activation_checkpointing: true}, or lora"
            ) from None
        return True


class Stages:
    """The stages of `run`: makes their artifacts, and judges their health. `failed` says why a stage did not finish."""

    def __init__(self, run: Run) -> None:
        self.run, self.graph = run, run.graph
        self.failed: dict[str, str] = {}
        self.monitors: dict[str, Monitor] = {}

    def train(self) -> None:
        """Train what is wanted and not in the store, in the graph's order; a stage that fails takes those that build on it along.

        So does one in whose training a bug shows, once its traceback has been told; a bug around it is raised.
        """
        wanted = self._wanted()
        for text in self._data_counts(wanted):
            self.run.progress.say(text)
        lock = lock_document(self.graph, self.run.registry, self.run.data, self.run.compute)
        self.run.log.write_lock(lock)

        def on_halved(reason: str) -> None:
            self.run.warn(reason)
            self.run.log.write_lock(lock | {"token_budget": {"halvings": self.run.compute.memory.halvings, "last": reason}})

        self.run.compute.memory.on_halved = on_halved
        answering = {*self.graph.models(), *(best.model for best in self.graph.best_of_n.values())}
        if any(BASE in self.graph.stages[name].made_from() for name in wanted) or BASE in answering:
            self._base()
        for name in wanted:
            node = self.graph.stages[name]
            if reason := self._blocked(node):
                self._lose(node, "skipped", reason)
                continue
            try:
                self._stage(node)
            except Exception as error:
                told = self.run.cause(error)
                self._lose(node, "failed", in_words(told))
                if not isinstance(told, HarnessError):
                    raise

    def _wanted(self) -> list[str]:
        if not self.run.only:
            return list(self.graph.stages)
        named = [name for name, node in self.graph.stages.items() if {name, node.copy_of} & self.run.only]
        needed = {each for name in named for each in (name, *self.graph.ancestors(name))}
        return [name for name in self.graph.stages if name in needed]

    def _data_counts(self, wanted: Iterable[str]) -> Iterable[str]:
        """Read the data of the wanted stages and say what was dropped."""
        told = set()
        for name in wanted:
            for reference in self.graph.stages[name].slots.values():
                if reference.partition(".")[0] in self.graph.data:
                    dropped = self.run.data.get(reference).dropped
                    source = reference.partition(".")[0]
                    if dropped and source not in told:
                        told.add(source)
                        yield f"data {source}: dropped " + ", ".join(
                            f"{count} {reason}" for reason, count in dropped.items()
                        )

    def _base(self) -> None:
        texts = self.run.data.texts
        identity = base_identity(self.graph, texts)
        result = self.run.produce(BASE, identity, lambda work: build_base_model(self.graph, texts, work, self.run.compute))
        if result.about.get("template_added") and isinstance(self.graph.plan.base, str):
            self.run.warn(
                f"base {self.graph.plan.base}: it has no chat template, so prompts are put into this one: `<|user|>`, the text, "
                "`<|assistant|>`, a line each. Save its tokenizer with a chat_template to train it in another."
            )
        self.run.artifacts[BASE] = Artifact(BASE, "model", result.path, str(result.about["key"]))

    def _blocked(self, node: StageNode) -> str | None:
        """Why a stage cannot run: an input that failed, or a requirement that was not met."""
        for name in self.graph.inputs(node.name):
            if name in self.failed:
                return f"it builds on {name!r}, which did not finish"
        for gate in node.requires:
            if reason := self._unmet(gate):
                return reason
        return None

    def _unmet(self, gate: Gate) -> str | None:
        stage = self.graph.stages[gate.model]
        reference = stage.slots["valid"]
        estimates = pair_estimates(self.run, gate.model, self.run.data.get(reference))
        self.judge_health(estimates)
        found = matching(gate, estimates, None)
        if len(found) != 1:
            known = ", ".join(sorted({each.metric for each in estimates}))
            return f"requires {gate}: {'several' if found else 'no'} such estimate on {reference}; there are {known}"
        estimate = found[0]
        if gate.holds(estimate):
            return None
        return f"requires {gate}, and it is {interval_text(estimate)} on {reference}"

    def _lose(self, node: StageNode, status: str, reason: str) -> None:
        self.failed[node.name] = reason
        self.run.log.stage(node.name, status=status, reason=reason, aligner=node.aligner.name)
        self.run.plugins.hook.harness_stage_finish(stage=node.name, status=status, seconds=0.0)
        self.run.progress.say(f"{node.name}: {status}: {reason}")

    def _stage(self, node: StageNode) -> None:
        def context(name: str, compute: Compute) -> JudgeContext:
            # It is asked at every step: what it says is no warning each time, and the progress shown is the stage's.
            given, _ = self.run.judge_context(name)
            return replace(given, compute=compute, note=partial(self._note, node.name), progress=lambda *_: None)

        inputs = stage_inputs(node, self.run.artifacts, self.run.data, context)
        identity = stage_identity(self.graph, node, inputs, self.run.compute)
        monitor = self.monitors[node.name] = self._monitor(node)
        result = self.run.produce(
            node.name,
            identity,
            lambda work: self._train(node, inputs, work, monitor),
            replay=lambda result: self._replay(node.name, result, monitor),
            aligner=node.aligner.name,
        )
        reference = inputs.get("init")
        self.run.artifacts[node.name] = Artifact(
            node.name,
            node.gives,
            result.path,
            str(result.about["key"]),
            reference if isinstance(reference, Artifact) and node.gives == "model" else None,
        )

    def _train(self, node: StageNode, inputs: Mapping[str, Input], work: Workspace, monitor: Monitor) -> Mapping[str, Any]:
        hook = self.run.plugins.hook
        hook.harness_stage_start(stage=node.name, aligner=node.aligner.name)
        self.run.log.stage(node.name, status="running", aligner=node.aligner.name)

        def on_log(step: int, values: Mapping[str, float], total: int | None, again: bool) -> None:
            self.run.log.event("scalars", stage=node.name, step=step, values=values)
            if not again:
                self.run.progress.update(step, total, values)
            hook.harness_stage_log(stage=node.name, step=step, values=values, total=total)

        def keep(what: str, identity: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
            about = {
                "what": what,
                "component": node.aligner.identity(),
                "compute": compute_identity(self.run.compute),
                "libraries": library_versions(),
                **identity,
            }
            result = self.run.store.produce(about, lambda work: build(work.output), fresh=self.run.fresh)
            kept[what] = str(result.about["key"])
            return result.path

        kept: dict[str, str] = {}
        context = RunningStage(
            node.name,
            self.graph.seed_of(node),
            self.run.compute,
            work,
            on_log,
            partial(self._note, node.name),
            keep,
            monitor,
        )
        job = StageJob(node.name, node.aligner.component, node.config, inputs)
        try:
            ran = hook.harness_run_stage(stage=job, context=context)
        except Exception as error:
            if isinstance(self.run.cause(error), HarnessError):
                raise
            self.run.progress.say("".join(traceback.format_exception(error)).rstrip())
            raise StageError(f"stage {node.name!r}: {in_words(error)}; a bug, whose traceback was shown") from error
        if not ran:
            raise StageError(f"stage {node.name!r}: no plugin ran it")
        if not (work.output / "config.json").exists():
            raise StageError(f"stage {node.name!r}: {node.aligner.name} saved no model; this is an error of its plugin")
        context.finish()
        card = write_model_card(self.graph, node, inputs, work.output)
        return {"earlier_seconds": context.earlier_seconds, **({"kept": kept} if kept else {}), **card}

    def _note(self, stage: str, text: str) -> None:
        if self.run.log.note(stage, text):
            self.run.progress.say(f"{stage}: {text}")

    def _replay(self, name: str, result: Result, monitor: Monitor) -> None:
        """Tell a finished stage's scalars again, and judge them as if it trained now."""
        for row in read_train_log(result.path / TRAIN_LOG):
            self.run.log.event("scalars", stage=name, step=row["step"], values=row["values"])
            monitor.log(row["step"], row["values"], row.get("total"))
        monitor.finish()

    # --- health -----------------------------------------------------------------------------------------------------------

    def _monitor(self, node: StageNode) -> Monitor:
        rules = rules_of(node.aligner.component, self.run.registry.rules)
        return Monitor(node.name, rules, self._verdict, stop=self.graph.plan.health == "stop")

    def _verdict(self, verdict: HealthVerdict) -> None:
        """Record a verdict, and tell the user in one line."""
        self.run.log.event("health", **verdict.model_dump())
        kind = "health" if verdict.level == "warning" else "note"
        self.run.progress.say(f"{verdict.stage}: {kind}: {verdict.text} (healthy: {verdict.threshold}). {verdict.advice}")

    def judge_health(self, estimates: Sequence[Estimate], by_seed: Sequence[SeedEstimate] = ()) -> None:
        """Judge what was measured of the stages' models; a stage that was trained with several seeds, by its own seed."""
        evaluate = self.graph.plan.evaluate
        baseline = evaluate.baseline if evaluate else None
        for name, monitor in self.monitors.items():
            node, mine = self.graph.stages[name], estimates
            if by_seed:
                own = [e for e in by_seed if (e.model, e.training_seed) == (node.copy_of or name, node.seed)]
                mine = [each.model_copy(update={"model": name}) for each in own]
            monitor.evaluate(mine, baseline, independent_judges(self.graph, name, estimates))

    def tell_checked(self) -> None:
        """Record which rules have judged each stage, and which found nothing to judge."""
        for name, monitor in self.monitors.items():
            judged, unjudged = monitor.checked()
            if judged or unjudged:
                self.run.log.event("health_checked", stage=name, judged=judged, unjudged=unjudged)
