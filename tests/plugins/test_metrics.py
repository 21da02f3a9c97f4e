"""Every built-in text metric on evidence small enough to work out by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest
from harness_plugins import metrics
from harness_plugins.metrics.diversity import Diversity
from harness_plugins.metrics.helpfulness import Helpfulness, share_beaten
from harness_plugins.metrics.kl import KL
from harness_plugins.metrics.length import Length
from harness_plugins.metrics.reward import Reward
from harness_plugins.metrics.reward_model import Accuracy
from harness_plugins.metrics.safety import Safety
from harness_plugins.metrics.win_rate import WinRate

from harness import Evidence, Judgement, Message, Metric, PairScore, Sample, Score, SuiteRow

REFUSAL = "I'm sorry, but I can't help with that."


def row(prompt_id: str, expect: Literal["answer", "refuse"] | None = None, root: str | None = None) -> SuiteRow:
    return SuiteRow(id=prompt_id, prompt=f"prompt {prompt_id}", expect=expect, root=root)


def sample(prompt_id: str, answer: str = "fine", model: str = "dpo", **fields: Any) -> Sample:
    values: dict[str, Any] = {"tokens": 4, "logprob": -3.0, "finish": "stop", "seed": 0, **fields}
    prompt = (Message(role="user", content=f"prompt {prompt_id}"),)
    return Sample(prompt_id=prompt_id, suite="s", model=model, prompt=prompt, answer=answer, **values)


def samples(answers: Mapping[str, str], model: str = "dpo") -> list[Sample]:
    return [sample(prompt_id, answer, model) for prompt_id, answer in answers.items()]


def scores(values: Mapping[str, float | None], model: str = "dpo") -> list[Score]:
    return [Score(prompt_id=key, suite="s", judge="referee", model=model, score=value) for key, value in values.items()]


def judgement(prompt_id: str, preference: float | None) -> Judgement:
    return Judgement(
        prompt_id=prompt_id,
        suite="s",
        judge="referee",
        candidate="dpo",
        baseline="sft",
        preference=preference,
        candidate_length=1,
        baseline_length=1,
    )


def pair(prompt_id: str, chosen: float, rejected: float, texts: tuple[str, str] = ("aa", "b"), **fields: Any) -> PairScore:
    return PairScore(
        prompt_id=prompt_id,
        root=f"root-{prompt_id}",
        suite="s",
        model="reward",
        prompt=(Message(role="user", content="hello"),),
        chosen=texts[0],
        rejected=texts[1],
        chosen_score=chosen,
        rejected_score=rejected,
        **fields,
    )


def evidence(rows: Sequence[SuiteRow], model: str = "dpo", **fields: Any) -> Evidence:
    return Evidence(model=model, suite="s", rows={each.id: each for each in rows}, **fields)


def observed(metric: Metric, given: Evidence) -> dict[str, dict[str, Any]]:
    """Measure to prompt to value and baseline value; every observation must belong to what was asked about."""
    result: dict[str, dict[str, Any]] = {}
    for each in metric.observe(given, metric.Config()):
        assert (each.model, each.suite, each.judge) == (given.model, given.suite, given.judge)
        assert each.prompt_id not in result.setdefault(each.metric, {})
        result[each.metric][each.prompt_id] = (each.value, each.baseline_value)
    assert set(result) <= {measure.name for measure in metric.measures}
    return result


def measure(metric: type[Metric], name: str) -> Any:
    return next(each for each in metric.measures if each.name == name)


# --- the set --------------------------------------------------------------------------------------------------------------


def test_a_plan_can_name_every_family() -> None:
    assert {"win-rate", "reward", "kl", "safety", "helpfulness", "diversity", "length", "accuracy"} <= {
        each.name for each in metrics.harness_metrics()
    }


def test_no_two_measures_share_a_name() -> None:
    names = [each.name for metric in metrics.harness_metrics() for each in metric.measures]
    assert len(names) == len(set(names))


def test_listing_the_metrics_imports_neither_numpy_nor_torch_nor_scipy() -> None:
    code = (
        "import sys; from harness_plugins import metrics; assert 'harness_plugins.metrics.kl' not in sys.modules; "
        "metrics.harness_metrics(); heavy = {'numpy', 'torch', 'scipy'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_prompts_with_one_root_are_observed_under_it() -> None:
    given = evidence([row("a", root="r"), row("b")], samples=samples({"a": "x", "b": "y"}))
    assert {each.prompt_id: each.root for each in Length().observe(given, None)} == {"a": "r", "b": "b"}


# --- judged ---------------------------------------------------------------------------------------------------------------


def test_win_rate_is_the_preference_and_leaves_out_the_unscored() -> None:
    judged = [judgement("a", 1.0), judgement("b", None), judgement("c", 0.5), judgement("d", 0.0)]
    given = evidence([row(key) for key in "abcd"], judge="referee", judgements=judged)
    assert observed(WinRate(), given) == {"win-rate": {"a": (1.0, None), "c": (0.5, None), "d": (0.0, None)}}
    assert measure(WinRate, "win-rate").null == 0.5
    assert not measure(WinRate, "win-rate").compare


def test_reward_pairs_the_scores_of_one_prompt() -> None:
    given = evidence(
        [row(key) for key in "abc"],
        judge="referee",
        scores=scores({"a": 1.5, "b": None, "c": -2.0}),
        baseline_scores=scores({"b": 3.0, "c": 0.25}, "sft"),
    )
    assert observed(Reward(), given) == {"reward": {"a": (1.5, None), "c": (-2.0, 0.25)}}


@pytest.mark.parametrize(
    ("score", "share"),
    [(-1.0, 0.0), (0.0, 0.125), (0.5, 0.25), (1.0, 0.5), (3.0, 0.875), (4.0, 1.0)],
)
def test_share_beaten_counts_ties_half(score: float, share: float) -> None:
    # Of 0, 1, 1, 3 the score 1 beats one and ties with two: (1 + 2/2) / 4.
    assert share_beaten(score, [0.0, 1.0, 1.0, 3.0]) == share


def test_helpfulness_ranks_answers_among_chosen_ones_and_gives_refusals_nothing() -> None:
    answers = {"good": "Boil it.", "refused": REFUSAL, "loop": "so " * 9, "unscored": "Eh.", "unsafe": "Boil it."}
    given = evidence(
        [row(key, "refuse" if key == "unsafe" else None if key == "good" else "answer") for key in answers],
        judge="referee",
        samples=samples(answers),
        scores=scores({"good": 2.0, "refused": 9.0, "loop": None, "unscored": None, "unsafe": 9.0}),
        baseline_samples=samples({"good": "", "refused": "Sure: yes."}, "sft"),
        baseline_scores=scores({"good": 9.0, "refused": 0.0}, "sft"),
        reference_scores=[0.0, 1.0, 2.0, 3.0],
    )
    # 2.0 beats two of four and ties with one: 2.5/4. The baseline's empty answer gets 0 in spite of its score of 9; its 0.0
    # beats none and ties with one: 0.5/4.
    assert observed(Helpfulness(), given) == {
        "helpfulness": {"good": (0.625, 0.0), "refused": (0.0, 0.125), "loop": (0.0, None)}
    }


def test_helpfulness_is_silent_without_reference_scores() -> None:
    given = evidence([row("a")], judge="referee", samples=samples({"a": REFUSAL}), scores=scores({"a": 1.0}))
    assert observed(Helpfulness(), given) == {}


# --- sampled --------------------------------------------------------------------------------------------------------------


def test_kl_and_its_estimators() -> None:
    given = evidence(
        [row("a"), row("b")],
        samples=[sample("a", tokens=4, logprob=-3.0, ref_logprob=-5.0, kl=1.0, kl_k3=0.75), sample("b")],
        baseline_samples=[sample("a", model="sft", tokens=2, logprob=-1.0, ref_logprob=-0.5, kl=0.5, kl_k3=0.25)],
    )
    assert observed(KL(), given) == {
        "kl": {"a": (1.0, 0.5)},
        "kl-per-token": {"a": (0.25, 0.25)},
        "kl-k1": {"a": (2.0, -0.5)},
        "kl-k3": {"a": (0.75, 0.25)},
    }
    assert not any(each.compare for each in KL.measures)


def test_kl_says_nothing_about_a_model_without_a_reference() -> None:
    assert observed(KL(), evidence([row("a")], samples=[sample("a")])) == {}


def test_safety_counts_both_kinds_of_refusal() -> None:
    answers = {"bomb": REFUSAL, "gun": "No idea.", "onion": REFUSAL, "lights": "Use the dimmer.", "chat": REFUSAL}
    given = evidence(
        [row("bomb", "refuse"), row("gun", "refuse"), row("onion", "answer"), row("lights", "answer"), row("chat")],
        samples=samples(answers),
        baseline_samples=samples({"gun": REFUSAL, "onion": "Slice it."}, "sft"),
    )
    assert observed(Safety(), given) == {
        "refusal-unsafe": {"bomb": (1.0, None), "gun": (0.0, 1.0)},
        "over-refusal": {"onion": (1.0, 0.0), "lights": (0.0, None)},
    }
    assert [each.better for each in Safety.measures] == ["higher", "lower"]


def test_diversity_within_an_answer() -> None:
    # "a b a b a b": bigrams ab ba ab ba ab, 2 of 5 distinct; 4-grams abab baba abab, 1 of 3 was there before.
    given = evidence(
        [row("loop"), row("word"), row("none")],
        samples=samples({"loop": "a b A b a b", "word": "yes", "none": " \n"}),
        baseline_samples=samples({"loop": "one two three four"}, "sft"),
    )
    result = observed(Diversity(), given)
    assert result["distinct-2"] == {"loop": (pytest.approx(2 / 5), 1.0)}
    assert result["repetition"] == {"loop": (pytest.approx(1 / 3), 0.0)}
    assert result["empty"] == {"loop": (0.0, 0.0), "word": (0.0, None), "none": (1.0, None)}


def test_an_answer_given_to_two_prompts_is_distinct_for_neither() -> None:
    given = evidence(
        [row(key) for key in "abc"],
        samples=samples({"a": "As you like.", "b": "Blue.", "c": "As you like. "}),
        baseline_samples=samples({"a": "Red.", "b": "Red.", "c": "Green."}, "sft"),
    )
    assert observed(Diversity(), given)["distinct-answers"] == {"a": (0.0, 0.0), "b": (1.0, 0.0), "c": (0.0, 1.0)}


def test_length_in_characters_and_tokens() -> None:
    given = evidence(
        [row("a")],
        samples=[sample("a", "crème", tokens=3)],
        baseline_samples=[sample("a", "no", model="sft", tokens=2)],
    )
    assert observed(Length(), given) == {"length": {"a": (5.0, 2.0)}, "tokens": {"a": (3.0, 2.0)}}


# --- reward models --------------------------------------------------------------------------------------------------------


def test_accuracy_beside_the_length_rules() -> None:
    pairs = [
        pair("right", 1.0, 0.0, ("long", "no")),
        pair("wrong", 0.0, 1.0, ("no", "long")),
        pair("tie", 2.0, 2.0, ("abc", "xyz")),
    ]
    given = evidence([], "reward", pairs=pairs)
    result = observed(Accuracy(), given)
    assert result["accuracy"] == {"right": (1.0, None), "wrong": (0.0, None), "tie": (0.5, None)}
    assert result["accuracy-vs-longer"] == {"right": (1.0, 1.0), "wrong": (0.0, 0.0), "tie": (0.5, 0.5)}
    assert result["accuracy-vs-shorter"] == {"right": (1.0, 0.0), "wrong": (0.0, 1.0), "tie": (0.5, 0.5)}
    assert {each.root for each in Accuracy().observe(given, None)} == {"root-right", "root-wrong", "root-tie"}
    assert "accuracy-ceiling" not in result


def test_the_ceiling_is_the_better_of_both_choices() -> None:
    given = evidence(
        [], "reward", pairs=[pair("a", 1, 0, probability=0.3), pair("b", 1, 0, probability=0.9), pair("c", 1, 0)]
    )
    assert observed(Accuracy(), given)["accuracy-ceiling"] == {"a": (0.7, None), "b": (0.9, None)}


def test_nll_and_brier_of_the_bradley_terry_probability() -> None:
    # A margin of ln 3 means 3/4 for the chosen answer, of -ln 3 one quarter.
    given = evidence([], "reward", pairs=[pair("a", math.log(3), 0.0), pair("b", 0.0, math.log(3)), pair("c", 0.0, 0.0)])
    result = observed(Accuracy(), given)
    assert result["nll"] == {
        "a": (pytest.approx(math.log(4 / 3)), None),
        "b": (pytest.approx(math.log(4)), None),
        "c": (pytest.approx(math.log(2)), None),
    }
    assert result["brier"] == {
        "a": (pytest.approx(1 / 16), None),
        "b": (pytest.approx(9 / 16), None),
        "c": (pytest.approx(1 / 4), None),
    }
    assert result["ece"] == {"a": (pytest.approx(0.75), None), "b": (pytest.approx(-0.75), None), "c": (0.0, None)}


def test_a_huge_margin_does_not_overflow() -> None:
    result = observed(Accuracy(), evidence([], "reward", pairs=[pair("a", 2000.0, 0.0), pair("b", 0.0, 2000.0)]))
    assert result["nll"] == {"a": (0.0, None), "b": (2000.0, None)}
    assert result["brier"] == {"a": (0.0, None), "b": (1.0, None)}
