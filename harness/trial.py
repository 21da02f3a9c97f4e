"""Trying what a package's plugins add: each is imported alone, and a small plan of the toy world uses all of it, twice.

The second time every stage, and then the evaluation, has a process of its own and finds what came before in the store. So what
depends on anything but the plan, such as on a generator that another stage has seeded, gives other results.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from .audit import failed_canaries
from .errors import UsageError, hint
from .plan.graph import Slot
from .plugins import Entry, Plugin
from .rundir import RunFolder
from .session import Session

HEAVY = ("torch", "transformers", "trl", "datasets", "peft", "scipy", "matplotlib")
"""What takes long to import, and every command imports every plugin."""

POLICY, REWARD, TRUTH = "trial-sft", "trial-reward", "trial-truth"
SLOTS: Mapping[str, Any] = {
    "model": "base",
    "reward-model": REWARD,
    "scoring-judge": {"judge": "toy-truth"},
    "preferences": "toy.train",
    "prompts": "toy.train",
}
"""What fills a slot of each kind. The toy world has no conversations."""

SHORT: Mapping[str, Any] = {"max_steps": 4, "per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": 1e-3}


@dataclass(frozen=True)
class Trial:
    """What a trial found: a line about each plugin and each of its components, and what is wrong."""

    lines: Sequence[str]
    problems: Sequence[str]


def plugins_of(session: Session, package: str) -> list[Plugin]:
    """The plugins of an installed package. Raises UsageError for a package that is not installed, or has none."""
    found = [each for each in session.plugins.found if canonicalize_name(each.distribution) == canonicalize_name(package)]
    if found:
        return found
    if Path(package).is_dir():
        raise UsageError(f"{package} is a folder: install it with pip install -e {package}, and give the package's name")
    try:
        importlib.metadata.distribution(package)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        known = sorted({each.distribution for each in session.plugins.found})
        raise UsageError(f"no package {package!r} is installed{hint(package, known)}") from None
    left_out = session.plugins.left_out
    raise UsageError(
        f"{package}: its plugins are left out, or it has none; left out: {', '.join(left_out)}"
        if left_out
        else f'{package}: has no entry point in the group "harness"; docs/plugins.md shows one'
    )


def try_plugins(session: Session, plugins: Sequence[Plugin]) -> Trial:
    """Import the plugins alone, and run a plan that uses what they add, at once and step by step."""
    hooks = {plugin: _hooks(session, plugin) for plugin in plugins}
    lines = [f"plugin {each.name} ({each.module}): {', '.join(found) or 'no hook'}" for each, found in hooks.items()]
    problems = [problem for each, found in hooks.items() for problem in _loading_problems(each, found)]
    if not any(hooks.values()):
        return Trial(lines, problems)
    entries = [entry for _, entry in sorted(session.registry.entries.items()) if entry.plugin in plugins]
    reasons = {_named(entry): reason for entry in entries if (reason := _untried(entry))}
    used = [entry for entry in entries if _named(entry) not in reasons]
    plan = plan_using(used)
    with tempfile.TemporaryDirectory(prefix="harness-trial-") as folder:
        first, second = (Path(folder, name) for name in ("first", "second"))
        for place, steps in ((first, [[]]), (second, [*(["--only", stage] for stage in plan["stages"]), []])):
            place.mkdir()
            (place / "plan.yaml").write_text(json.dumps(plan, indent=1), encoding="utf-8")
            for options in steps:
                if failure := _failure(place, options, session.plugins.left_out):
                    return Trial([*lines, *_not_tried(reasons)], [*problems, failure])
        lines += [f"{_named(entry)}: {_seen(entry, RunFolder(first / 'out'))}" for entry in used]
        if difference := _difference(first, second):
            problems.append(difference)
        else:
            lines.append("once more, each step in a process of its own: the same models, answers and numbers")
    return Trial([*lines, *_not_tried(reasons)], problems)


def plan_using(entries: Sequence[Entry]) -> dict[str, Any]:
    """A plan of the toy world with every one of these components in it. What else it takes is built in, and trained first."""
    aligners, judges, metrics, backends = (
        [entry for entry in entries if entry.kind == kind] for kind in ("aligner", "judge", "metric", "backend")
    )
    models = [each.name for each in aligners if each.component.gives == "model"] or [POLICY]
    filled = [value for each in (*aligners, *judges) for value in _filled(each).values()]
    stages: dict[str, Any] = {}
    if POLICY in models:
        stages[POLICY] = {"aligner": "sft", "init": "base", "data": "toy.train", **SHORT}
    if REWARD in filled or any(each.component.scope == "pairs" for each in metrics):
        stages[REWARD] = {"aligner": "reward", "init": "base", "data": "toy.train", **SHORT}
    stages |= {each.name: {"aligner": each.name, **_filled(each), **_short(each)} for each in aligners}
    asked = {TRUTH: {"judge": "toy-truth"}}
    asked |= {each.name: {"judge": each.name, **_filled(each)} for each in judges}
    asked |= {
        f"by-{each.name}": {"judge": "reward-model", "model": each.name} for each in aligners if each.name not in models
    }
    return {
        "name": "trial",
        "seed": 1,
        "base": {
            "type": "tiny",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "vocab_size": 300,
        },
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "data": {"toy": {"source": "toy", "pairs": 80, "split": {"train": 0.6, "test": 0.4}}},
        "stages": stages,
        "evaluate": {
            "baseline": "base",
            "candidates": models,
            "suites": {"heldout": {"data": "toy.test", "limit": 12}},
            "generate": {"max_new_tokens": 12, **({"backend": backends[0].name} if backends else {})},
            "judges": asked,
            "metrics": [each.name for each in metrics] or ["win-rate"],
            "bootstrap": {"resamples": 200},
        },
    }


def _hooks(session: Session, plugin: Plugin) -> list[str]:
    module = session.plugins.manager.get_plugin(plugin.name)
    return sorted(each.name for each in session.plugins.manager.get_hookcallers(module) or ()) if module else []


def _loading_problems(plugin: Plugin, hooks: Sequence[str]) -> Iterator[str]:
    """What is wrong with a plugin's module, and with how long it takes to import."""
    if plugin.error:
        yield f"{plugin.module} could not be loaded: {plugin.error}"
        return
    if not hooks:
        yield f"{plugin.module} has no function with the name of a hook behind @harness.hookimpl, so it adds nothing"
    program = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"
    module = plugin.module.partition(":")[0]
    alone = subprocess.run([sys.executable, "-c", program, module], capture_output=True, text=True, check=False)
    if heavy := sorted(set(HEAVY) & set(alone.stdout.split())):
        yield f"{module} imports {', '.join(heavy)} as it is loaded, which every command waits for; import inside of `run`"


def _untried(entry: Entry) -> str | None:
    """Why the trial's plan cannot use a component; None where it can."""
    if entry.kind == "source":
        return "a source is tried by a plan that reads with it"
    if getattr(entry.component, "scope", None) == "harm":
        return "it needs a judge of harm, which the toy world has not"
    takes = getattr(entry.component, "takes", {})
    for slot, text in takes.items():
        if not Slot.parse(text).optional and _filling(text) is None:
            return f"nothing in the toy world fits its slot `{slot}`"
    fields = entry.component.Config.model_fields
    needed = [name for name, each in fields.items() if each.is_required() and name not in takes]
    return f"the option `{needed[0]}` has no default" if needed else None


def _filling(text: str) -> Any:
    return next((SLOTS[kind] for kind in Slot.parse(text).kinds if kind in SLOTS), None)


def _filled(entry: Entry) -> dict[str, Any]:
    """The slots of a component that cannot be left out, with what the toy world has for them."""
    takes = getattr(entry.component, "takes", {})
    return {slot: _filling(text) for slot, text in takes.items() if not Slot.parse(text).optional}


def _short(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in SHORT.items() if name in entry.component.Config.model_fields}


def _failure(folder: Path, options: Sequence[str], left_out: Sequence[str]) -> str | None:
    """Run the plan in a folder; how that ended, with what it said, unless all went well."""
    without = [text for name in left_out for text in ("--no-plugin", name)]
    run = ["run", "plan.yaml", "--out", "out", "--store", "store", *options]
    command = [sys.executable, "-m", "harness", *without, *run]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    return f"a run with it ended with status {done.returncode}:\n{done.stderr.strip()}" if done.returncode else None


def _seen(entry: Entry, run: RunFolder) -> str:
    """What a component did in a run."""
    if entry.kind == "aligner":
        steps = run.run()["stages"][entry.name].get("steps")
        return f"trained for {steps} steps" if steps else "trained"
    if entry.kind == "judge":
        rows = [each for (judge, *_), found in run.judgements().items() if judge == entry.name for each in found]
        reasons = {each.reason for each in rows if each.preference is None}
        judged = sum(each.preference is not None for each in rows)
        failed = [f"{canary.says} ({canary.metric})" for canary, _ in failed_canaries(run.estimates(), entry.name)]
        unscored = [f"unscored: {reason}" for reason in sorted(map(str, reasons))]
        return "; ".join([f"judged {judged} of {len(rows)} pairs", *unscored, *failed])
    if entry.kind == "metric":
        counts = Counter(each.metric for each in run.observations())
        return "observed " + ", ".join(f"{each.name} {counts[each.name]} times" for each in entry.component.measures)
    return "used in the run"


def _difference(first: Path, second: Path) -> str | None:
    """The first step, in the order of the run, whose results differ between two runs of one plan; None where all are the same."""
    one, other = (_results(folder) for folder in (first, second))
    for step, (key, files) in one.items():
        again, found = other.get(step, ("", {}))
        if key != again:
            return f"{step} has another key in a second run of one plan; what its options say must be the same each time"
        if changed := sorted(name for name in files if files[name] != found.get(name)):
            return (
                f"{step}: a second run of one plan wrote another {changed[0]}; draw from the seed that is given, and let "
                "nothing depend on the time, on the order of a set, or on what ran before"
            )
    return None


def _results(folder: Path) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Every step of a run, with its key and the hashes of its files."""
    run = RunFolder(folder / "out").run()
    keys = {name: str(about["key"]) for part in ("stages", "evaluation") for name, about in run[part].items()}
    found = {}
    for name, key in keys.items():
        about = json.loads((folder / "store" / key[:2] / key / "artifact.json").read_text(encoding="utf-8"))
        found[name] = (key, about["files"])
    return found


def _not_tried(reasons: Mapping[str, str]) -> list[str]:
    return [f"{name}: not tried, {reason}" for name, reason in reasons.items()]


def _named(entry: Entry) -> str:
    return f"{entry.kind} {entry.name}"
