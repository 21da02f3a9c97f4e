"""From scores and verdicts to judgements: which side wins, what a tie is, and what stays unscored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from harness import Judge, JudgeContext, Message, Pair, Sample, Score, ScoringJudge, StageError
from harness.components import Artifact, Compute
from harness.evaluation.steps import judge_pairs, judge_samples, judgements_from_scores, prompt_seed, share_scores
from harness.judges import Verdict

COMPUTE = Compute("cpu", "fp32", 1)


def score(model: str, prompt_id: str, value: float | None) -> Score:
    reason = None if value is not None else "the judge gave no score"
    return Score(prompt_id=prompt_id, suite="s", judge="j", model=model, score=value, reason=reason)


def sample(model: str, prompt_id: str, answer: str) -> Sample:
    prompt = (Message(role="user", content=prompt_id),)
    return Sample(
        prompt_id=prompt_id,
        suite="s",
        model=model,
        prompt=prompt,
        answer=answer,
        finish="stop",
        tokens=1,
        logprob=-1.0,
        seed=0,
    )


class PrefersLonger(Judge):
    name = "prefers-longer"

    def compare(
        self, pairs: Sequence[Pair], config: Any, inputs: dict[str, Artifact], context: JudgeContext
    ) -> Sequence[Verdict]:
        return [
            Verdict(None, "empty answers")
            if not each.candidate
            else Verdict(float(len(each.candidate) > len(each.baseline)))
            for each in pairs
        ]


def test_the_higher_score_wins_equal_ones_tie_and_a_missing_one_is_unscored() -> None:
    mine = [score("new", "a", 2.0), score("new", "b", 1.0), score("new", "c", 1.0), score("new", "d", None)]
    others = [score("old", "d", 1.0), score("old", "c", 1.0), score("old", "b", 2.0), score("old", "a", 1.0)]
    lengths = {"new": dict.fromkeys("abcd", 5), "old": dict.fromkeys("abcd", 3)}
    made = judgements_from_scores(mine, others, lengths)
    assert [(each.prompt_id, each.preference) for each in made] == [("a", 1.0), ("b", 0.0), ("c", 0.5), ("d", None)]
    assert made[3].reason == "the judge gave no score"
    assert {(each.candidate, each.baseline, each.candidate_length, each.baseline_length) for each in made} == {
        ("new", "old", 5, 3)
    }


def test_a_judge_compares_the_candidate_with_the_baseline_on_the_same_prompt() -> None:
    mine = [
        sample("new", "a", "long answer"),
        sample("new", "b", "no"),
        sample("new", "c", ""),
        sample("new", "x", "alone"),
    ]
    others = [sample("old", "c", "yes"), sample("old", "b", "longer"), sample("old", "a", "short")]
    made = judge_samples("j", PrefersLonger(), None, {}, mine, others, JudgeContext(COMPUTE))
    assert [(each.prompt_id, each.preference, each.reason) for each in made] == [
        ("a", 1.0, None),
        ("b", 0.0, None),
        ("c", None, "empty answers"),
    ]
    assert (made[0].candidate_length, made[0].baseline_length) == (len("long answer"), len("short"))


def test_a_judge_that_leaves_pairs_out_is_an_error_that_names_it() -> None:
    class Silent(Judge):
        name = "silent"

        def compare(self, *_: Any) -> Sequence[Verdict]:
            return []

    with pytest.raises(StageError, match="judge 'quiet' gave 0 verdicts for 1 pairs"):
        judge_samples(
            "quiet", Silent(), None, {}, [sample("new", "a", "x")], [sample("old", "a", "y")], JudgeContext(COMPUTE)
        )


def test_a_prompts_seed_depends_on_the_run_and_the_prompt_and_on_nothing_else() -> None:
    assert prompt_seed(1, "a") == prompt_seed(1, "a")
    assert len({prompt_seed(seed, prompt) for seed in (1, 2) for prompt in "ab"}) == 4
    assert all(0 <= prompt_seed(seed, "a") < 2**31 for seed in range(50))


def test_the_same_answer_has_one_score_whatever_rounding_did_to_it() -> None:
    mine = [score("new", "a", 1.0000001), score("new", "b", 1.0000001), score("new", "c", 1.0), score("new", "x", 3.0)]
    others = [score("old", "c", None), score("old", "b", 1.0), score("old", "a", 1.0), score("old", "d", 2.0)]
    mine.append(score("new", "d", None))
    answers = [
        sample("new", "a", "same"),
        sample("new", "b", "one"),
        sample("new", "c", "same"),
        sample("new", "x", "same"),
        sample("new", "d", "same"),
    ]
    theirs = [sample("old", "b", "other"), *(sample("old", prompt, "same") for prompt in "acd")]
    shared = share_scores(mine, others, answers, theirs)
    scores = {each.prompt_id: each.score for each in shared}
    assert scores == {"a": 1.0, "b": 1.0000001, "c": None, "x": 3.0, "d": 2.0}
    made = judgements_from_scores(shared, others, {"new": dict.fromkeys("abcd", 4), "old": dict.fromkeys("abcd", 4)})
    assert [each.preference for each in made] == [0.5, 1.0, None, 0.5]
    assert [each.reason for each in made] == [None, None, "the judge gave no score", None], (
        "only what has no preference has a reason"
    )


class Noisy(ScoringJudge):
    """Scores by length, and adds something to the second half of all that it is given."""

    name = "noisy"

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def score(self, prompts: Sequence[Any], answers: Sequence[str], *_: Any) -> list[float]:
        half = len(answers) // 2
        return [len(each) + (self.noise if place >= half else 0) for place, each in enumerate(answers)]


@pytest.mark.parametrize(("noise", "preference"), [(0.005, 0.5), (-0.005, 0.5), (0.5, 0.0), (-0.5, 1.0)])
def test_a_scorer_whose_numbers_move_by_more_than_rounding_does_not_tie(noise: float, preference: float) -> None:
    """The scores' standard deviation is 1: lengths of 1 and 3."""
    mine = [sample("new", "a", "x"), sample("new", "b", "xxx")]
    others = [sample("old", "a", "x"), sample("old", "b", "xxx")]
    made = judge_pairs("j", Noisy(noise), None, {}, mine, others, JudgeContext(COMPUTE))
    assert [each.preference for each in made] == [preference, preference]


def test_a_temperature_softens_preferences() -> None:
    # 1 / (1 + exp(-2 / T)) for scores that are 2 apart: 0.881 at T = 1, 0.731 at T = 2.
    mine, others = [score("new", "a", 2.0)], [score("old", "a", 0.0)]
    lengths = {"new": {"a": 5}, "old": {"a": 3}}

    def preference(temperature: float | None) -> float | None:
        return judgements_from_scores(mine, others, lengths, temperature)[0].preference

    assert preference(None) == preference(0.0) == 1.0
    assert preference(1.0) == pytest.approx(1 / (1 + math.exp(-2)))
    assert preference(2.0) == pytest.approx(1 / (1 + math.exp(-1)))
    assert preference(math.inf) == 0.5
    assert judgements_from_scores(others, mine, {"new": {"a": 5}, "old": {"a": 3}}, 0.001)[0].preference == 0.0
