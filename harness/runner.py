"""Runs a checked plan: trains what is not in the store yet, evaluates, and leaves a run folder that tells all of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pluggy

from .components import Aligner, Artifact, Compute
from .compute import compute_warnings
from .context import TRAIN_LOG, PeakMemory, RunningStage, read_train_log
from .data import DataSets
from .errors import GateError, HarnessError, Interrupted, StageError, out_of_space
from .evaluation.evaluate import Evaluation
from .evaluation.pairs import pair_estimates
from .evaluation.suites import load_suites
from .health import Monitor, independent_judges, rules_of
from .judges import JudgeContext
from .keys import library_versions
from .lock import Input, compute_identity, lock_document, stage_identity, stage_inputs
from .models import base_identity, build_base_model, write_model_card
from .overlap import overlap_warnings
from .plan import BASE, Gate, Graph, StageNode, matching
from .plugins import Plugins, Registry
from .progress import Progress, counted, duration
from .records import Estimate, HealthVerdict, SeedEstimate
from .rundir import RunFolder
from .runlog import RunLog
from .store import Replies, Result, Store, Workspace

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


@dataclass
class Run:
    """One run of a plan. `execute` does all of it and returns the exit status."""

    graph: Graph
    registry: Registry
    plugins: Plugins
    store: Store
    folder: RunFolder
    compute: Compute
    progress: Progress
    command: Sequence[str] = ()
    only: frozenset[str] = frozenset()
    fresh: bool = False
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    reused: dict[str, bool] = field(default_factory=dict)
    health: dict[str, Monitor] = field(default_factory=dict)

    def execute(self) -> int:
        """Run the plan. Returns 0, or the status of what went wrong. Raises HarnessError for what stops the whole run.

        The run folder is finished, and the plugins told, whatever happens, except after Ctrl-C.
        """
        self.data = DataSets(self.graph)
        self.log = RunLog(self.folder, self.graph, self.compute, self.command, self.store.root)
        try:
            status = self._carry_out()
        except KeyboardInterrupt:
            self.log.finish("interrupted")
            again = "without --fresh to go on where it stopped" if self.fresh else "and it goes on where it stopped"
            raise Interrupted(f"interrupted; run the same command again, {again}") from None
        except Exception as error:
            told = self._cause(error)
            try:
                self._finish("failed", _in_words(told))
            except Exception as second:  # what ended the run is what has to go up
                self.progress.say(f"no report: {_in_words(self._cause(second))}")
            if told is error:
                raise
            raise told from None
        try:
            self._finish({0: "done", GateError.status: "gated"}.get(status, "failed"))
        except Exception as error:
            told = self._cause(error)
            if told is error:
                raise
            raise told from None
        return status

    def _cause(self, error: Exception) -> Exception:
        """What to tell of an error: that the disk is full or a result of the store damaged, where it comes of that; else itself."""
        if out_of_space(error):
            text = f"no space left for {self.folder.path}; free some, run the same command again, and it goes on where it stopped"
            return error if isinstance(error, HarnessError) else StageError(text)
        damaged = self.store.altered()
        return StageError(f"{damaged}; the store is damaged there, --fresh computes it again") if damaged else error

    def _carry_out(self) -> int:
        self.store.note_run(self.folder.path)
        for text in (*self.graph.warnings, *compute_warnings(self.compute)):
            self.warn(text)
        if not self.only:
            self.suites = load_suites(self.graph, self.data)
            for text in overlap_warnings(self.graph, self.data, self.suites):
                self.warn(text)
        self._stages()
        estimates = self._evaluate()
        gates = self._gates(estimates)
        computed = sum(not reused for reused in self.reused.values())
        lost = f"; {counted(len(self.failed), 'stage')} did not finish" if self.failed else ""
        self.progress.say(
            f"reused {len(self.reused) - computed} of {len(self.reused)} steps, computed {computed or 'nothing'}{lost}"
        )
        if any(stage["status"] == "failed" for stage in self.log.stages.values()):
            return StageError.status
        return 0 if all(gates) and not self.failed else GateError.status

    def _finish(self, ended: str, error: str | None = None) -> None:
        for name, monitor in self.health.items():
            judged, unjudged = monitor.checked()
            if judged or unjudged:
                self.log.event("health_checked", stage=name, judged=judged, unjudged=unjudged)
        self.log.finish(ended, error)
        self.plugins.hook.harness_run_finish(run=self.folder, say=self.progress.say)

    def warn(self, text: str) -> None:
        """Warn the user, here and in the report, once."""
        if self.log.warn(text):
            self.progress.say(f"warning: {text}")

    # --- stages -----------------------------------------------------------------------------------------------------------

    def _stages(self) -> None:
        wanted = self._wanted()
        for text in self._data_counts(wanted):
            self.progress.say(text)
        lock = lock_document(self.graph, self.registry, self.data, self.compute)
        self.log.write_lock(lock)

        def on_halved(reason: str) -> None:
            self.warn(reason)
            self.log.write_lock(lock | {"token_budget": {"halvings": self.compute.memory.halvings, "last": reason}})

        self.compute.memory.on_halved = on_halved
        answering = {*self.graph.models(), *(best.model for best in self.graph.best_of_n.values())}
        if any(BASE in self.graph.stages[name].made_from() for name in wanted) or BASE in answering:
            self._base()
        for name in wanted:
            node = self.graph.stages[name]
            if reason := self._blocked(node):
                self._skip(node, reason)
                continue
            try:
                self._stage(node)
            except Exception as error:
                told = self._cause(error)
                reason = _in_words(told)
                self.failed[name] = reason
                self.log.stage(name, status="failed", reason=reason, aligner=node.aligner.name)
                self.plugins.hook.harness_stage_finish(stage=name, status="failed", seconds=0.0)
                self.progress.say(f"{name}: failed: {reason}")
                if not isinstance(told, HarnessError):
                    raise

    def _wanted(self) -> list[str]:
        if not self.only:
            return list(self.graph.stages)
        named = [name for name, node in self.graph.stages.items() if {name, node.copy_of} & self.only]
        needed = {each for name in named for each in (name, *self.graph.ancestors(name))}
        return [name for name in self.graph.stages if name in needed]

    def _data_counts(self, wanted: Iterable[str]) -> Iterable[str]:
        """Read the data of the wanted stages and say what was dropped."""
        told = set()
        for name in wanted:
            for reference in self.graph.stages[name].slots.values():
                if reference.partition(".")[0] in self.graph.data:
                    dropped = self.data.get(reference).dropped
                    source = reference.partition(".")[0]
                    if dropped and source not in told:
                        told.add(source)
                        yield f"data {source}: dropped " + ", ".join(
                            f"{count} {reason}" for reason, count in dropped.items()
                        )

    def _base(self) -> None:
        texts = self.data.texts
        identity = base_identity(self.graph, texts)
        result = self.produce(BASE, identity, lambda work: build_base_model(self.graph, texts, work, self.compute))
        if result.about.get("template_added") and isinstance(self.graph.plan.base, str):
            self.warn(
                f"base {self.graph.plan.base}: it has no chat template, so prompts are put into this one: `<|user|>`, the text, "
                "`<|assistant|>`, a line each. Save its tokenizer with a chat_template to train it in another."
            )
        self.artifacts[BASE] = Artifact(BASE, "model", result.path, str(result.about["key"]))

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
        estimates = pair_estimates(self, gate.model, self.data.get(reference))
        self._health_of_evaluated(estimates)
        found = matching(gate, estimates, None)
        if len(found) != 1:
            known = ", ".join(sorted({each.metric for each in estimates}))
            return f"requires {gate}: {'several' if found else 'no'} such estimate on {reference}; there are {known}"
        estimate = found[0]
        if gate.holds(estimate):
            return None
        return f"requires {gate}, and it is {_measured(estimate)} on {reference}"

    def _skip(self, node: StageNode, reason: str) -> None:
        self.failed[node.name] = reason
        self.log.stage(node.name, status="skipped", reason=reason, aligner=node.aligner.name)
        self.plugins.hook.harness_stage_finish(stage=node.name, status="skipped", seconds=0.0)
        self.progress.say(f"{node.name}: skipped: {reason}")

    def _stage(self, node: StageNode) -> None:
        def note(text: str) -> None:
            self.progress.say(f"{node.name}: {text}")
            self.log.event("note", stage=node.name, text=text)

        def context(name: str, compute: Compute) -> JudgeContext:
            # It is asked at every step: what it says is no warning each time, and the progress shown is the stage's.
            given, _ = self.judge_context(name)
            return replace(given, compute=compute, note=note, progress=lambda *_: None)

        inputs = stage_inputs(node, self.artifacts, self.data, context)
        identity = stage_identity(self.graph, node, inputs, self.compute)
        monitor = self.health[node.name] = self._monitor(node)
        result = self.produce(
            node.name,
            identity,
            lambda work: self._train(node, inputs, work, monitor),
            replay=lambda result: self._replay(node.name, result, monitor),
            aligner=node.aligner.name,
        )
        reference = inputs.get("init")
        self.artifacts[node.name] = Artifact(
            node.name,
            node.gives,
            result.path,
            str(result.about["key"]),
            reference if isinstance(reference, Artifact) and node.gives == "model" else None,
        )

    def _train(self, node: StageNode, inputs: Mapping[str, Input], work: Workspace, monitor: Monitor) -> Mapping[str, Any]:
        hook = self.plugins.hook
        hook.harness_stage_start(stage=node.name, aligner=node.aligner.name)
        self.log.stage(node.name, status="running", aligner=node.aligner.name)

        def on_log(step: int, values: Mapping[str, float], total: int | None, again: bool) -> None:
            self.log.event("scalars", stage=node.name, step=step, values=values)
            if not again:
                self.progress.update(step, total, values)
            hook.harness_stage_log(stage=node.name, step=step, values=values, total=total)

        def on_note(text: str) -> None:
            self.progress.say(f"{node.name}: {text}")
            self.log.event("note", stage=node.name, text=text)

        def keep(what: str, identity: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
            about = {
                "what": what,
                "component": node.aligner.identity(),
                "compute": compute_identity(self.compute),
                "libraries": library_versions(),
                **identity,
            }
            result = self.store.produce(about, lambda work: build(work.output), fresh=self.fresh)
            kept[what] = str(result.about["key"])
            return result.path

        kept: dict[str, str] = {}
        context = RunningStage(node.name, self.graph.seed_of(node), self.compute, work, on_log, on_note, keep, monitor)
        job = StageJob(node.name, node.aligner.component, node.config, inputs)
        if not hook.harness_run_stage(stage=job, context=context):
            raise StageError(f"stage {node.name!r}: no plugin ran it")
        if not (work.output / "config.json").exists():
            raise StageError(f"stage {node.name!r}: {node.aligner.name} saved no model; this is an error of its plugin")
        context.finish()
        card = write_model_card(self.graph, node, inputs, work.output)
        return {"earlier_seconds": context.earlier_seconds, **({"kept": kept} if kept else {}), **card}

    def _replay(self, name: str, result: Result, monitor: Monitor) -> None:
        """Tell a finished stage's scalars again, and judge them as if it trained now."""
        for row in read_train_log(result.path / TRAIN_LOG):
            self.log.event("scalars", stage=name, step=row["step"], values=row["values"])
            monitor.log(row["step"], row["values"], row.get("total"))
        monitor.finish()

    # --- health -----------------------------------------------------------------------------------------------------------

    def _monitor(self, node: StageNode) -> Monitor:
        rules = rules_of(node.aligner.component, self.registry.rules)
        return Monitor(node.name, rules, self._verdict, stop=self.graph.plan.health == "stop")

    def _verdict(self, verdict: HealthVerdict) -> None:
        """Record a verdict, and tell the user in one line."""
        self.log.event("health", **verdict.model_dump())
        kind = "health" if verdict.level == "warning" else "note"
        self.progress.say(f"{verdict.stage}: {kind}: {verdict.text} (healthy: {verdict.threshold}). {verdict.advice}")

    def _health_of_evaluated(self, estimates: Sequence[Estimate], by_seed: Sequence[SeedEstimate] = ()) -> None:
        """Judge what was measured of the stages' models; a stage that was trained with several seeds, by its own seed."""
        evaluate = self.graph.plan.evaluate
        baseline = evaluate.baseline if evaluate else None
        for name, monitor in self.health.items():
            node, mine = self.graph.stages[name], estimates
            if by_seed:
                own = [e for e in by_seed if (e.model, e.training_seed) == (node.copy_of or name, node.seed)]
                mine = [each.model_copy(update={"model": name}) for each in own]
            monitor.evaluate(mine, baseline, independent_judges(self.graph, name, estimates))

    # --- evaluation -------------------------------------------------------------------------------------------------------

    def _evaluate(self) -> list[Estimate]:
        if self.graph.plan.evaluate is None or self.only:
            return []
        estimates = Evaluation(self).estimates()
        self._health_of_evaluated(estimates, self.folder.seeds())
        return estimates

    def _gates(self, estimates: Sequence[Estimate]) -> list[bool]:
        evaluate = self.graph.plan.evaluate
        if self.only or evaluate is None:
            return []
        results = []
        for gate in self.graph.plan.require:
            found = matching(gate, estimates, evaluate.baseline)
            if len(found) != 1:
                status = "missing"
                text = f"gate {gate}: {'several estimates match' if found else 'there is no such estimate'}"
            else:
                status = "pass" if gate.holds(found[0]) else "fail"
                text = f"gate {gate}: {status}, {_measured(found[0])}"
            self.log.gate(str(gate), status, found[0] if len(found) == 1 else None)
            self.progress.say(text)
            results.append(status == "pass")
        return results

    def judge_context(self, judge: str, suite: str | None = None) -> tuple[JudgeContext, Replies]:
        """What a judge is given, and the replies that it uses of those in the store."""
        replies = self.store.replies()

        def note(text: str) -> None:
            self.warn(f"judge {judge!r}{f' on {suite}' if suite else ''}: {text}")

        def charge(calls: int, dollars: float | None) -> None:
            self.log.charge(judge, calls, dollars)

        context = JudgeContext(
            compute=self.compute,
            judge=judge,
            suite=suite,
            folder=self.graph.document.folder,
            cache=replies,
            note=note,
            progress=self.progress.update,
            charge=charge,
        )
        return context, replies

    # --- the store --------------------------------------------------------------------------------------------------------

    def produce(
        self,
        name: str,
        identity: Mapping[str, Any],
        build: Callable[[Workspace], Mapping[str, Any] | None],
        replay: Callable[[Result], None] = lambda _: None,
        **about: Any,
    ) -> Result:
        """A result from the store, built if it is not there, with its time and memory; tells the user which of the two.

        `replay` is called with one that was there, before it is used.
        """

        def measured(work: Workspace) -> Mapping[str, Any]:
            self.progress.start(name)
            started = time.monotonic()
            with PeakMemory(self.compute.device) as memory:
                extra = dict(build(work) or {})
            seconds = round(extra.pop("earlier_seconds", 0.0) + time.monotonic() - started, 3)
            held = {"peak_memory_bytes": memory.bytes}
            if memory.device_bytes is not None:
                held["peak_device_memory_bytes"] = memory.device_bytes
            return {"seconds": seconds, **held, **extra, "libraries": library_versions()}

        result = self.store.produce(
            identity,
            measured,
            fresh=self.fresh,
            waiting=lambda: self.progress.say(f"{name}: another run is computing it; waiting for it"),
        )
        if result.reused:
            replay(result)
        status = "reused" if result.reused else "done"
        seconds = float(result.about.get("seconds", 0))
        said = {key: value for key, value in result.about.items() if key not in {"identity", "libraries", "files"}}
        self.log.stage(name, status=status, **about, **said)
        trained = name in self.graph.stages
        if trained:
            self.plugins.hook.harness_stage_finish(stage=name, status=status, seconds=seconds)
        if trained or not result.reused:
            self.progress.say(f"{name}: reused" if result.reused else f"{name}: done in {duration(seconds)}")
        self.reused[name] = result.reused
        return result

    def copy(self, source: Path, *parts: str) -> None:
        """Copy a file of the store into the run folder, to these parts of a path."""
        target = self.folder.path.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not source.exists():
            raise StageError(f"{source}: is missing; the store is damaged there, --fresh computes it again")
        shutil.copyfile(source, target)


def _measured(estimate: Estimate) -> str:
    """A value with its interval, as a gate compares them."""
    interval = f"{100 * estimate.level:g}% interval {estimate.low:.3g} to {estimate.high:.3g}"
    return f"{estimate.value:.3g}, {interval}, n = {estimate.n}"


def _in_words(error: Exception) -> str:
    """An error in one line: of a bug, its kind as well."""
    return str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}".strip()
