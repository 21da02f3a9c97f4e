"""Runs a checked plan: trains what is not in the store yet, evaluates, and leaves a run folder that tells all of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .components import Artifact, Compute
from .compute import compute_warnings
from .context import PeakMemory
from .data import DataSets
from .errors import GateError, HarnessError, Interrupted, StageError, in_words, out_of_space
from .evaluation.evaluate import Evaluation
from .evaluation.suites import load_suites
from .judges import JudgeContext
from .keys import library_versions
from .overlap import overlap_warnings
from .plan import Graph, interval_text, matching
from .plugins import Plugins, Registry
from .progress import Progress, counted, duration
from .records import Estimate
from .rundir import RunFolder
from .runlog import RunLog
from .stages import Stages
from .store import Replies, Result, Store, Workspace


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
    reused: dict[str, bool] = field(default_factory=dict)

    def execute(self) -> int:
        """Run the plan. Returns 0, or the status of what went wrong. Raises HarnessError for what stops the whole run.

        The run folder is finished, and the plugins told, whatever happens, except after Ctrl-C.
        """
        self.data = DataSets(self.graph)
        self.log = RunLog(self.folder, self.graph, self.compute, self.command, self.store.root)
        self.stages = Stages(self)
        try:
            status = self._carry_out()
        except KeyboardInterrupt:
            self.log.finish("interrupted")
            again = "without --fresh to go on where it stopped" if self.fresh else "and it goes on where it stopped"
            raise Interrupted(f"interrupted; run the same command again, {again}") from None
        except Exception as error:
            told = self.cause(error)
            try:
                self._finish("failed", in_words(told))
            except Exception as second:  # what ended the run is what has to go up
                self.progress.say(f"no report: {in_words(self.cause(second))}")
            if told is error:
                raise
            raise told from None
        try:
            self._finish({0: "done", GateError.status: "gated"}.get(status, "failed"))
        except Exception as error:
            told = self.cause(error)
            if told is error:
                raise
            raise told from None
        return status

    def cause(self, error: Exception) -> Exception:
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
        self.stages.train()
        estimates = self._evaluate()
        gates = self._gates(estimates)
        computed = sum(not reused for reused in self.reused.values())
        lost = f"; {counted(len(self.stages.failed), 'stage')} did not finish" if self.stages.failed else ""
        self.progress.say(
            f"reused {len(self.reused) - computed} of {len(self.reused)} steps, computed {computed or 'nothing'}{lost}"
        )
        if any(stage["status"] == "failed" for stage in self.log.stages.values()):
            return StageError.status
        return 0 if all(gates) and not self.stages.failed else GateError.status

    def _finish(self, ended: str, error: str | None = None) -> None:
        self.stages.tell_checked()
        self.log.finish(ended, error)
        self.plugins.hook.harness_run_finish(run=self.folder, say=self.progress.say)

    def warn(self, text: str) -> None:
        """Warn the user, here and in the report, once."""
        if self.log.warn(text):
            self.progress.say(f"warning: {text}")

    # --- evaluation -------------------------------------------------------------------------------------------------------

    def _evaluate(self) -> list[Estimate]:
        if self.graph.plan.evaluate is None or self.only:
            return []
        estimates = Evaluation(self).estimates()
        self.stages.judge_health(estimates, self.folder.seeds())
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
                text = f"gate {gate}: {status}, {interval_text(found[0])}"
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
