from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str


PLAN = """\
name: small
seed: 1
base: {type: tiny}
data:
  toy: {source: toy, pairs: 100, split: {train: 0.6, valid: 0.2, test: 0.2}}
  more: {source: prompts, path: more.jsonl}
stages:
  sft:
    aligner: sft
    init: base
    data: toy.train
  reward:
    aligner: reward
    init: sft
    data: toy.train
    valid: toy.valid
  dpo:
    aligner: dpo
    init: sft
    data: toy.train
    beta: 0.1
    learning_rate: 1.0e-5
  ppo:
    aligner: ppo
    init: sft
    reward: reward
    data: toy.train
    requires:
      - {model: reward, metric: accuracy, value: ">= 0.6"}
evaluate:
  baseline: sft
  candidates:
    - dpo
    - ppo
  suites:
    held: {data: toy.test}
  generate: {temperature: 1.0}
  judges:
    truth: {judge: toy-truth}
    referee: {judge: reward-model, model: reward}
  metrics:
    - win-rate
    - kl
  bootstrap: {level: 0.95}
require:
  - {model: dpo, metric: win-rate, judge: truth, low: ">= 0.5"}
  - {model: dpo, metric: kl, value: "<= 5.0"}
"""


@pytest.fixture
def plan_text() -> str:
    """A small plan with nothing wrong in it; one value a line, so that lines tell values apart."""
    return PLAN


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """Run `harness` with arguments, in this process and in an empty folder, as its entry point does."""
    from harness.cli import main

    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        said = capsys.readouterr()
        return Outcome(int(exit_.value.code or 0), said.out, said.err)

    yield run
    signal.signal(signal.SIGTERM, before)
