"""The metrics of reward models on pairs small enough to work out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from evidence import evidence, observed
from harness_plugins.metrics.reward_model import Accuracy

from harness import Message, PairScore


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


def test_length_bias_is_of_margins_and_lengths_whichever_answer_was_chosen() -> None:
    pairs = [pair("a", 2.0, 0.0, ("long", "no")), pair("b", 0.0, 2.0, ("no", "long")), pair("c", 1.0, 1.0, ("abc", "xyz"))]
    found = [
        each for each in Accuracy().observe(evidence([], "reward", pairs=pairs), None) if each.metric == "margin-length"
    ]
    assert [(each.value, each.covariates) for each in found] == [(2.0, (2.0,)), (-2.0, (-2.0,)), (0.0, (0.0,))]
    (measure,) = [each for each in Accuracy.measures if each.name == "margin-length"]
    assert measure.statistic is not None
    values, lengths = (np.array(each) for each in ((2.0, -2.0, 0.0), (2.0, -2.0, 0.0)))
    assert measure.statistic(values, lengths) == pytest.approx(1.0)


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
