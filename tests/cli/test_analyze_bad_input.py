"""`harness analyze` and every kind of bad input: one line that says where, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judgements import Command, annotation, line, write

from harness.plan.labels import read_labels

GOOD = json.dumps(line("a", 1))
BAD = {
    "empty": ("", "bad: no judgements in it"),
    "blank": (" \n\n", "bad: no judgements in it"),
    "an empty array": ("[]", "bad: no judgements in it"),
    "not JSON": ("hello", "bad:1: not valid JSON"),
    "not JSON further down": (f"{GOOD}\n{{", "bad:2: not valid JSON"),
    "a CSV": ("prompt_id,preference\na,1\n", "bad:1: not valid JSON"),
    "a number": ("3", "bad:1: expected judgement lines"),
    "items that are no objects": ("[1, 2]", "bad: item 0: expected judgement lines"),
    "an array cut off": (f"[{GOOD},", "bad:1: item 1: not valid JSON"),
    "an array not closed": (f"[{GOOD}", "bad:1: not valid JSON: expected a comma"),
    "text after an array": (f"[{GOOD}]\n{GOOD}", "bad:2: not valid JSON: text after"),
    "broken in the middle of an array": (f"[{GOOD},\n{{oops}}]", "bad:2: item 1: not valid JSON"),
    "nested too deeply": ("[" * 100_000, "bad:1: item 0: not valid JSON: nested too deeply"),
    "no such fields": ('{"text": "hello"}', "bad:1: prompt_id: Field required"),
    "a field that is no field": (json.dumps(line("a", 1, prefrence=1)), "bad:1: prefrence: Extra inputs"),
    "a preference above 1": (json.dumps(line("a", 1.5)), "bad:1: preference: Input should be less than or equal to 1"),
    "a preference in words": (json.dumps(line("a", "1")), "bad:1: preference: expected a number"),  # type: ignore[arg-type]
    "a preference that is true": (json.dumps(line("a", True)), "bad:1: preference: expected a number"),
    "a prompt twice": (f"{GOOD}\n{GOOD}", "bad:2: referee judges dpo against sft on prompt"),
    "a prompt twice, turned round": (
        f"{GOOD}\n{json.dumps(line('a', 0, 'sft', baseline='dpo'))}",
        "bad:2: referee judges sft against dpo",
    ),
    "nothing scored": (json.dumps(line("a", None)), "none of the 1 judgements has a preference"),
    "annotations out of range": (json.dumps([annotation(0, 2), annotation(1, 3)]), "bad: item 1: preference: 3"),
    "annotations between tie and 1": (json.dumps([annotation(0, 0.5)]), "bad: item 0: preference: 0.5"),
    "annotations in words": (json.dumps([annotation(0, "2")]), 'bad: item 0: preference: "2"'),  # type: ignore[arg-type]
    "annotations without preference": (json.dumps([{"output_1": "a", "output_2": "b"}]), "bad: item 0: preference: missing"),
    "annotations whose output is a list": (json.dumps([annotation(0, 2, output_1=["a"])]), "bad: item 0: output_1"),
    "annotations whose names are numbers": (json.dumps([annotation(0, 2, generator_2=7)]), "bad: item 0: generator_1"),
    "an annotation twice": (json.dumps([annotation(0, 2)] * 2), "bad: item 1: the same annotation a second time"),
    "a third order": (
        json.dumps(
            [
                annotation(0, 2, output_1="a", output_2="b"),
                *[annotation(0, 2, output_1="b", output_2="a", generator_1="mine", generator_2="gpt4")] * 2,
            ]
        ),
        "bad: item 2: a third judgement",
    ),
    "no annotation scored": (json.dumps([annotation(0, None)]), "none of the 1 judgements has a preference"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("as_json", [False, True])
def test_bad_input_is_one_line_and_status_2(command: Command, case: str, as_json: bool) -> None:
    text, expected = BAD[case]
    Path("bad").write_text(text, encoding="utf-8")
    outcome = command("analyze", "bad", *(["--json"] if as_json else []))
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(expected), outcome.err
    assert outcome.err.count("\n") == 1


def test_integers_are_names_of_prompts_as_good_as_text(command: Command) -> None:
    rows = [line("0", 1), line("1", 0), line("2", 1)]
    numbered = [row | {"prompt_id": int(row["prompt_id"]), "root": int(row["prompt_id"])} for row in rows]
    text, integers = (command("analyze", write("rows.jsonl", each), "--json") for each in (rows, numbered))
    assert (integers.status, integers.out) == (0, text.out)
    assert command("analyze", write("half.jsonl", [line("0", 1) | {"prompt_id": 0.5}])).err.startswith(
        "half.jsonl:1: prompt_id: Input should be a valid string"
    )


def test_integers_are_names_of_prompts_in_labels_too(tmp_path: Path) -> None:
    row = line("0", 1) | {"prompt_id": 7, "suite": "s", "judge": "people", "candidate_length": 1, "baseline_length": 1}
    (tmp_path / "labels.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert [each.prompt_id for _, each in read_labels(tmp_path / "labels.jsonl")] == ["7"]


def test_files_that_cannot_be_read(command: Command) -> None:
    assert command("analyze", "none.json").err.startswith("none.json: No such file or directory")
    Path("folder").mkdir()
    assert command("analyze", "folder").err.startswith("folder: Is a directory")
    Path("latin").write_bytes(b'{"prompt_id": "caf\xe9"}')
    assert command("analyze", "latin").err.startswith("latin: not text in UTF-8")
    Path("png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    for name in ("none.json", "folder", "latin", "png"):
        outcome = command("analyze", name)
        assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)


def test_a_prompt_twice_in_two_files_names_both(command: Command) -> None:
    outcome = command("analyze", write("a.jsonl", [line("x", 1)]), write("b.jsonl", [line("y", 1), line("x", 0)]))
    assert outcome.status == 2
    assert "b.jsonl:2" in outcome.err
    assert "a.jsonl:1" in outcome.err


def test_no_file_is_a_usage_error(command: Command) -> None:
    assert command("analyze").status == 2


TABLES = {
    "no rows": ("index,instruction_difficulty\n", "table.csv:1: expected the columns"),
    "empty": ("", "table.csv:1: expected the columns"),
    "other columns": ("a,b\n1,2\n", "table.csv:1: expected the columns"),
    "words": ("index,difficulty\n0,hard\n", "table.csv:2: difficulty: expected a number, not 'hard'"),
    "NaN": ("index,difficulty\n0,nan\n", "table.csv:2: difficulty: expected a number"),
    "short rows": ("index,difficulty\n0\n", "table.csv:2: not as many cells"),
    "long rows": ("index,difficulty\n0,1,2\n", "table.csv:2: not as many cells"),
    "two values": ("index,difficulty\n0,1\n0,2\n", "table.csv:3: a second, different difficulty"),
    "a prompt missing": ("index,difficulty\n0,1\n", "table.csv: no difficulty for row 1"),
}


@pytest.mark.parametrize("case", TABLES)
def test_bad_difficulties(command: Command, case: str) -> None:
    text, expected = TABLES[case]
    Path("table.csv").write_text(text, encoding="utf-8")
    name = write("annotations.json", [annotation(n, 1 + n % 2) for n in range(4)], array=True)
    outcome = command("analyze", name, "--difficulty", "table.csv")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(expected), outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--difficulty", "--anchor"])
def test_tables_that_are_not_there_or_not_text(command: Command, option: str) -> None:
    name = write("lines.jsonl", [line("a", 1)])
    Path("latin.csv").write_bytes(b"index,difficulty\n\xe9,1\n")
    for table in ("none.csv", "latin.csv", "."):
        outcome = command("analyze", name, option, table)
        assert (outcome.status, outcome.err.count("\n")) == (2, 1)
        assert outcome.err.startswith(f"{table}: ")


@pytest.mark.parametrize("text", ["preference\n1\n", "preference,std_delta_len,instruction_difficulty\n2,1,1\n",
                                  "preference,std_delta_len,instruction_difficulty\nnan,1,1\n"])  # fmt: skip
def test_bad_anchors(command: Command, text: str) -> None:
    Path("table.csv").write_text(text, encoding="utf-8")
    outcome = command("analyze", write("lines.jsonl", [line("a", 1)]), "--anchor", "table.csv")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert outcome.err.startswith("table.csv:")


def test_a_page_that_cannot_be_written(command: Command) -> None:
    name = write("lines.jsonl", [line("a", 1), line("b", 0)])
    Path("file").write_text("", encoding="utf-8")
    outcome = command("analyze", name, "-o", "file/page.html")
    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    outcome = command("--no-plugin", "report", "analyze", name, "-o", "page.html")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
