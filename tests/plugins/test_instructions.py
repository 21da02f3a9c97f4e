"""Verifiable instructions: an answer that keeps each kind and one that does not, and checks that are none."""

from __future__ import annotations

from typing import Any

import pytest
from harness_plugins.metrics.instructions import KINDS, follows, problem
from harness_plugins.metrics.languages import FUNCTION_WORDS, language

from harness import Check, SuiteRow

TABLE = "| a | b |\n| --- | :-: |\n| 1 | 2 |"
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("words", {"at_least": 2, "at_most": 3}, "It's well-known.", "One two three four."),
    ("words", {"at_least": 3}, "3.5 is enough", "Too few"),
    ("characters", {"at_most": 5}, "four ", "sixsix"),
    # "Dr. May", "e.g. tea", 3.5 and "1." end no sentence; a line break does.
    ("sentences", {"at_least": 2, "at_most": 2}, "Dr. May drinks, e.g. tea. It costs 3.5 euros!", "One. Two. Three."),
    ("sentences", {"at_least": 2, "at_most": 2}, "1. Stir\n2. Pour", 'He said "Stop." and left.'),
    ("lines", {"at_least": 2, "at_most": 2}, "one\n\n two", "one\ntwo\nthree"),
    ("paragraphs", {"at_least": 2, "at_most": 2}, "one\nmore\n \ntwo", "one\ntwo"),
    ("sentence-length", {"at_most": 3}, "One two three. Four.", "One two three four."),
    ("word-length", {"at_most": 4}, "Four five.", "Seven"),
    ("bullets", {"at_least": 2, "at_most": 2}, "Take:\n- tea\n* milk", "- tea\n- milk\n- salt"),
    ("bullets", {"at_least": 1}, "• tea", "-tea and **bold**"),
    ("numbered-list", {"at_least": 2}, "Do this:\n1. Stir\n2) Pour", "1. Stir\n3. Pour"),
    ("numbered-list", {"at_most": 2}, "1. Stir\n2. Pour", "1. a\n2. b\n3. c"),
    ("json", {"keys": ["a", "b"]}, '{"b": 1, "a": null}', '{"a": 1, "b": 2, "c": 3}'),
    ("json", {"items": 2}, '```json\n["x", "y"]\n```', '["x", "y", "z"]'),
    ("json", {}, "[]", 'Here it is: {"a": 1}'),
    ("json", {}, "{}", "3"),
    ("table", {"columns": 2}, TABLE, "| a | b |\n| 1 | 2 |\n| 3 | 4 |"),
    ("table", {"columns": 2, "rows": 1}, f"Here:\n\n{TABLE}", f"{TABLE}\n| 3 | 4 |"),
    ("table", {"columns": 3}, "a | b | c\n--- | --- | ---\n1 | 2 | 3", TABLE),
    ("json", {"keys": ["title"]}, '{"title": "The “best” book"}', "{“title”: 1}"),
    ("json", {"keys": ["it’s"]}, '{"it’s": 1}', '{"it\'s": 1}'),
    ("headings", {"at_least": 2, "at_most": 2}, "# One\ntext\n## Two", "# One\n#hashtag"),
    ("headings", {"at_most": 0}, "So:\n```python\n# a comment\nx = 1\n```", "```\n# a comment\n```\n# One"),
    ("code-block", {"language": "python"}, "So:\n```Python\nx = 1\n```", "```bash\nls\n```"),
    ("code-block", {}, "```\nls\n```", "```\nls\n```\nor\n```\ndir\n```"),
    ("quoted", {}, "“Ahoy, and well met!”", '"Ahoy," he said, "there."'),
    ("bold", {"at_least": 1, "at_most": 1}, "Play **Ludo now**.", "**Ludo** and **Chess**"),
    ("bold", {"at_least": 1}, "**a**", "2 ** 3 ** 4"),
    ("plain", {}, "Blow it out - and wipe it.", "Use `rm`."),
    ("plain", {}, "Rated 5* by all", "Do:\n- this"),
    ("placeholders", {"at_least": 2}, "Dear [name], come on [date].", "Dear [name], yes [name], see [here](x)."),
    ("sections", {"separator": "***", "count": 2}, "one\n ***\ntwo", "one *** two"),
    ("sections", {"separator": "---", "count": 2}, "one\n---\ntwo", "---\none"),
    ("labels", {"labels": ["Pros", "Cons"]}, "**Pros:** shops\n- Cons: noise", "Cons: noise\nPros: shops"),
    ("labels", {"labels": ["Answer"]}, "answer: a clock", "Answer: one\nAnswer: two"),
    ("contains", {"phrases": ["harvest", "once in a while"]}, "Harvest once in\na while.", "The harvester, once in a while."),
    ("contains", {"phrases": ["don’t"]}, "I don’t know; you don't.", "I do not know."),
    ("avoids", {"phrases": ["ball"]}, "Football is a game.", "Kick the Ball."),
    ("avoids", {"phrases": ["don’t"]}, "I do not know.", "I don’t know."),
    ("occurrences", {"phrase": "go", "at_least": 2, "at_most": 2}, "Go, go gorilla!", "go go go"),
    ("in-order", {"phrases": ["noon", "night"]}, "Noon, night and noon", "night, noon"),
    ("in-order", {"phrases": ["noon", "night"]}, "At noon or at night", "At noon and in the afternoon"),
    ("starts-with", {"text": "Dear Ann, it's"}, " Dear Ann, it’s me", "Well. Dear Ann, it's me"),
    ("starts-with", {"text": "“Ahoy"}, "“Ahoy!” she said", "Ahoy, she said"),
    ("ends-with", {"text": "Over."}, "Done. Over.\n", "Over. Done."),
    ("lines-start-with", {"text": "May"}, "May it rain.\n\nMay it shine.", "May it rain.\nAnd shine."),
    ("avoids-characters", {"characters": "e!"}, "A dog ran.", "Every dog"),
    ("initial", {"letter": "s"}, "Six slim swans.", "Six swans and more"),
    ("acrostic", {"word": "sun"}, "Shine\n*Under\nnight", "Shine\nUnder"),
    ("upper-case", {}, "MIND THE STEP: 3!", "MIND THE Step"),
    ("upper-case", {}, "1990", "Es HEIßT so"),
    ("lower-case", {}, "bees hum in 3 hives.", "Bees hum."),
    ("lower-case", {}, "4", "4 B"),
    ("capital-words", {"at_least": 2, "at_most": 2}, "STOP and LOOK. I do.", "STOP, LOOK, LISTEN"),
    ("capitalised", {}, "Up The 3rd Hill", "Up the Hill"),
    ("one-of", {"options": ["yes", "no"]}, "Yes.", "Yes, it is."),
    ("one-of", {"options": ["Yes.", "No."]}, "yes", "Yes.No."),
    ("one-of", {"options": ["a.m.", "p.m."]}, "A.M.", "a.m. or p.m."),
    ("sorted-lines", {}, "- Ant\n- bee\n- Cat", "bee\nant"),
    ("comma-list", {"at_least": 3, "at_most": 3}, "red, dark blue, green.", "red, blue\ngreen, pink"),
    ("questions", {"at_least": 1, "at_most": 1}, "Ready?! Go.", "Why? How?"),
    ("numbers", {"at_least": 2, "at_most": 2}, "1,000 at 9:30", "1 2 3"),
    ("language", {"language": "en"}, "The cat is in the garden and it sleeps.", "Die Katze ist im Garten und sie schläft."),
]  # fmt: skip

SENTENCES = {
    "de": "Ich wohne mit meiner Familie in einem kleinen Haus am See, und im Sommer schwimmen wir jeden Tag.",
    "en": "I live in a small house by the lake with my family, and we swim every day in summer.",
    "es": "Vivo con mi familia en una casa pequeña junto al lago, y en verano nadamos todos los días.",
    "fr": "J’habite avec ma famille dans une petite maison au bord du lac, et nous nageons tous les jours en été.",
    "it": "Abito con la mia famiglia in una piccola casa sul lago, e d'estate nuotiamo tutti i giorni.",
    "nl": "Ik woon met mijn familie in een klein huis aan het meer, en in de zomer zwemmen wij elke dag.",
    "pt": "Moro com a minha família em uma casa pequena junto ao lago, e no verão nadamos todos os dias.",
}


def row(*checks: dict[str, Any]) -> SuiteRow:
    return SuiteRow.model_validate({"id": "a", "prompt": "x", "checks": checks})


@pytest.mark.parametrize(("kind", "parameters", "good", "bad"), CASES)
def test_each_kind_passes_what_keeps_it_and_fails_what_does_not(
    kind: str, parameters: dict[str, Any], good: str, bad: str
) -> None:
    asked = row({"kind": kind, **parameters})
    assert problem(asked) is None
    assert follows(good, asked)
    assert not follows(bad, asked)


def test_every_kind_has_its_examples() -> None:
    assert {kind for kind, *_ in CASES} == set(KINDS)
    assert len(KINDS) >= 20


def test_all_checks_of_a_row_must_pass() -> None:
    asked = row({"kind": "words", "at_most": 3}, {"kind": "lower-case"})
    assert follows("all is well", asked)
    assert not follows("All is well", asked)
    assert not follows("all is well here", asked)


@pytest.mark.parametrize(("code", "text"), SENTENCES.items())
def test_function_words_tell_a_sentence_from_the_same_one_in_six_other_languages(code: str, text: str) -> None:
    assert language(text) == code
    assert set(SENTENCES) == set(FUNCTION_WORDS)


@pytest.mark.parametrize("text", ["", "Ja, das ist", "Paris Berlin Madrid London Rome Lisbon", "12 34 56 78 90 12"])
def test_what_is_too_short_or_has_no_function_words_is_in_no_language(text: str) -> None:
    assert language(text) is None


@pytest.mark.parametrize(
    ("check", "text"),
    [
        ({"kind": "wrods", "at_most": 3}, "unknown check 'wrods'; did you mean 'words'?"),
        ({"kind": "_within"}, "unknown check '_within'; known: acrostic, "),
        ({"kind": "words", "atmost": 3}, "check 'words': unknown parameter 'atmost'; did you mean 'at_most'?"),
        ({"kind": "words", "answer": "x"}, "check 'words': unknown parameter 'answer'"),
        ({"kind": "words"}, "check 'words': give at_least, at_most or both"),
        ({"kind": "words", "at_least": 5, "at_most": 4}, "check 'words': at_least 5 is above at_most 4"),
        ({"kind": "words", "at_least": "5"}, "check 'words': at_least: input should be a valid integer, not '5'"),
        ({"kind": "words", "at_least": -1}, "check 'words': at_least: input should be greater than or equal to 0, not -1"),
        ({"kind": "starts-with"}, "check 'starts-with': the parameter 'text' is missing"),
        ({"kind": "contains", "phrases": []}, "check 'contains': phrases: list should have at least 1 item"),
        ({"kind": "contains", "phrases": "word"}, "check 'contains': phrases: input should be a valid list, not 'word'"),
        ({"kind": "language", "language": "la"}, "check 'language': language: input should be 'de', 'en'"),
        ({"kind": "json", "keys": ["a"], "items": 2}, "check 'json': give keys"),
    ],
)
def test_a_check_that_is_none_is_told_in_a_sentence(check: dict[str, Any], text: str) -> None:
    said = problem(row({"kind": "lower-case"}, check))
    assert said is not None
    assert said.startswith(text)


def test_a_check_keeps_its_parameters_through_a_file() -> None:
    asked = row({"kind": "words", "at_most": 3})
    assert asked.checks == (Check(kind="words", at_most=3),)  # type: ignore[call-arg]
    again = SuiteRow.model_validate_json(asked.model_dump_json())
    assert again.checks[0].parameters == {"at_most": 3}
