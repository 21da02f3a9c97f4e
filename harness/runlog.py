"""What a run writes about itself: run.json, always whole, and events.jsonl, as it goes."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .components import Compute
from .compute import host
from .errors import UsageError
from .events import EventLog, now
from .keys import library_versions
from .plan import BASE, Graph
from .records import Estimate, write_json, write_text
from .rundir import RunFolder

LOCK = ".lock"
"""Held in a run folder while a run writes it."""


class RunLog:
    """Keeps run.json and events.jsonl, and other runs out of the run folder until `finish`.

    `store` may lie in the run folder. Raises UsageError if the folder cannot be written, or holds another run or something else.
    """

    def __init__(self, folder: RunFolder, graph: Graph, compute: Compute, command: Sequence[str], store: Path) -> None:
        self._folder = folder.path
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self.stages: dict[str, dict[str, Any]] = {}
        self._evaluation: dict[str, dict[str, Any]] = {}
        self._trained = {BASE, *graph.stages}
        self._warnings: list[str] = []
        self._notes: set[tuple[str, str]] = set()
        self._gates: list[dict[str, Any]] = []
        self._judges: dict[str, dict[str, Any]] = {}
        self._run = {
            "name": graph.plan.name,
            "status": "running",
            "started": now(),
            "command": list(command),
            "host": host(),
            "device": compute.device,
            "precision": compute.precision,
            "threads": compute.threads,
            "versions": library_versions(),
            "git": _revision(graph.document.folder),
        }
        from filelock import FileLock, Timeout

        self._held = FileLock(self._folder / LOCK)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._held.acquire(timeout=0)
            try:
                _empty(self._folder, graph.plan.name, store)
                self._save()  # before anything else: it tells the next run that the folder is that of a run
                write_text(folder.plan_path, graph.document.text)
                self._events = EventLog(self._folder / "events.jsonl")
            except Exception:
                self._release()
                raise
        except Timeout:
            raise UsageError(f"run folder {self._folder}: another run is writing it; choose another with --out") from None
        except OSError as error:
            raise UsageError(f"run folder {self._folder}: {error.strerror}; choose another with --out") from None
        self.event("run_start", plan=graph.plan.name)

    def event(self, kind: str, **fields: Any) -> None:
        """Append an event."""
        self._events.write(kind, **fields)

    def stage(self, name: str, status: str, **about: Any) -> None:
        """Note how a stage, or a step of the evaluation, stands."""
        kept = {key: value for key, value in about.items() if key != "committed"}
        steps = self.stages if name in self._trained else self._evaluation
        with self._lock:
            steps[name] = {**steps.get(name, {}), "status": status, **kept}
            self._save()
        self.event("stage_start" if status == "running" else "stage_finish", stage=name, status=status)

    def warn(self, text: str) -> bool:
        """Note a warning; false where it was noted before."""
        if text in self._warnings:
            return False
        self._warnings.append(text)
        self.event("warning", text=text)
        return True

    def note(self, stage: str, text: str) -> bool:
        """Keep what a stage says; false where it was kept before: a judge that rewards may say it of every rollout."""
        if (stage, text) in self._notes:
            return False
        self._notes.add((stage, text))
        self.event("note", stage=stage, text=text)
        return True

    def charge(self, judge: str, calls: int, dollars: float | None) -> None:
        """Note what a judge cost in this run: calls that went out, and dollars; null where prices are not known."""
        with self._lock:
            spent = self._judges.setdefault(judge, {"calls": 0, "dollars": 0.0})
            spent["calls"] += calls
            spent["dollars"] = None if dollars is None or spent["dollars"] is None else spent["dollars"] + dollars
            self._save()

    def gate(self, text: str, status: str, estimate: Estimate | None) -> None:
        """Note whether a gate was met."""
        self._gates.append({"text": text, "status": status, "estimate": estimate.model_dump() if estimate else None})

    def write_lock(self, document: Mapping[str, Any]) -> None:
        """Write plan.lock.json."""
        write_json(self._folder / "plan.lock.json", document)

    def finish(self, status: str, error: str | None = None) -> None:
        """Note how the run ended, and what ended it."""
        self._run |= {"status": status, "finished": now(), "seconds": round(time.monotonic() - self._started, 3)}
        if error is not None:
            self._run["error"] = error
        try:
            self._save()
            self.event("run_finish", status=status)
        finally:
            self._events.close()
            self._release()

    def _release(self) -> None:
        (self._folder / LOCK).unlink(missing_ok=True)
        self._held.release()

    def _save(self) -> None:
        steps = {"stages": self.stages, "evaluation": self._evaluation, "judges": self._judges}
        write_json(self._folder / "run.json", {**self._run, **steps, "warnings": self._warnings, "gates": self._gates})


def _empty(folder: Path, plan: str, store: Path) -> None:
    """Make room for a run: remove what an earlier run of the plan left here; refuse a folder that holds anything else."""
    found = [path for path in folder.iterdir() if path.name != LOCK and not store.resolve().is_relative_to(path.resolve())]
    if not found:
        return
    if not (folder / "run.json").exists():
        raise UsageError(f"run folder {folder}: holds something else than a run; give an empty or new folder with --out")
    if (name := _plan_of(folder)) not in (None, plan):
        raise UsageError(f"run folder {folder}: holds a run of {name!r}; choose another with --out")
    for name in ("samples", "scores", "judgements", "replies", "audit", "pairs", "harm", "likelihoods", "requirements"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("plan.lock.json", "events.jsonl", "observations.jsonl", "metrics.json", "report.html"):
        (folder / name).unlink(missing_ok=True)


def _plan_of(folder: Path) -> str | None:
    """The name of the plan whose run is in a folder; None if its run.json is too damaged to tell."""
    try:
        return str(RunFolder(folder).run()["name"])
    except (UsageError, KeyError):
        return None


def _revision(folder: Path) -> str | None:
    """The git revision that the plan's folder is at, with "-dirty" if it has uncommitted changes; None outside git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
