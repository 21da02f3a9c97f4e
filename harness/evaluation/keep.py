"""Records of an evaluation: kept in the store, copied into the run folder, read when they are looked at."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic

from ..keys import digest_rows, library_versions
from ..metrics import Evidence, Metric
from ..plan import MetricNode
from ..plugins import source_hash
from ..records import Observation, R, read_records, write_records, write_text
from ..store import Replies, Result, Workspace

if TYPE_CHECKING:
    from ..runner import Run

RECORDS = "records.jsonl"
REPLIES = "replies.jsonl"


class Records(list[R]):
    """Records, and whether they are final: another try would make the same ones."""

    def __init__(self, records: Iterable[R], final: bool = True) -> None:
        super().__init__(records)
        self.final = final


class _Unfinished(Exception):
    """Records that another try may better; raised so that the store does not take them for the result."""

    def __init__(self, records: list[Any], seconds: float) -> None:
        super().__init__()
        self.records = records
        self.seconds = seconds


class Kept(Generic[R]):
    """Records in the store, read when they are first looked at."""

    def __init__(self, result: Result, kind: type[R]) -> None:
        self.key = str(result.about["key"])
        self.final = "unfinished" not in result.about["identity"]
        self._path = result.path / RECORDS
        self._kind = kind

    @cached_property
    def records(self) -> list[R]:
        """The records."""
        return read_records(self._path, self._kind)


def keep(
    run: Run,
    parts: Sequence[str],
    identity: Mapping[str, Any],
    build: Callable[[], Iterable[R]],
    kind: type[R],
    replies: Replies | None = None,
) -> Kept[R]:
    """The records that `identity` describes, built if need be; `parts` is their path in the run folder.

    Records that are not final are kept under what they are, and not under what they were to be: what is made of them has a key
    of its own, and the next run builds them anew. `replies` are what a judge used; they are kept beside the records, and lie
    under replies/ in the run folder.
    """
    fixed = {"step": source_hash("harness.evaluation.steps"), "libraries": library_versions()}
    name = "/".join(parts)
    whole = {"what": parts[0], "name": name, **fixed, **identity}

    def write(work: Workspace, records: Iterable[R]) -> None:
        write_records(work.output / RECORDS, records)
        if replies is not None and replies.used:
            lines = (json.dumps({"key": key, **document}, ensure_ascii=False) for key, document in replies.used.items())
            write_text(work.output / REPLIES, "".join(f"{line}\n" for line in lines))

    def first(work: Workspace) -> None:
        started = time.monotonic()
        records = build()
        if isinstance(records, Records) and not records.final:
            raise _Unfinished(records, time.monotonic() - started)
        write(work, records)

    def second(work: Workspace) -> dict[str, Any]:
        write(work, unfinished.records)
        return {"seconds": round(unfinished.seconds, 3)}

    try:
        result = run.produce(name, whole, first)
    except _Unfinished as caught:
        unfinished = caught
        result = run.produce(name, {**whole, "unfinished": digest_rows(caught.records)}, second)
    run.copy(result.path / RECORDS, *parts[:-1], f"{parts[-1]}.jsonl")
    if (result.path / REPLIES).exists():
        run.copy(result.path / REPLIES, "replies", *parts[1:-1], f"{parts[-1]}.jsonl")
    return Kept(result, kind)


def observe(node: MetricNode, evidence: Iterable[Evidence]) -> Iterator[Observation]:
    """The observations of the measures that the plan asks for, each with the model that its evidence compares with."""
    metric: Metric = node.metric.component()
    wanted = {measure.name for measure in node.measures}
    for each in evidence:
        found = (found for found in metric.observe(each, metric.Config()) if found.metric in wanted)
        yield from found if each.baseline is None else (o.model_copy(update={"baseline": each.baseline}) for o in found)
