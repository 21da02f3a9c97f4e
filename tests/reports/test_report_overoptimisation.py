"""Over-optimisation: root KL along a training, and a turning point only where its interval shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import estimate, lock, run_json
from harness_reports.facts import Facts
from harness_reports.overoptimisation import overoptimisation

if TYPE_CHECKING:
    from harness.records import Estimate


def reward(model: str, value: float, judge: str) -> Estimate:
    return estimate(model, "reward", value, value - 0.1, value + 0.1, judge=judge, unit="judge's score")


def kl(model: str, value: float) -> Estimate:
    return estimate(model, "kl", value, value - 0.1, value + 0.1, unit="nats per answer")


def seen(turn: tuple[float, float, float]) -> Facts:
    """PPO from SFT over one policy on the way, at KL 4 and then 9; `truth` likes the one on the way best."""
    along, ends = [kl("ppo@8", 4.0)], [kl("sft", 5.0), kl("ppo", 9.0)]
    for judge, scores in {"truth": (1.0, 2.0, 0.5), "reward": (1.0, 2.0, 3.0)}.items():
        along.append(reward("ppo@8", scores[1], judge))
        ends += [reward("sft", scores[0], judge), reward("ppo", scores[2], judge)]
    ends.append(estimate("ppo", "turning-point", *turn, judge="truth", unit="root nats"))
    return Facts(run=run_json(), lock=lock(), estimates=tuple(ends), along=tuple(along))


def texts(turn: tuple[float, float, float]) -> dict[str, str]:
    (found,) = overoptimisation(seen(turn))
    assert (found.stage, found.suite, found.policies) == ("ppo", "heldout", 3)
    return {path.scorer: path.text for path in found.paths}


def test_a_turning_point_is_claimed_where_its_interval_ends_before_the_training() -> None:
    assert texts((1.0, 0.8, 1.2))["truth"].startswith(
        "`truth` likes the policy best at √KL 1.0 [0.8, 1.2] and less at the end, at 3:"
    )


@pytest.mark.parametrize("high", [3.0, 3.2])
def test_none_is_claimed_where_the_interval_reaches_the_end(high: float) -> None:
    assert texts((1.0, 0.8, high))["truth"].startswith("`truth` shows no turning point up to √KL 3:")


def test_what_the_stage_was_trained_against_is_said_to_be() -> None:
    assert texts((1.0, 0.8, 1.2))["reward"] == (
        "`reward`, which PPO was trained against, has too few prompts to tell where it likes the policy best."
    )


def test_the_start_has_not_moved_and_every_policy_stands_at_its_root_kl() -> None:
    """SFT's own KL of 5 nats is from the base; √4 = 2 and √9 = 3."""
    (found,) = overoptimisation(seen((1.0, 0.8, 1.2)))
    chart = next(str(path.chart) for path in found.paths if path.scorer == "truth")
    assert "root KL 0: 1; root KL 2: 2; root KL 3: 0.5" in chart


def test_a_run_without_such_policies_has_no_such_section() -> None:
    assert overoptimisation(Facts(run=run_json(), lock=lock(), estimates=(reward("ppo", 1.0, "truth"),))) == ()
