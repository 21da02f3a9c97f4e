from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.plan import Graph

PLAN = """\
name: small
base: {type: tiny}
data:
  toy: {source: toy, pairs: 100, split: {train: 0.4, valid: 0.2, judge: 0.2, test: 0.2}}
stages:
  ppo: {aligner: ppo, init: sft, reward: reward, data: toy.train,
        requires: [{model: reward, metric: accuracy, value: ">= 0.6"}]}
  sft: {aligner: sft, init: base, data: toy.train}
  reward: {aligner: reward, init: sft, data: toy.train, valid: toy.valid}
  referee: {aligner: reward, init: sft, data: toy.judge, valid: toy.valid}
  dpo: {aligner: dpo, init: sft, data: toy.train}
evaluate:
  baseline: sft
  candidates: [dpo, ppo]
  suites: {held: {data: toy.test}, safety: {suite: safety}}
  judges:
    truth: {judge: toy-truth}
    referee: {judge: reward-model, model: referee}
  metrics: [win-rate, reward, kl, accuracy]
require:
  - {model: ppo, metric: kl, suite: held, value: "<= 9"}
  - {model: dpo, metric: kl, suite: held, value: "<= 5"}
"""


@pytest.fixture(scope="session")
def resolve() -> Callable[..., Graph]:
    """The graph of the small plan, with pieces of its text replaced."""
    from harness.plan import check, parse_document
    from harness.plugins import load_plugins

    registry = load_plugins().registry()

    def resolved(*replacements: tuple[str, str]) -> Graph:
        text = PLAN
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        return check(parse_document(text, "plan.yaml"), registry)

    return resolved
