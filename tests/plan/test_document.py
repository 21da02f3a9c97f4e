from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import PlanError, Problem
from harness.plan.document import parse_document, read_document


def values(text: str) -> dict[str, object]:
    return parse_document(text, "plan.yaml").values


@pytest.mark.parametrize(
    ("written", "value"),
    [("5e-7", 5e-7), ("1.0e-5", 1e-5), ("1e-3", 1e-3), ("yes", "yes"), ("true", True), ("7", 7), ("0o17", 15), ("~", None),
     ("2024-01-01", "2024-01-01"), ("'7'", "7"), ("!!str 7", "7"), ("[a, 1]", ["a", 1]), ("{b: {c: 1}}", {"b": {"c": 1}})],
)  # fmt: skip
def test_values_are_those_of_yaml_1_2(written: str, value: object) -> None:
    assert values(f"a: {written}")["a"] == value


def test_keys_are_text() -> None:
    assert values("5: x\n0.1: y\ntrue: z") == {"5": "x", "0.1": "y", "true": "z"}


def test_each_value_has_its_line() -> None:
    document = parse_document("a: 1\nb:\n  c: 2\n  d:\n    - 3\n    -\n      e: 4\n", "p")
    assert document.lines == {
        ("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "d"): 4, ("b", "d", 0): 5, ("b", "d", 1): 7, ("b", "d", 1, "e"): 7
    }  # fmt: skip


def test_aliases_and_merges_are_written_out() -> None:
    document = parse_document("a: &a {x: 1, y: 2}\nb: *a\nc:\n  y: 3\n  <<: *a\nd: {<<: [{x: 5}, {x: 6, z: 7}]}", "p")
    assert document.values["b"] == {"x": 1, "y": 2}
    assert document.values["c"] == {"x": 1, "y": 3}
    assert document.values["d"] == {"x": 5, "z": 7}
    assert document.lines["c", "y"] == 4
    assert document.lines["c", "x"] == 1


@pytest.mark.parametrize("merged", ["common", "5", "[{x: 1}, common]"])
def test_what_is_merged_is_a_mapping(merged: str) -> None:
    """A forgotten * would leave every option at its default."""
    (problem,) = parse_document(f"a: &common {{x: 1}}\nb:\n  <<: {merged}\n  y: 2", "p").problems
    assert (problem.line, problem.path) == (3, "b")
    assert problem.text.startswith("`<<` takes a mapping, or an alias of one such as *common, not ")


def test_an_anchor_may_be_used_again() -> None:
    assert values("a: &x 1\nb: &x 2\nc: *x") == {"a": 1, "b": 2, "c": 2}


def test_the_first_of_two_equal_keys_counts_and_the_second_is_told() -> None:
    document = parse_document("a: 1\nb: {c: 1,\n  c: 2}\na: 3", "p")
    assert document.values == {"a": 1, "b": {"c": 1}}
    assert document.problems == [
        Problem(3, "b.c", "the key 'c' stands twice; remove one", "p"),
        Problem(4, "a", "the key 'a' stands twice; remove one", "p"),
    ]


def test_a_problem_stands_at_its_nearest_ancestor_with_a_line() -> None:
    document = parse_document("a:\n  b: {c: 1}\n", "p")
    assert document.problem(("a", "b", "nothing"), "x") == Problem(2, "a.b.nothing", "x", "p")
    assert document.problem(("nothing",), "x") == Problem(1, "nothing", "x", "p")


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_document(tmp_path / "plan.yaml").values == {"name": "x"}


def test_aliases_may_multiply_up_to_a_limit() -> None:
    rows = "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
    some = "[" + ", ".join(["*b"] * 100) + "]"  # 100 · (1 + 10 + 100) nodes
    assert len(values(f"{rows}c: {some}")["c"]) == 100  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="too many values"):
        values(f"{rows}c: {some}\nd: {some}\ne: {some}\nf: {some}\ng: {some}")
