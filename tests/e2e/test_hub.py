"""Models and data sets from the Hub: by their ids, at the revision and from the part that the plan names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from hub_server import serve_hub
from micro import harness
from tiny_model import TINY

from harness import Compute
from harness.rundir import RunFolder

torch = pytest.importorskip("torch")
from safetensors.torch import load_file  # noqa: E402

from harness.engine.base import build_base  # noqa: E402

pytestmark = pytest.mark.torch

FIRST, SECOND = "a" * 40, "b" * 40
PLAN = f"""\
name: hub
seed: 1
base: acme/tiny
revision: tried
device: cpu
precision: fp32
threads: 1
data:
  pairs: {{source: preferences, path: acme/pairs}}
  extra: {{source: preferences, path: acme/pairs, subset: extra}}
  tried: {{source: preferences, path: acme/pairs, part: test, revision: {SECOND}}}
stages:
  sft: {{aligner: sft, init: base, data: extra, max_steps: 1}}
  dpo: {{aligner: dpo, init: sft, data: pairs, max_steps: 1}}
evaluate:
  baseline: base
  candidates: [dpo]
  suites: {{held: {{data: tried}}}}
  generate: {{max_new_tokens: 4}}
  metrics: [length]
  bootstrap: {{resamples: 100}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a plan, and a Hub with a model and a data set, two commits of each; `main` is the first."""
    folder = tmp_path_factory.mktemp("hub")
    for number, commit in enumerate((FIRST, SECOND)):
        model, pairs = folder / "hub/models/acme/tiny", folder / "hub/datasets/acme/pairs"
        build_base(TINY, ["the quick brown fox"] * 20, model / commit, Compute("cpu", "fp32", 1), seed=number)
        for place, rows in {"data/train": 12, "data/test": 6, "extra/more": 9}.items():
            path = pairs / commit / f"{place}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(_pair(f"{place} {number} {row}")) + "\n" for row in range(rows)))
    for repository in (model, pairs):
        (repository / "main").symlink_to(FIRST)
        (repository / "tried").symlink_to(SECOND)
    (folder / "plan.yaml").write_text(PLAN)
    with serve_hub(folder / "hub") as address:
        (folder / "address").write_text(address)
        yield folder


def _pair(text: str) -> dict[str, Any]:
    return {"prompt": f"question {text}", "chosen": "a good answer", "rejected": "a bad one"}


def call(home: Path, *arguments: str) -> CompletedProcess[str]:
    """A command that takes the Hub of the fixture for the Hub."""
    variables = {"HF_ENDPOINT": (home / "address").read_text(), "HF_HOME": str(home / "cache"), "HF_HUB_OFFLINE": "0"}
    return harness(home, *arguments, **variables)


def test_a_plan_of_hub_ids_runs_with_what_they_stand_for(home: Path) -> None:
    done = call(home, "run", "plan.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "Generating" not in done.stderr, "no bars where nobody looks"
    run = RunFolder(home / "run")
    base = run.run()["stages"]["base"]
    assert base["commit"] == SECOND
    assert f"acme/tiny at commit {SECOND}" in run.report_path.read_text()
    kept = load_file(home / "runs/.store" / base["key"][:2] / base["key"] / "model.safetensors")
    published = load_file(home / "hub/models/acme/tiny" / SECOND / "model.safetensors")
    assert all(torch.equal(kept[name], weight) for name, weight in published.items())
    assert {name: each["rows"] for name, each in run.lock()["data"].items()} == {"extra": 9, "pairs": 12, "tried": 6}
    prompts = {each.prompt[0].content for each in run.samples()["dpo", "held"]}
    assert prompts == {f"question data/test 1 {row}" for row in range(6)}


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (
            "data.tried.part=valid",
            "data.tried: acme/pairs: neither a local file nor a data set that the Hub gave: Unknown split",
        ),
        ("data.pairs.path=acme/none", "data.pairs: acme/none: neither a local file nor a data set that the Hub gave: "),
    ],
)
def test_a_data_set_that_the_hub_does_not_have_is_named(home: Path, setting: str, text: str) -> None:
    done = call(home, "check", "plan.yaml", "--set", setting)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(text)


def test_a_model_that_the_hub_does_not_have_is_named(home: Path) -> None:
    done = call(home, "run", "plan.yaml", "--out", "none", "--set", "revision=v9")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("base acme/tiny@v9: cannot be opened: ")
    assert last.endswith("; give a Hub id that can be reached, or a folder: there is none of this name")
