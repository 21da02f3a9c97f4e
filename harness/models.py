"""The starting model as a step of a run, and the card that lies beside every trained model."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .components import Artifact, Compute, Dataset, TinyBase
from .context import TRAIN_LOG, read_train_log
from .errors import UsageError
from .judges import Scorer
from .keys import digest, library_versions
from .package_files import PACKAGE, package_file
from .plan import Graph, StageNode
from .plugins import source_hash
from .records import write_text
from .store import Workspace


def base_identity(graph: Graph, texts: Callable[[], Sequence[str]]) -> dict[str, Any]:
    """Everything that the starting model depends on. Raises UsageError for a folder or package that is not there."""
    plan = graph.plan
    tiny = isinstance(plan.base, TinyBase)
    return {
        "what": "base",
        "base": plan.base.model_dump() if isinstance(plan.base, TinyBase) else plan.base,
        "revision": plan.revision,
        "trust_remote_code": plan.trust_remote_code,
        "files": None if isinstance(plan.base, TinyBase) else _files(plan.base, graph.document.folder),
        "texts": digest(texts()) if tiny else None,
        "seed": plan.seed if tiny else None,
        "source": source_hash("harness.engine.base"),
        "libraries": library_versions(),
    }


def build_base_model(graph: Graph, texts: Callable[[], Sequence[str]], work: Workspace, compute: Compute) -> dict[str, Any]:
    """Write the starting model, normalised, into the workspace; what artifact.json says of it. Raises UsageError."""
    from .engine.base import build_base

    plan = graph.plan
    spec: Any = plan.base
    if isinstance(plan.base, TinyBase):
        spec = plan.base.model_dump()
    elif (folder := _folder(plan.base, graph.document.folder)) is not None:
        spec = str(folder)
    elif plan.revision:
        spec = f"{plan.base}@{plan.revision}"
    known = build_base(spec, texts() if isinstance(plan.base, TinyBase) else (), work.output, compute, plan.seed)
    return {"parameters": parameters(work.output), **known}


def _folder(base: str, plan_folder: Path) -> Path | None:
    """The local folder or file that a base names, relative to the plan; None for a Hub id or a package."""
    if base.startswith(PACKAGE):
        return None
    path = plan_folder / Path(base).expanduser()
    if path.exists():
        return path
    if base.startswith((".", "/", "~")) or base.endswith(".gguf"):
        raise UsageError(f"base {base}: there is no such file or folder; paths count from the plan's folder")
    return None


def _files(base: str, plan_folder: Path) -> list[list[Any]] | None:
    """What tells whether the local files of a base have changed."""
    if base.startswith(PACKAGE):
        package = base.removeprefix(PACKAGE).partition("/")[0]
        for name in importlib.metadata.packages_distributions().get(package, [package]):
            try:
                return [[name, importlib.metadata.version(name)]]
            except (importlib.metadata.PackageNotFoundError, ValueError):  # ValueError: there is no name
                continue
        # A package that lies on Python's path without having been installed has no version.
        try:
            file = package_file(base)
        except ValueError as error:
            raise UsageError(f"base {base}: {error}") from error
        return [_stamp(file)]
    folder = _folder(base, plan_folder)
    if folder is None:
        return None
    paths = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    found = [_stamp(path) for path in paths if path.is_file()]
    return found + _files_below(folder / "adapter_config.json")


def _stamp(path: Path) -> list[Any]:
    return [path.name, path.stat().st_size, path.stat().st_mtime_ns]


def _files_below(adapter: Path) -> list[list[Any]]:
    """`_files` of the model that an adapter names, where it is here; peft takes a relative path from where the command runs."""
    try:
        return _files(str(json.loads(adapter.read_bytes())["base_model_name_or_path"]), Path()) or []
    except (OSError, ValueError, LookupError, TypeError, UsageError):
        return []


def parameters(folder: Path) -> int:
    """How many weights a model folder holds, read from the headers of its safetensors files."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for length in tensor["shape"]:
                    size *= length
                count += size
    return count


def write_model_card(
    graph: Graph, node: StageNode, inputs: Mapping[str, Artifact | Dataset | Scorer], output: Path
) -> dict[str, Any]:
    """Write README.md beside a trained model: data, options, metrics, lineage. Returns what artifact.json says of it."""
    last: dict[str, float] = {}
    steps = 0
    for row in read_train_log(output / TRAIN_LOG):
        steps = max(steps, row["step"])
        last |= row["values"]
    lines = [
        "---",
        "library_name: transformers",
        f"tags: [alignment-harness, {node.aligner.name}]",
        "---",
        "",
        f"# {node.name}",
        "",
        f"A {node.gives} trained by `{node.aligner.name}` ({node.aligner.plugin.distribution} "
        f"{node.aligner.plugin.version}) in the plan `{graph.plan.name}`, seed {graph.seed_of(node)}, {steps} steps.",
        "",
        "## Lineage",
        "",
        *(f"- {slot}: {_described(reference, inputs[slot])}" for slot, reference in node.fillings().items()),
        f"- starting model of the plan: `{graph.plan.base if isinstance(graph.plan.base, str) else 'tiny, from nothing'}`",
        "",
        "## Options",
        "",
        *(f"- {name}: `{value}`" for name, value in node.config.model_dump(mode="json").items()),
        "",
        "## Last logged values",
        "",
        *(f"- {name}: {value:.5g}" for name, value in sorted(last.items())),
        "",
        "## Versions",
        "",
        *(f"- {name} {version}" for name, version in library_versions().items()),
        "",
    ]
    write_text(output / "README.md", "\n".join(lines))
    return {"parameters": parameters(output), "steps": steps}


def _described(reference: str, value: Artifact | Dataset | Scorer) -> str:
    if isinstance(value, Scorer):
        given = value.config.model_dump(mode="json", exclude_none=True)
        options = "".join(f", {name} `{each}`" for name, each in given.items())
        keys = "".join(f", {option} has key {artifact.key[:12]}" for option, artifact in value.models.items())
        return f"{reference}{options}{keys}"
    if isinstance(value, Artifact):
        return f"`{reference}`, a {value.kind} (key {value.key[:12]})"
    dropped = "".join(f", {count} {reason} dropped" for reason, count in value.dropped.items())
    return f"`{reference}`, {len(value.rows)} {value.kind}{dropped} (fingerprint {value.fingerprint[:12]})"
