"""Records of an evaluation: kept in the store, copied into the run folder, read when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic

from ..components import Evidence, Metric
from ..keys import library_versions
from ..plan import MetricNode
from ..plugins import source_hash
from ..records import Observation, R, read_records, write_records
from ..store import Result, Workspace

if TYPE_CHECKING:
    from ..runner import Run

RECORDS = "records.jsonl"


class Kept(Generic[R]):
    """Records in the store, read when they are first looked at."""

    def __init__(self, result: Result, kind: type[R]) -> None:
        self.key = str(result.about["key"])
        self._path = result.path / RECORDS
        self._kind = kind

    @cached_property
    def records(self) -> list[R]:
        """The records."""
        return list(read_records(self._path, self._kind))


def keep(
    run: Run, parts: Sequence[str], identity: Mapping[str, Any], build: Callable[[], Iterable[R]], kind: type[R]
) -> Kept[R]:
    """The records that `identity` describes, built if need be; `parts` is their path in the run folder."""
    fixed = {"step": source_hash("harness.evaluation.steps"), "libraries": library_versions()}

    def write(work: Workspace) -> None:
        write_records(work.output / RECORDS, build())

    name = "/".join(parts)
    result = run.produce(name, {"what": parts[0], "name": name, **fixed, **identity}, write)
    run.copy(result.path / RECORDS, *parts[:-1], f"{parts[-1]}.jsonl")
    return Kept(result, kind)


def observe(node: MetricNode, evidence: Iterable[Evidence]) -> Iterator[Observation]:
    """The observations of the measures that the plan asks for, each with the model that its evidence compares with."""
    metric: Metric = node.metric.component()
    wanted = {measure.name for measure in node.measures}
    for each in evidence:
        found = (found for found in metric.observe(each, metric.Config()) if found.metric in wanted)
        yield from found if each.baseline is None else (o.model_copy(update={"baseline": each.baseline}) for o in found)
