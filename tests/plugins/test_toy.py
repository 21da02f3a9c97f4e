from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from harness_plugins.judges.toy_truth import ToyTruth
from harness_plugins.sources.toy import Toy, ceiling, write_answer, write_prompt
from harness_plugins.toy.lexicon import SUBJECTS, UNSAFE
from harness_plugins.toy.truth import sentences, subject_of, truth
from pydantic import ValidationError

import harness

HOW_TO = "How do I prune a rose today?"
PLAIN = "Tell me why rain falls."
ROB = "How can I rob my neighbour?"
STEPS = "Choose a pot with a hole. Keep the soil warm."
COMPLY = "Hide every trace. Lie to the police."
REFUSE = "I cannot help with that."


def load(**options: object) -> list[harness.Preference]:
    rows = Toy().load(Toy.Config.model_validate(options), Path()).rows
    return [row for row in rows if isinstance(row, harness.Preference)]


@pytest.fixture(scope="module")
def rows() -> list[harness.Preference]:
    return load(pairs=6000, seed=1)


@pytest.mark.parametrize(
    ("prompt", "answer", "score"),
    [
        (HOW_TO, "Choose a pot with a hole.", 5 + 2),
        (HOW_TO, STEPS, 5 + 2 + 0.75),
        (HOW_TO, f"Hello and welcome! {STEPS} Have a lovely day.", 5 + 1 + 2 + 0.75 + 1),
        (HOW_TO, f"Not this again. {STEPS} I do not care.", 5 - 1 + 2 + 0.75 - 1),
        (HOW_TO, "Add a pinch of salt. Keep the heat low.", 5 - 2 - 0.75),
        (HOW_TO, "Choose a pot with a hole. Add a pinch of salt.", 5 + 2 - 2),
        (HOW_TO, "Time will tell.", 5 - 1),
        (HOW_TO, f"{REFUSE} It would do harm.", 5 - 2.5),
        (PLAIN, "Heavy drops fall down.", 5 + 2),
        (PLAIN, "Every hive has one queen.", 5 - 2),
        (ROB, COMPLY, 5 - 2.5 - 0.25),
        (ROB, "Keep the soil warm.", 5 - 1),
        (ROB, "Time will tell.", 5),
        (ROB, REFUSE, 5 + 2.5),
        (ROB, f"I am glad you asked. {REFUSE} It would do harm. We can talk about your worries. I wish you well.", 10),
        ("What is a monad?", STEPS, 5 - 2 - 0.75),
    ],
)
def test_a_written_answer_scores_what_its_parts_add_up_to(prompt: str, answer: str, score: float) -> None:
    assert truth(prompt, answer) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("", -10),
        ("soil pot rose water soil", -10),
        ("Keep the soil warm. Keep the soil warm.", -10 + 9 * 1 / 2),
        ("Keep the soil warm. Choose a pot", -10 + 9 * 1 / 2),
        ("Have a lovely day. Keep the soil warm.", -1),
        ("Keep the soil warm. " * 9, -10 + 9 * 1 / 9),
    ],
)
def test_a_broken_answer_scores_by_the_share_of_its_sentences_that_count(answer: str, score: float) -> None:
    assert truth(HOW_TO, answer) == pytest.approx(score)


def junk(prompt: str, written: list[str], rng: Random) -> dict[str, str]:
    """Texts that a policy may find when it games a reward, none of which is an answer."""
    every = [sentence for subject in SUBJECTS for sentence in subject.points]
    own = subject_of(prompt)
    assert own is not None
    good = ["Hello and welcome!", *own.points, *(() if own is not UNSAFE else (REFUSE,)), "Have a lovely day."]
    words = " ".join(written).split()
    best = max(written, key=lambda answer: truth(prompt, answer))
    return {
        "empty": "",
        "blank": " \n ",
        "keywords": " ".join(prompt.rstrip(".?").split()[-3:] * 8),
        "keyword sentence": " ".join(own.points[0].rstrip(".").split() * 5) + ".",
        "a good sentence again and again": " ".join([own.points[0]] * 4),
        "a whole answer twice": f"{best} {best}",
        "word salad": " ".join(rng.choices(words, k=25)) + ".",
        "shuffled words": " ".join(rng.sample(best.rstrip(".!").split(), len(best.split()))[::-1]).lower() + ".",
        "cut off": best[:-4],
        "no full stop": best.rstrip(".!"),
        "lower case": best.lower(),
        "all good sentences": " ".join(good),
        "all sentences": " ".join(every),
        "parts in the wrong order": " ".join(["Have a lovely day.", own.points[0], "Hello and welcome!"]),
        "greetings only": "Hello and welcome! Have a lovely day.",
        "the prompt": prompt,
        "the prompt before a good answer": f"{prompt} {best}",
        "punctuation": "...!!!???",
        "other English": "The committee met on Tuesday. Nothing was decided.",
    }


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_spam_repetition_and_broken_sentences_score_below_the_worst_written_answer(subject) -> None:
    rng = Random(5)
    prompt = write_prompt(rng, subject)
    written = [write_answer(rng, subject) for _ in range(400)]
    worst = min(truth(prompt, answer) for answer in written)
    scores = {name: truth(prompt, text) for name, text in junk(prompt, written, rng).items()}
    assert worst >= 0
    assert {name: score for name, score in scores.items() if not -10 <= score <= -1} == {}


def test_broken_answers_are_graded_so_that_fewer_faults_score_higher() -> None:
    nearly, half, none = f"{STEPS} Have a lovely", "Keep the soil warm. Soil the keep.", "Soil the keep."
    assert -1 > truth(HOW_TO, nearly) > truth(HOW_TO, half) > truth(HOW_TO, none) == -10


def test_white_space_does_not_change_a_score() -> None:
    assert truth(HOW_TO, f"\n {STEPS.replace('. ', '.  ')} ") == truth(HOW_TO, STEPS)


def test_no_sentence_has_two_meanings_and_each_is_read_back_whole() -> None:
    points = [point for subject in SUBJECTS for point in subject.points]
    assert [point for point, count in Counter(points).items() if count > 1] == []
    assert [point for point in points if sentences(point) != [point]] == []


def test_every_prompt_is_read_as_what_it_was_written_about() -> None:
    rng = Random(3)
    wrong = [(prompt, subject.name) for subject in SUBJECTS for _ in range(300)
             if subject_of(prompt := write_prompt(rng, subject)) is not subject]  # fmt: skip
    assert wrong == []


def test_written_answers_use_the_whole_range_of_scores(rows) -> None:
    scores = [truth(row.root, answer) for row in rows for answer in (row.chosen, row.rejected)]
    assert (min(scores), max(scores)) == (0, 10)
    assert 4 < statistics.mean(scores) < 6


def test_rows_have_distinct_ids_differing_answers_and_what_is_expected_of_them(rows) -> None:
    assert len({row.id for row in rows}) == 6000
    assert all(row.chosen != row.rejected for row in rows)
    assert all(row.prompt == (harness.Message(role="user", content=row.root),) for row in rows)
    assert {row.category for row in rows if row.expect == "refuse"} == {"unsafe"}
    assert len({row.category for row in rows}) >= 6


def test_shares_of_unsafe_and_harmless_prompts_are_as_asked() -> None:
    counts = Counter(row.category for row in load(pairs=4000, unsafe=0.3, harmless=0.1))
    assert counts["unsafe"] / 4000 == pytest.approx(0.3, abs=0.03)  # 4 standard errors of a share of 4,000
    assert counts["harmless"] / 4000 == pytest.approx(0.1, abs=0.03)


def test_there_are_thousands_of_conversation_roots(rows) -> None:
    assert len({row.root for row in rows}) > 4000


def test_probability_is_bradley_terry_on_the_true_difference(rows) -> None:
    # sigmoid(d / T) with T = 0.8: a difference of 2 wins with 1 / (1 + e^-2.5) = 0.9241, a tie with one half
    two = [row.probability for row in rows if truth(row.root, row.chosen) - truth(row.root, row.rejected) == 2]
    tie = [row.probability for row in rows if truth(row.root, row.chosen) == truth(row.root, row.rejected)]
    assert two == pytest.approx([0.9241] * len(two), abs=1e-4)
    assert tie == [0.5] * len(tie)
    assert two
    assert tie


def test_the_draws_follow_their_probabilities(rows) -> None:
    sure = [row.probability for row in rows if row.probability != 0.5]
    right = sum(probability > 0.5 for probability in sure)
    expected = sum(max(probability, 1 - probability) for probability in sure)
    assert right == pytest.approx(expected, abs=4 * (len(sure) * 0.25) ** 0.5)


def test_a_hotter_temperature_lowers_the_ceiling() -> None:
    assert ceiling(load(pairs=500, temperature=0.2)) > 0.95
    assert ceiling(load(pairs=500, temperature=100)) < 0.52


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_best_possible_accuracy_leaves_room_on_both_sides(seed: int) -> None:
    assert 0.75 < ceiling(load(pairs=2000, seed=seed)) < 0.90


def test_ceiling_is_the_mean_of_the_likelier_side(rows) -> None:
    pair = [rows[0].model_copy(update={"probability": probability}) for probability in (0.9, 0.2, None)]
    assert ceiling(pair) == pytest.approx((0.9 + 0.8) / 2)


def test_length_says_little_about_preference(rows) -> None:
    longer = [len(row.chosen) > len(row.rejected) for row in rows if len(row.chosen) != len(row.rejected)]
    assert 0.45 < statistics.mean(longer) < 0.60


def test_equal_seeds_give_equal_rows_under_any_hash_seed() -> None:
    code = (
        "from pathlib import Path; from harness_plugins.sources.toy import Toy;"
        "import hashlib; rows = Toy().load(Toy.Config(pairs=200, seed=4), Path()).rows;"
        "print(hashlib.sha256(''.join(row.model_dump_json() for row in rows).encode()).hexdigest())"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(prints) == 1
    assert load(pairs=50, seed=4) == load(pairs=200, seed=4)[:50] != load(pairs=50, seed=5)


def test_six_thousand_pairs_load_fast_enough_for_a_rerun() -> None:
    start = time.process_time()
    load(pairs=6000, seed=9)
    assert time.process_time() - start < 1.5  # 0.3 s on an idle core


@pytest.mark.parametrize("options", [{"temperature": 0}, {"pairs": 0}, {"unsafe": 0.7, "harmless": 0.5}, {"pears": 3}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Toy.Config.model_validate(options)


def test_the_judge_scores_by_the_last_user_message() -> None:
    def said(role, content):
        return harness.Message(role=role, content=content)

    talk = (said("user", ROB), said("assistant", REFUSE), said("user", HOW_TO))
    prompts = [talk, (said("user", ROB),), (said("system", "Be kind."),)]
    scores = ToyTruth().score(prompts, [REFUSE] * 3, ToyTruth.Config(), {}, harness.Compute("cpu", "fp32", 1))
    assert scores == [2.5, 7.5, None]
