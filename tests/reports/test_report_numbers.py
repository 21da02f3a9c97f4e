"""How numbers are written, and the small computations behind the charts."""

from __future__ import annotations

import pytest
from conftest import estimate, win_rate
from harness_reports import text
from harness_reports.answers import shuffled
from harness_reports.curves import POINTS, training_curves
from harness_reports.facts import Facts
from harness_reports.results import details

from harness.records import Message, PairScore
from harness.rundir import Scalar


def plain(written: str) -> str:
    return written.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (text.interval(win_rate("dpo", 0.68, 0.61, 0.74), 0.5), "68 % [61, 74]"),
        (text.interval(estimate("dpo", "kl", 3.23, 2.91, 3.62, unit="nats")), "3.2 [2.9, 3.6]"),
        (
            text.interval(estimate("dpo", "length", -31.0, -50.0, -12.0, unit="characters", baseline="sft")),
            "−31 [−50, −12]",
        ),
        (text.interval(estimate("dpo", "empty", 0.02, -0.01, 0.05, baseline="sft")), "+2 pp [−1, 5]"),
        (text.interval(estimate("dpo", "empty", 0.02, 0.001, 0.05, baseline="sft")), "+2.0 pp [0.1, 5.0]"),
        (text.interval(win_rate("dpo", 0.5, 0.5, 0.5), 0.5), "50 % [50, 50]"),
        (text.interval_words(win_rate("dpo", 0.68, 0.61, 0.74), 0.5), "95 % interval 61–74 %"),
        (text.interval_words(win_rate("dpo", 0.68, 0.61, 0.74, level=0.975), 0.5), "97.5 % interval 61–74 %"),
        (text.interval_words(win_rate("dpo", 0.68, 0.61, 0.74, level=0.995), 0.5), "99.5 % interval 61–74 %"),
        (text.interval_words(win_rate("dpo", 0.68, 0.61, 0.74, level=0.999), 0.5), "99.9 % interval 61–74 %"),
        (text.prompts_in_words(win_rate("dpo", 0.68, 0.61, 0.74)), "200 prompts"),
        (text.prompts_in_words(win_rate("dpo", 0.68, 0.61, 0.74, n=600, seeds=3)), "200 prompts"),
        (text.prompts_in_words(win_rate("dpo", 0.68, 0.61, 0.74, n=629, seeds=3)), "210 prompts in 200 groups"),
        (text.number(0.0001234), "1.23e−04"),
        (text.number(-0.0), "0"),
        (text.number(1234.5), "1,234"),
        (text.seconds(59.6), "60 s"),
        (text.seconds(200), "3 min 20 s"),
        (text.seconds(7500), "2 h 5 min"),
        (text.size(3 * 2**30), "3.0 GiB"),
        (text.amount(135_000_000), "135.0 M"),
        (text.join(["a", "b", "c"]), "a, b and c"),
        (text.count(1, "prompt"), "1 prompt"),
    ],
)
def test_written(written: str, expected: str) -> None:
    assert plain(written) == expected


def pair(margin: float) -> PairScore:
    return PairScore(
        prompt_id=str(margin),
        root="r",
        suite="s",
        model="m",
        prompt=(Message(role="user", content="q"),),
        chosen="c",
        rejected="r",
        chosen_score=margin,
        rejected_score=0.0,
    )


def test_every_number_says_how_often_it_was_resampled_and_what_is_left_of_its_p_value() -> None:
    estimates = [
        estimate("ppo", "length", 9.0, 8.0, 10.0, method="bca", resamples=3333),
        win_rate("ppo", 0.6, 0.52, 0.68, method="wilson", p_value=0.02, p_adjusted=0.06),
    ]
    resampled, rate = details(Facts(run={}, lock={}, estimates=estimates))
    assert (resampled.method, resampled.p_adjusted) == ("bca, 3,333 resamples", "–")
    assert (rate.method, rate.p_value, rate.p_adjusted) == ("wilson", "0.02", "0.06")


def test_splits_share_a_panel_and_what_is_no_measure_is_left_out() -> None:
    names = ("learning_rate", "grad_norm", "mean_token_accuracy", "rewards/accuracies", "loss", "eval_loss")
    facts = Facts(
        run={}, lock={"stages": {"dpo": {}}}, scalars=[Scalar("dpo", step, name, 1.0) for step in (1, 2) for name in names]
    )
    (curves,) = training_curves(facts)
    assert [panel.title for panel in curves.panels] == ["loss", "rewards/accuracies", "grad_norm", "mean_token_accuracy"]
    assert [split for split, _ in curves.panels[0].lines] == ["train", "eval"]
    assert curves.left_out == ("learning_rate",)


def test_each_kind_of_measure_is_shown_before_the_second_of_any() -> None:
    """Seven stages leave 24 // 7 = 3 panels for each."""
    names = ("policy_loss", "value_loss", "reward", "score", "kl")
    stages = [f"s{number}" for number in range(7)]
    scalars = [Scalar(stage, step, name, 1.0) for stage in stages for step in (1, 2) for name in names]
    found = training_curves(Facts(run={}, lock={"stages": {stage: {} for stage in stages}}, scalars=scalars))
    assert [panel.title for panel in found[0].panels] == ["policy_loss", "reward", "kl"]


def test_a_single_value_is_no_curve() -> None:
    facts = Facts(run={}, lock={"stages": {"dpo": {}}}, scalars=[Scalar("dpo", 10, "loss", 1.0)])
    (curves,) = training_curves(facts)
    assert (curves.panels, curves.left_out) == ((), ("loss",))


def test_a_long_curve_is_thinned_to_means() -> None:
    """1,000 points into 200 chunks of 5; the first holds steps 0 to 4, whose mean is 2."""
    scalars = [Scalar("sft", step, "loss", float(step)) for step in range(1000)]
    (curves,) = training_curves(Facts(run={}, lock={"stages": {"sft": {}}}, scalars=scalars))
    ((_, points),) = curves.panels[0].lines
    assert len(points) == POINTS
    assert points[0] == (2.0, 2.0)


def test_random_examples_depend_on_the_seed_alone() -> None:
    ids = [f"p{number}" for number in range(20)]
    orders = [sorted(ids, key=lambda each, seed=seed: shuffled(seed, each)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
