from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from harness.data import DataSets, load, split_by_root, too_many
from harness.errors import DataError
from harness.plan import Graph, check, parse_document
from harness.plugins import load_plugins
from harness.records import Message, PromptRow

SHARES = {"train": 0.6, "valid": 0.1, "test": 0.3}


def rows(count: int, siblings: int = 1) -> list[PromptRow]:
    return [
        PromptRow(id=f"{n}-{s}", root=f"root {n}", prompt=(Message(role="user", content=f"root {n}"),))
        for n in range(count)
        for s in range(siblings)
    ]


def graph(folder: Path, options: str = "", pairs: int = 40, bad: int = 0) -> Graph:
    good = [{"prompt": f"Q{n}", "chosen": "a", "rejected": "b"} for n in range(pairs)]
    lines = [*good, *({"prompt": f"E{n}", "chosen": "a", "rejected": ""} for n in range(bad))]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    text = (
        "name: x\nbase: {type: tiny}\n"
        f"data:\n  mine: {{source: preferences, path: pairs.jsonl, split: {{train: 0.5, test: 0.5}}{options}}}\n"
        "stages:\n  dpo: {aligner: dpo, init: base, data: mine.train}\n"
    )
    return check(parse_document(text, str(folder / "plan.yaml")), load_plugins().registry())


def test_siblings_stay_together_and_nothing_is_lost() -> None:
    splits = split_by_root(rows(500, siblings=3), {"train": 0.7, "test": 0.3}, seed=0)
    roots = {name: {row.root for row in part} for name, part in splits.items()}
    assert roots["train"].isdisjoint(roots["test"])
    assert sum(map(len, splits.values())) == 1500


def test_shares_hold_within_four_standard_errors() -> None:
    count = 5000
    splits = split_by_root(rows(count), SHARES, seed=1)
    for name, share in SHARES.items():
        assert abs(len(splits[name]) / count - share) < 4 * math.sqrt(share * (1 - share) / count)


def test_shares_below_one_leave_roots_out() -> None:
    splits = split_by_root(rows(2000), {"train": 0.5}, seed=0)
    assert 900 < len(splits["train"]) < 1100


def test_adding_rows_moves_none() -> None:
    few, many = (split_by_root(rows(count), SHARES, seed=0) for count in (300, 900))
    for name in SHARES:
        assert many[name][: len(few[name])] == few[name]


def test_another_seed_is_another_split() -> None:
    first, second = ({row.id for row in split_by_root(rows(200), SHARES, seed)["train"]} for seed in (0, 1))
    assert first != second


def test_rows_keep_their_order_and_without_shares_stay_whole() -> None:
    assert split_by_root(rows(5), {}, seed=0) == {"": rows(5)}
    train = split_by_root(rows(200), SHARES, seed=0)["train"]
    assert train == sorted(train, key=lambda row: int(row.id.partition("-")[0]))


def test_a_limit_keeps_the_first_rows_of_each_split(tmp_path: Path) -> None:
    whole, limited = DataSets(graph(tmp_path)), DataSets(graph(tmp_path, ", limit: 5"))
    for reference in ("mine.train", "mine.test"):
        assert limited.get(reference).rows == whole.get(reference).rows[:5]


def test_fingerprints_tell_rows_apart_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first, again = (DataSets(graph(tmp_path)).get("mine.train") for _ in range(2))
    elsewhere = DataSets(graph(tmp_path / "other")).get("mine.train")
    fewer = DataSets(graph(tmp_path, ", limit: 5")).get("mine.train")
    assert first.fingerprint == again.fingerprint == elsewhere.fingerprint
    assert len({first.fingerprint, fewer.fingerprint, DataSets(graph(tmp_path)).get("mine.test").fingerprint}) == 3


def test_a_source_is_read_once(tmp_path: Path) -> None:
    sets = DataSets(graph(tmp_path))
    first = sets.get("mine.train")
    (tmp_path / "pairs.jsonl").unlink()
    assert sets.get("mine.train") is first
    assert set(sets.loaded()) == {"mine.train", "mine.test"}


def test_texts_are_those_that_stages_train_on(tmp_path: Path) -> None:
    sets = DataSets(graph(tmp_path))
    prompts = {row.prompt[0].content for row in sets.get("mine.train").rows}
    assert set(sets.texts()) == prompts | {"a", "b"}


def test_dropped_rows_are_counted_up_to_the_limit(tmp_path: Path) -> None:
    # 4 of 40 are 10 %, which the default allows; 5 of 41 are more.
    node = graph(tmp_path, pairs=36, bad=4).data["mine"]
    assert load(node, 0, tmp_path)["mine.train"].dropped == {"empty answer": 4}
    node = graph(tmp_path, pairs=36, bad=5).data["mine"]
    with pytest.raises(
        DataError,
        match=r"data.mine: 5 of 41 rows had to be dropped \(5 empty answer\), more than max_dropped: 0.1 .* expected. "
        r"The first empty answer: .*pairs.jsonl:37: the answer in rejected is empty",
    ):
        load(node, 0, tmp_path)
    node = graph(tmp_path, ", max_dropped: 0.2", pairs=36, bad=5).data["mine"]
    assert load(node, 0, tmp_path)["mine.test"].dropped == {"empty answer": 5}


@pytest.mark.parametrize(
    ("kept", "dropped", "text"),
    [
        (0, {}, "mine: the source gave no row"),
        (0, {"missing field": 3}, r"mine: no usable row \(3 missing field\); look at the file's format"),
        (
            5,
            {"a": 1, "b": 2},
            r"mine: 3 of 8 rows had to be dropped \(2 b, 1 a\), more than max_dropped: 0.1 allows; mend the data",
        ),
    ],
)
def test_what_is_said_of_too_many_bad_rows(kept: int, dropped: dict[str, int], text: str) -> None:
    with pytest.raises(DataError, match=text):
        too_many("mine", kept, dropped, 0.1)


def test_columns_that_are_not_read_are_known_of_every_split(tmp_path: Path) -> None:
    node = graph(tmp_path).data["mine"]
    pairs = [{"prompt": f"Q{n}", "chosen": "a", "rejected": "b", "score_chosen": 1, "note": None} for n in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs), encoding="utf-8")
    assert {each.unread for each in load(node, 0, tmp_path).values()} == {("score_chosen",)}


def test_a_split_without_rows_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"data.mine: split '(train|test)' is empty: there are 1 rows of 1 conversation root \(f"
    ):
        load(graph(tmp_path, pairs=1).data["mine"], 0, tmp_path)


@pytest.mark.parametrize(
    ("roots", "words"),
    [
        (
            1,
            "all 20 rows begin with the same first human turn, 'root 0', and such rows stay together; give rows that begin",
        ),
        (2, r"there are 20 rows of 2 conversation roots \(first human turns\), and a root stays in one split; give more"),
    ],
)
def test_a_split_is_empty_for_want_of_roots_not_of_rows(tmp_path: Path, roots: int, words: str) -> None:
    node = graph(tmp_path).data["mine"]
    pairs = [{"prompt": f"root {n % roots}", "chosen": f"a{n}", "rejected": "b"} for n in range(20)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs), encoding="utf-8")
    seed = next(seed for seed in range(99) if not all(split_by_root(rows(roots), node.config.split, seed).values()))
    with pytest.raises(DataError, match=f"is empty: {words}"):
        load(node, seed, tmp_path)


def test_a_file_that_cannot_be_read_names_the_data(tmp_path: Path) -> None:
    resolved: Any = graph(tmp_path)
    (tmp_path / "pairs.jsonl").unlink()
    with pytest.raises(DataError, match=r"data.mine: pairs.jsonl: no such file; paths count from the plan's folder"):
        DataSets(resolved).get("mine.train")
