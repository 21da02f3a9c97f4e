"""What to try next follows from what was observed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from conftest import estimate, lock, run_json, warning, win_rate
from harness_reports.advice import advice
from harness_reports.facts import Facts
from harness_reports.methods import costs, methods

from harness.rundir import Scalar

if TYPE_CHECKING:
    from harness.records import Estimate, HealthVerdict

RISING = [Scalar("ppo", step, "score", float(step)) for step in range(12)]


def sentences(
    stage: str, *estimates: Estimate, scalars: Sequence[Scalar] = (), health: Sequence[HealthVerdict] = ()
) -> str:
    found = advice(Facts(run=run_json(), lock=lock(), estimates=estimates, scalars=scalars, health=health))
    return " ".join(sentence for each in found if each.stage == stage for sentence in each.sentences)


def test_dpo_that_hardly_moved_needs_a_smaller_beta() -> None:
    found = sentences("dpo", estimate("dpo", "kl", 0.1, 0.05, 0.2, unit="nats per answer"))
    assert "or lower `beta`" in found
    assert "Raise `beta`" not in found


def test_a_model_that_loses_is_told_to_whom() -> None:
    assert "It loses to the model that it started from." in sentences("dpo", win_rate("dpo", 0.3, 0.24, 0.37))
    locked = lock()
    locked["plan"]["evaluate"] |= {"baseline": "base", "candidates": ["sft", "dpo"]}
    lost = win_rate("dpo", 0.3, 0.24, 0.37, baseline="base")
    (found,) = advice(Facts(run=run_json(), lock=locked, estimates=(lost,)))
    assert found.sentences[0].startswith("It loses to `base`.")


def test_ppo_whose_reward_rises_without_a_gain_is_suspected_of_over_optimisation() -> None:
    assert "over-optimisation" in sentences("ppo", win_rate("ppo", 0.5, 0.44, 0.56), scalars=RISING)
    assert "over-optimisation" not in sentences("ppo", win_rate("ppo", 0.64, 0.57, 0.7), scalars=RISING)


def test_what_a_health_verdict_says_advice_does_not_say_again() -> None:
    """Of each pair: the evidence for a sentence of advice, and the rule whose verdict says it."""
    slow = estimate("dpo", "kl", 0.1, 0.05, 0.2, unit="nats per answer")
    long = estimate("dpo", "length", 80.0, 60.0, 90.0, unit="characters per answer", baseline="sft")
    lost = win_rate("ppo", 0.3, 0.25, 0.4)
    for stage, rule, found, scalars in (
        ("dpo", "stuck", slow, []),
        ("dpo", "length-drift", long, []),
        ("ppo", "hacking", lost, RISING),
    ):
        assert sentences(stage, found, scalars=scalars)
        assert not sentences(stage, found, scalars=scalars, health=[warning(stage, rule)])


def test_methods_count_upstream_training_and_the_options_that_were_set() -> None:
    """PPO builds on sft and reward: three stages of 60 s each."""
    ppo = next(each for each in methods(Facts(run=run_json(), lock=lock(), scalars=RISING)) if each.stage == "ppo")
    assert ppo.seconds_with_upstream.replace("\u00a0", " ") == "3 min 0 s"
    assert (ppo.models, ppo.options) == ("4", "2")
    assert ppo.stability == "reward rose"


def test_the_memory_of_a_gpu_stands_beside_the_machines() -> None:
    held = {"status": "done", "peak_memory_bytes": 3 * 2**30}
    done = run_json(stages={"sft": held, "dpo": held | {"peak_device_memory_bytes": 12 * 2**30}})
    memory = {each.stage: each.memory.replace("\u00a0", " ") for each in costs(Facts(run=done, lock=lock(), scalars=[]))}
    assert (memory["sft"], memory["dpo"]) == ("3.0 GiB", "3.0 GiB, GPU 12.0 GiB")


def test_tokens_per_second_come_from_the_log_where_the_stage_did_not_count_them() -> None:
    """3,000 tokens in 60 s."""
    done = run_json(stages={"sft": {"status": "done", "seconds": 60.0}})
    logged = [Scalar("sft", 10, "num_tokens", 1000.0), Scalar("sft", 20, "num_tokens", 3000.0)]
    assert next(each for each in costs(Facts(run=done, lock=lock(), scalars=logged))).tokens_per_second == "50"
