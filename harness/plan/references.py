"""What the names in a plan stand for: data by their split, and the models that stages give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import hint
from .graph import BASE, DataNode, Slot
from .problems import Problems, Where

if TYPE_CHECKING:
    from .model import Plan

MODELS = {"model", "reward-model"}


class References:
    """Looks names up, and notes those that stand for nothing, or for the wrong kind of thing.

    Data and stages that the plan names but that are wrong in themselves have been told of: what names them has no problem.
    """

    def __init__(self, problems: Problems, plan: Plan, data: Mapping[str, DataNode]) -> None:
        self.problems = problems
        self.data_nodes = data
        self.kinds: dict[str, str] = {BASE: "model"}
        values = problems.document.values
        self.data_names = {*plan.data, *_keys(values.get("data"))}
        self.stage_names = {BASE, *plan.stages, *_keys(values.get("stages"))}

    def data(self, reference: str, path: Where) -> str | None:
        """The kind of the rows that a reference such as `hh.train` stands for; None if it is not known."""
        name, _, split = reference.partition(".")
        if name not in self.data_names:
            self.problems.add(path, f"no data named {name!r}{hint(name, self.data_names)}")
        elif name in self.data_nodes:
            splits = self.data_nodes[name].config.split
            parts = ", ".join(f"{name}.{each}" for each in splits)
            if split and split not in splits:
                known = hint(split, splits) if splits else "; it has no `split`"
                self.problems.add(path, f"data {name!r} has no split {split!r}{known}")
            elif splits and not split:
                self.problems.add(path, f"data {name!r} is split; say which part: {parts}")
            else:
                return self.data_nodes[name].kind
        return None

    def stage(self, name: str, path: Where) -> str | None:
        """The kind of model that `base` or a stage gives; None if it is not known."""
        if name not in self.stage_names:
            variants = self._variants(name)
            known = hint(name, sorted(self.stage_names))
            self.problems.add(path, variants or f"no stage named {name!r}{known}")
        return self.kinds.get(name)

    def _variants(self, name: str) -> str | None:
        """What to name instead of a stage that the sweep made into several; None if it did not."""
        document = self.problems.document
        made = sorted(each for each in self.stage_names if document.origin(("stages", each)) == ("stages", name))
        if not made:
            return None
        swept = any(str(key).startswith(f"{name}.") for key in document.values.get("sweep") or {})
        why = "is swept" if swept else "builds on a swept stage"
        return f"{name!r} {why}; name one of {', '.join(made[:6])}{', …' if len(made) > 6 else ''}"

    def fits(self, reference: Any, slot: Slot, path: Where) -> bool:
        """Whether a slot's reference exists and is of a kind that fits."""
        wanted = " or ".join(slot.kinds)
        if not isinstance(reference, str):
            self.problems.add(path, f"expected the name of a {wanted}, not {reference!r}")
            return False
        takes_models = not MODELS.isdisjoint(slot.kinds)
        is_data = reference not in self.stage_names and (not takes_models or reference.partition(".")[0] in self.data_names)
        kind = self.data(reference, path) if is_data else self.stage(reference, path)
        if kind is not None and not slot.accepts(kind):
            what = f"data of kind {kind}" if is_data else f"a {kind}"
            self.problems.add(path, f"{reference!r} is {what}, and this slot takes a {wanted}")
        return kind is not None and slot.accepts(kind)


def _keys(section: Any) -> list[str]:
    return list(section) if isinstance(section, Mapping) else []
