"""The run folder: what a run writes, and all that a report reads.

plan.yaml  plan.lock.json  run.json  events.jsonl  observations.jsonl  metrics.json  report.html
samples/<model>/<suite>.jsonl
scores/<judge>/<model>/<suite>.jsonl
judgements/<judge>/<candidate>--<baseline>/<suite>.jsonl
audit/<judge>/canaries.jsonl
replies/<judge>/…/<suite>.jsonl                          what a language model said as a judge, call by call
pairs/<reward model>/<suite>.jsonl
harm/<judge>/<model>/<suite>.jsonl
likelihoods/<model>/<suite>.jsonl
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .errors import UsageError
from .records import (
    Estimate,
    HealthVerdict,
    Judgement,
    Likelihood,
    Observation,
    PairScore,
    R,
    Record,
    Sample,
    Score,
    SeedEstimate,
    SliceEstimate,
    read_records,
)

RUNS = Path("runs")
DAMAGED = "the run folder is damaged, run the plan again"
# What reading a value of the wrong shape raises.
MISREAD = (ValueError, TypeError, LookupError, AttributeError)

T = TypeVar("T")


@dataclass(frozen=True)
class Scalar:
    """One value that a stage logged."""

    stage: str
    step: int
    name: str
    value: float


@dataclass(frozen=True)
class RunFolder:
    """Reads a run folder. Every method raises UsageError, naming the file, for what is missing or damaged."""

    path: Path

    @property
    def plan_path(self) -> Path:
        """The plan as its author wrote it."""
        return self.path / "plan.yaml"

    @property
    def report_path(self) -> Path:
        """Where the report of this run goes."""
        return self.path / "report.html"

    def run(self) -> dict[str, Any]:
        """run.json: status, host, device, timings, stages, warnings, gates, versions."""
        return self._json("run.json")

    @property
    def has_metrics(self) -> bool:
        """Whether there is a metrics.json. A run that did not get that far has none."""
        return (self.path / "metrics.json").exists()

    def lock(self) -> dict[str, Any]:
        """plan.lock.json: the plan as resolved, with every default, version and key."""
        return self._json("plan.lock.json")

    def estimates(self) -> list[Estimate]:
        """The estimates of metrics.json; none if the run did not get that far."""
        return self._estimates("estimates", Estimate)

    def seeds(self) -> list[SeedEstimate]:
        """The estimates of each training seed by itself, under the names of the plan; none where there is one seed."""
        return self._estimates("seeds", SeedEstimate)

    def slices(self) -> list[SliceEstimate]:
        """Estimates of parts of suites, where the plan asked for them."""
        return self._estimates("slices", SliceEstimate)

    def instruments(self) -> list[Estimate]:
        """How often what reads the answers for a metric, such as the detector of refusals, is right on labelled cases."""
        return self._estimates("instruments", Estimate)

    def events(self) -> Iterator[dict[str, Any]]:
        """events.jsonl, in order; a last line cut off by a kill is left out."""
        yield from self._events(None, dict)

    def scalars(self) -> Iterator[Scalar]:
        """The values that stages logged, in order."""

        def read(event: dict[str, Any]) -> list[Scalar]:
            return [Scalar(event["stage"], int(event["step"]), name, float(v)) for name, v in event["values"].items()]

        for scalars in self._events("scalars", read):
            yield from scalars

    def health(self) -> list[HealthVerdict]:
        """The health verdicts on all stages, in the order in which they were given."""
        fields = HealthVerdict.model_fields
        return list(
            self._events("health", lambda event: HealthVerdict.model_validate({name: event[name] for name in fields}))
        )

    def health_checked(self) -> dict[str, tuple[list[str], list[str]]]:
        """By stage, the health rules that could judge it, and those for which too little was logged or measured."""
        return dict(
            self._events("health_checked", lambda event: (event["stage"], ([*event["judged"]], [*event["unjudged"]])))
        )

    def observations(self) -> list[Observation]:
        """Every metric's value for every model on every prompt."""
        path = self.path / "observations.jsonl"
        return read_records(path, Observation) if path.exists() else []

    def samples(self) -> dict[tuple[str, str], list[Sample]]:
        """Answers by model and suite."""
        return self._records("samples", Sample)

    def scores(self) -> dict[tuple[str, str, str], list[Score]]:
        """Scoring judges' numbers by judge, model and suite."""
        return self._records("scores", Score)

    def judgements(self) -> dict[tuple[str, str, str], list[Judgement]]:
        """Judgements by judge, "candidate--baseline" and suite."""
        return self._records("judgements", Judgement)

    def canaries(self) -> dict[str, list[Judgement]]:
        """Judgements of canaries by judge; the `candidate` of each is the canary's name."""
        return {judge: rows for (judge, _), rows in self._records("audit", Judgement).items()}

    def pairs(self) -> dict[tuple[str, str], list[PairScore]]:
        """Scored held-out preferences by reward model and suite."""
        return self._records("pairs", PairScore)

    def harm(self) -> dict[tuple[str, str, str], list[Score]]:
        """Scores of answers to unsafe prompts by judge of harm, model and suite."""
        return self._records("harm", Score)

    def likelihoods(self) -> dict[tuple[str, str], list[Likelihood]]:
        """What models make of the chosen answers, by model and suite."""
        return self._records("likelihoods", Likelihood)

    def _records(self, kind: str, record: type[Record]) -> dict[Any, list[Any]]:
        root = self.path / kind
        return {
            path.relative_to(root).with_suffix("").parts: read_records(path, record)
            for path in sorted(root.rglob("*.jsonl"))
        }

    def _events(self, kind: str | None, read: Callable[[dict[str, Any]], T]) -> Iterator[T]:
        """What `read` makes of the events of a kind, or of all."""
        path = self.path / "events.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    continue
                try:
                    event = json.loads(line)
                except ValueError:
                    raise UsageError(f"{path}:{number}: not valid JSON; {DAMAGED}") from None
                try:
                    if kind not in (None, event["event"]):
                        continue
                    found = read(event)
                except MISREAD:
                    raise UsageError(f"{path}:{number}: not an event as a run writes it; {DAMAGED}") from None
                yield found

    def _estimates(self, part: str, kind: type[R]) -> list[R]:
        if not self.has_metrics:
            return []
        document = self._json("metrics.json")
        try:
            return [kind.model_validate(each) for each in document.get(part, ())]
        except MISREAD:
            raise UsageError(f"{self.path / 'metrics.json'}: {part}: not as a run writes it; {DAMAGED}") from None

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}; is {self.path} a run folder?") from None
        except ValueError as error:
            raise UsageError(f"{path}: not valid JSON ({error}); {DAMAGED}") from None
        if not isinstance(value, dict):
            raise UsageError(f"{path}: expected a JSON object; {DAMAGED}")
        return value


def find_run(name: str, runs: Path = RUNS) -> RunFolder:
    """The run folder that a command's RUN argument means: a folder, or `latest` for the newest one under `runs`."""
    if name != "latest":
        path = Path(name)
        if not (path / "run.json").is_file():
            raise UsageError(f"{path}: not a run folder (it has no run.json); give the folder that `harness run` printed")
        return RunFolder(path)
    found = sorted(
        (*runs.glob("*/run.json"), *runs.glob("*/*/run.json")), key=lambda path: (path.stat().st_mtime_ns, str(path))
    )
    if not found:
        raise UsageError(f"no run under {runs.resolve()}; start one with `harness run quickstart`, or name a run folder")
    return RunFolder(found[-1].parent)
