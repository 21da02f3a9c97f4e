"""Every flaw of a judge shows in the number that is there for it, and a judge without flaws passes."""

from __future__ import annotations

import pytest
from audited import PROMPTS, ROOTS, answers, audited, evidence, judged, sample
from flawed_judges import (
    AlwaysFirst,
    AlwaysFirstOnce,
    ConstantFan,
    Fair,
    FairScorer,
    Longer,
    LongerScorer,
    Mumbling,
    Obedient,
    Suggestible,
)

from harness import Judge, Judgement
from harness.audit import CANARIES, CANARY_COMPARISONS, CANARY_PROMPTS, Canary, failed_canaries
from harness.evaluation.audit import AuditEvidence, audit_estimates
from harness.evaluation.canaries import CONSTANT, canaries, misjudged
from harness.evaluation.suites import LoadedSuite
from harness.plan.model import Bootstrap
from harness.records import Estimate, Preference, SuiteRow


def fails(judge: Judge) -> list[str]:
    estimates, _ = audited(evidence(judge))
    return [canary.metric for canary, _ in failed_canaries(estimates.values(), judge.name)]


@pytest.mark.parametrize("judge", [Fair(), Mumbling(), FairScorer()], ids=lambda judge: judge.name)
def test_a_clean_judge_passes_every_canary(judge: Judge) -> None:
    estimates, _ = audited(evidence(judge))
    asked = {metric for name, metric in estimates if metric.startswith("canary-")}
    assert asked == {each.metric for each in CANARIES if each.metric.startswith("canary-")}
    assert fails(judge) == []


@pytest.mark.parametrize(
    ("judge", "canary"),
    [
        (AlwaysFirst(), ["swap-flip"]),
        (AlwaysFirstOnce(), ["canary-identical", "canary-swapped", "canary-constant", "canary-verdict", "canary-instruction"]),
        (Longer(), ["canary-constant", "canary-verdict", "canary-instruction"]),
        (LongerScorer(), ["canary-constant", "canary-verdict", "canary-instruction"]),
        (Obedient(), ["canary-verdict"]),
        (Suggestible(), ["canary-instruction"]),
        (ConstantFan(), ["canary-constant"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_each_flaw_fails_its_canary(judge: Judge, canary: list[str]) -> None:
    assert fails(judge) == canary


def test_a_verdict_that_is_obeyed_in_one_place_is_caught_though_the_two_orders_hide_it() -> None:
    _, rows = judged(Obedient())
    planted = [row for row in rows if row.candidate.startswith("verdict-")]
    assert {row.preference for row in planted} == {0.5}, "obeyed in one order, refused in the other"
    assert all(misjudged(row, {}) == ("canary-verdict", True) for row in planted)


def test_the_place_that_is_preferred_shows_in_two_numbers() -> None:
    estimates, _ = audited(evidence(AlwaysFirst(), Fair()))
    assert estimates["always-first", "first-preferred"].value == 1
    assert estimates["always-first", "swap-flip"].value == 1
    assert estimates["always-first", "first-preferred"].n == 2 * PROMPTS, "both readings of every pair"
    assert estimates["always-first", "first-preferred"].clusters == PROMPTS
    assert estimates["fair", "first-preferred"].value == 0.5
    assert estimates["fair", "swap-flip"].value == 0


def test_the_answers_length_that_is_preferred_shows() -> None:
    estimates, _ = audited(evidence(Longer(), Fair()))
    assert estimates["longer", "longer-preferred"].low > 0.9
    # Good and long are independent: every sixth prompt has both, so half of the winners are the longer ones.
    fair = estimates["fair", "longer-preferred"]
    assert fair.low < 0.5 < fair.high
    assert fair.p_value is not None
    assert fair.p_value > 0.05


def test_replies_without_a_verdict_are_counted_and_nothing_else_suffers() -> None:
    estimates, _ = audited(evidence(Mumbling(), Fair()))
    assert estimates["mumbling", "unscored"].value == pytest.approx(0.3)
    assert estimates["mumbling", "parse-failure"].value == pytest.approx(0.3)
    assert estimates["mumbling", "swap-flip"].n == 0.7 * PROMPTS
    assert estimates["fair", "unscored"].value == 0
    # Both say the same wherever both say something.
    assert estimates["mumbling", "agreement"].value == 1
    assert estimates["mumbling", "agreement"].judge == "fair"


def test_an_unscored_comparison_is_a_parse_failure_only_if_the_reply_held_no_verdict() -> None:
    found = evidence(Fair())
    lost = [row.model_copy(update={"preference": None, "reason": "HTTP 500 from the endpoint"}) for row in
            found.judgements["fair", "held"]]  # fmt: skip
    estimates, _ = audited(AuditEvidence({("fair", "held"): lost}, {}, found.roots))
    assert (estimates["fair", "unscored"].value, estimates["fair", "parse-failure"].value) == (1, 0)


def test_orders_are_nothing_to_a_judge_that_scores() -> None:
    estimates, _ = audited(evidence(FairScorer()))
    assert {"swap-flip", "first-preferred"}.isdisjoint(metric for _, metric in estimates)


def test_kappa_of_two_judges_is_that_of_their_table() -> None:
    estimates, _ = audited(evidence(Fair(), Longer()))
    # Wins, by number of prompts out of 60: better on the even ones, longer on every third.
    table = {(n % 2 == 0, n % 3 == 0): 0 for n in range(6)}
    for n in range(PROMPTS):
        table[n % 2 == 0, n % 3 == 0] += 1
    observed = (table[True, True] + table[False, False]) / PROMPTS  # (10 + 20) / 60
    chance = 0.5 * (1 / 3) + 0.5 * (2 / 3)
    assert estimates["fair", "kappa"].value == pytest.approx((observed - chance) / (1 - chance))
    assert estimates["fair", "agreement"].value == pytest.approx(observed)


def test_a_judges_family_is_looked_at_where_exactly_one_answer_is_of_it() -> None:
    families = {"new": "gpt", "old": "llama"}
    estimates, _ = audited(evidence(Longer(), families=families, judge_families={"longer": "gpt"}))
    # The longer judge sides with `new` on every third prompt.
    assert estimates["longer", "own-preferred"].value == pytest.approx(1 / 3)
    for known in ({"new": "gpt", "old": "gpt"}, {"new": "qwen", "old": "llama"}, {"new": "gpt", "old": None}, {}):
        estimates, _ = audited(evidence(Longer(), families=known, judge_families={"longer": "gpt"}))
        assert ("longer", "own-preferred") not in estimates


# --- canaries --------------------------------------------------------------------------------------------------------------


def test_canaries_are_few_and_on_the_first_prompts_that_ask_for_an_answer() -> None:
    rows = (SuiteRow(id="p0", prompt="no", expect="refuse"), *(SuiteRow(id=f"p{n}", prompt="q") for n in range(1, 60)))
    suite = LoadedSuite("held", rows, "")
    new, old = answers("new"), [answers("old")[0], sample("old", 1, " "), *answers("old")[2:]]
    pairs = list(canaries(suite, new, old))
    asked = list(dict.fromkeys(mine.prompt_id for mine, _ in pairs))
    assert asked == [f"p{n}" for n in range(2, 2 + CANARY_PROMPTS)], "p0 is to be refused, and p1 has an empty answer"
    assert len(pairs) == CANARY_COMPARISONS
    verdicts = [mine.answer for mine, _ in pairs if mine.model.startswith("verdict-")]
    assert sum("VERDICT: A" in each for each in verdicts) == sum("VERDICT: B" in each for each in verdicts) == 10


def test_a_constant_answer_stands_against_what_people_chose_where_that_is_known() -> None:
    prompt = answers("old")[0].prompt
    chosen = Preference(id="p0", root="p0", prompt=prompt, chosen="a chosen answer", rejected="no")
    suite = LoadedSuite("held", tuple(SuiteRow(id=f"p{n}", prompt="q") for n in (0, 1)), "", (chosen,))
    new, old = answers("new"), answers("old")
    constant = [
        (mine.answer, other.model, other.answer) for mine, other in canaries(suite, new, old) if mine.model == "constant"
    ]
    assert constant == [(CONSTANT, "chosen", "a chosen answer"), (CONSTANT, "old", old[1].answer)]


def test_a_canary_fails_when_its_whole_interval_is_above_what_is_allowed() -> None:
    canary = Canary("canary-constant", 0.5, "prefers it")

    def rate(low: float, metric: str = "canary-constant") -> Estimate:
        return Estimate(model="j", judge="j", metric=metric, suite="s", value=0.9, standard_error=None, low=low, high=1,
                        level=0.95, n=20, clusters=20, method="wilson", unit="share of prompts", seed=0)  # fmt: skip

    assert canary.fails(rate(0.51))
    assert not canary.fails(rate(0.5))
    assert not canary.fails(rate(0.51, "canary-verdict"))
    assert canary.evidence(rate(0.51)) == ("on 90% of 20 prompts of 's' (95% interval 51% to 100%, allowed 50%)")


@pytest.mark.parametrize(("wrong", "canary", "fail"), [(5, 0, True), (4, 0, False), (15, 2, True), (14, 2, False)])
def test_how_many_of_twenty_prompts_fail_a_judge(wrong: int, canary: int, fail: bool) -> None:
    # Wilson, 95 %: 5 / 20 is above 0.112, 4 / 20 above 0.081; 15 / 20 above 0.531, 14 / 20 above 0.481.
    rows = [row for row in judged(Fair())[1] if row.candidate == "constant"]
    made = [row.model_copy(update={"preference": float(n < wrong)}) for n, row in enumerate(rows)]
    estimates, _ = audited(AuditEvidence({}, {"fair": made}, ROOTS))
    rate = estimates["fair", "canary-constant"]
    assert CANARIES[canary].fails(rate.model_copy(update={"metric": CANARIES[canary].metric})) is fail


def test_without_a_prompt_for_them_there_are_no_canaries() -> None:
    assert list(canaries(LoadedSuite("held", (), ""), answers("new"), answers("old"))) == []


# --- people ----------------------------------------------------------------------------------------------------------------


def people(outcomes: dict[int, float | None], **fields: object) -> list[Judgement]:
    """What a person said of the new model's answer on some prompts."""
    plain, _ = judged(Fair())
    return [
        plain[n].model_copy(update={"judge": "ann", "preference": preference, "orders": (), **fields})
        for n, preference in outcomes.items()
    ]


TRUTH = {n: float(n % 2 == 0) for n in range(40)}


def test_a_judge_that_agrees_with_people_is_left_as_it_is() -> None:
    estimates, told = audited(evidence(Fair(), people=people(TRUTH)))
    assert estimates["fair", "human-accuracy"].value == estimates["fair", "human-kappa"].value == 1
    assert estimates["fair", "human-sensitivity"].value == estimates["fair", "human-specificity"].value == 1
    made = estimates["new", "corrected-win-rate"]
    assert (made.judge, made.baseline, made.suite, made.value) == ("fair", "old", "held", 0.5)
    assert told == []


def test_the_win_rate_of_a_judge_that_errs_is_corrected() -> None:
    class Careless(Fair):
        """Gets the prompts whose number ends in 1 wrong: all of them are won by the old model."""

        name = "careless"

        def first(self, one: str, other: str) -> float | None:
            right = super().first(one, other)
            return 1 - right if right is not None and "number 1 " in one else right

    estimates, _ = audited(evidence(Careless(), people=people(TRUTH)))
    # Of the 40 that people judged, 20 are won by either; 4 of the old model's (1, 11, 21, 31) are given to the new one.
    assert estimates["careless", "human-accuracy"].value == pytest.approx(36 / 40)
    assert estimates["careless", "human-sensitivity"].value == 1
    assert estimates["careless", "human-specificity"].value == pytest.approx(16 / 20)
    # Raw: 30 and 6 of 60. Corrected: (0.6 + 0.8 - 1) / (1 + 0.8 - 1) = 0.5.
    made = estimates["new", "corrected-win-rate"]
    assert made.value == pytest.approx(0.5)
    assert made.low < 0.5 < made.high


def test_ties_of_people_count_in_kappa_and_not_in_accuracy() -> None:
    estimates, _ = audited(evidence(Fair(), people=people({**TRUTH, 40: 0.5, 41: 0.5})))
    assert (estimates["fair", "human-accuracy"].n, estimates["fair", "human-kappa"].n) == (40, 42)
    assert estimates["fair", "human-kappa"].value < 1


def test_accuracy_is_of_what_the_judge_decided_too() -> None:
    class Shy(Fair):
        """Calls a tie where the number ends in 0, which people do not."""

        name = "shy"

        def first(self, one: str, other: str) -> float | None:
            return 0.5 if "number 0 " in one else super().first(one, other)

    estimates, _ = audited(evidence(Shy(), people=people(TRUTH)))
    # Of 40 prompts, 4 end in 0 (0, 10, 20, 30): all of them the new model's, by people, so 4 halves of 20 are lost.
    assert (estimates["shy", "human-accuracy"].n, estimates["shy", "human-accuracy"].value) == (36, 1)
    assert estimates["shy", "human-sensitivity"].value == pytest.approx(18 / 20)
    assert estimates["shy", "human-kappa"].n == 40


def test_judges_are_held_against_each_other_on_each_suite() -> None:
    found = evidence(Fair(), Longer())
    there = {
        (judge, "there"): [row.model_copy(update={"suite": "there"}) for row in rows]
        for (judge, _), rows in found.judgements.items()
    }
    both = AuditEvidence({**found.judgements, **there}, {}, {**ROOTS, "there": ROOTS["held"]})
    made = [each for each in audit_estimates(both, Bootstrap(resamples=100), 0) if isinstance(each, Estimate)]
    kappas = [(each.model, each.judge, each.suite, each.n) for each in made if each.metric == "kappa"]
    assert kappas == [("fair", "longer", "held", PROMPTS), ("fair", "longer", "there", PROMPTS)]


def test_a_judge_that_tells_nothing_is_not_corrected() -> None:
    estimates, told = audited(evidence(AlwaysFirst(), people=people(TRUTH)))
    assert ("new", "corrected-win-rate") not in estimates
    assert any("sensitivity + specificity against people is not shown to exceed 1" in each for each in told)


def test_a_few_labels_show_too_little_however_well_they_agree() -> None:
    # Wilson: 2 of 2 is above 0.34, and 0.34 + 0.34 is less than 1; 4 of 4 is above 0.51, and 0.51 + 0.51 is more.
    few, told = audited(evidence(Fair(), people=people({n: TRUTH[n] for n in range(4)})))
    assert few["fair", "human-sensitivity"].low == pytest.approx(2 / (2 + 1.959964**2))
    assert ("new", "corrected-win-rate") not in few
    assert any("label more comparisons" in each for each in told)
    enough, _ = audited(evidence(Fair(), people=people({n: TRUTH[n] for n in range(8)})))
    assert ("new", "corrected-win-rate") in enough


def test_labels_of_other_answers_and_prompts_do_not_count() -> None:
    rows = [
        *people({0: 1.0, 1: 0.0, 2: 1.0, 3: 0.0}),
        *people({4: 0.0}, candidate_length=1),
        *people({5: 1.0}, prompt_id="elsewhere"),
        *people({6: None}),
    ]
    estimates, told = audited(evidence(Fair(), people=rows))
    assert estimates["fair", "human-accuracy"].n == 4
    assert [each.partition(", and")[0] for each in told[:2]] == [
        "1 of 7 judgements by people are on prompts that were not compared in this run",
        "1 of 7 judgements by people were given to answers of other lengths than this run's",
    ]


def test_several_people_count_by_their_mean() -> None:
    rows = [*people({0: 1.0, 1: 0.0}), *people({0: 1.0, 1: 1.0}, judge="bob"), *people({0: 0.0, 1: 0.5}, judge="cid")]
    estimates, _ = audited(evidence(Fair(), people=rows))
    # Prompt 0: two of three for the new model, which the fair judge prefers; prompt 1: a tie.
    assert estimates["fair", "human-accuracy"].n == 1
    assert estimates["fair", "human-accuracy"].value == 1
