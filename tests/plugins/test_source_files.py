"""The files and folders that sources read: every kind of them, and every kind of bad one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from harness_plugins.sources.bad_rows import (
    MISSING,
    TYPE,
)
from harness_plugins.sources.preferences import Preferences
from pydantic import ValidationError
from row_files import lines

import harness

ROWS = [{"prompt": f"Q{number}", "chosen": "a", "rejected": "b"} for number in range(3)]


def read(folder: Path, path: str, **options: Any) -> list[str]:
    loaded = Preferences().load(Preferences.Config(path=path, **options), folder)
    return [row.root for row in loaded.rows]


def test_every_kind_of_file_holds_the_same_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "a.jsonl").write_text("\ufeff" + lines(ROWS).replace("\n", "\n\n"), encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(ROWS).encode()))
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for name, text in {"a.json": json.dumps(ROWS, indent=1), "lines.json": lines(ROWS), "a.csv": CSV.decode()}.items():
        (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    for name in (*(each.name for each in tmp_path.iterdir()), str(tmp_path / "a.jsonl")):
        assert read(tmp_path, name) == ["Q0", "Q1", "Q2"], name


def test_an_object_of_an_array_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([*ROWS, {"text": "a"}], indent=1), encoding="utf-8")
    loaded = Preferences().load(Preferences.Config(path="a.json"), tmp_path)
    # A bracket, and five lines for each of the three rows before it.
    assert loaded.examples[MISSING].startswith(f"{tmp_path / 'a.json'}:17: has text; a preference has")


def test_the_cells_of_a_csv_file_are_text_and_an_empty_one_is_none(tmp_path: Path) -> None:
    text = 'id,prompt,chosen,rejected,margin,category\n7,"Why,\nthen?",a,b,0.5,\n,Q,"a ""so""",b,,3\n,Q,,b,,\n,Q,a,b,big,\n'
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    loaded = Preferences().load(Preferences.Config(path="a.csv"), tmp_path)
    found = [
        (row.id, row.root, row.chosen, row.margin, row.category)
        for row in loaded.rows
        if isinstance(row, harness.Preference)
    ]
    assert found == [("7", "Why,\nthen?", "a", 0.5, None), ("row-000001", "Q", 'a "so"', None, "3")]
    assert loaded.dropped == {MISSING: 1, TYPE: 1}
    assert loaded.examples[MISSING].startswith(f"{tmp_path / 'a.csv'}:5: has prompt, rejected; a preference has")
    assert loaded.examples[TYPE] == f"{tmp_path / 'a.csv'}:6: margin is text; expected a number"


def test_a_folder_of_save_to_disk_is_told(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")

    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)).save_to_disk(tmp_path / "several")
    for folder in ("one", "several"):
        with pytest.raises(
            harness.DataError, match=rf"{folder}: was written by save_to_disk, .* write the data set with to_parquet"
        ):
            read(tmp_path, folder)


SPLIT_NAMES = ["test-00000-of-00001.jsonl", "validation.jsonl", "Eval/a.jsonl", "test_prefs.jsonl", "dev/b/c.jsonl"]


@pytest.mark.parametrize("other", SPLIT_NAMES)
def test_a_folder_of_several_splits_is_not_one_set(tmp_path: Path, other: str) -> None:
    for name in ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "testimonials.jsonl", "training.jsonl", other):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(lines(ROWS[:1]), encoding="utf-8")
    with pytest.raises(
        harness.DataError, match=f"data: holds train-00000-of-00002.jsonl and {other}, and all files of a folder"
    ):
        read(tmp_path, "data")
    (tmp_path / "data" / other).unlink()
    assert read(tmp_path, "data") == ["Q0"] * 4


def test_a_folder_is_read_whole_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, row in (("b.jsonl", ROWS[1]), ("a.jsonl", ROWS[0]), ("sub/c.jsonl", ROWS[2])):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(lines([row]), encoding="utf-8")
    (tmp_path / "data" / "README.md").write_text("not data", encoding="utf-8")
    assert read(tmp_path, "data") == ["Q0", "Q1", "Q2"]
    assert read(tmp_path, "data", subset="sub") == ["Q2"]


def test_a_folder_of_part_files_is_read_and_what_is_hidden_is_not(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for folder in ("a.parquet", "b.jsonl", ".ipynb_checkpoints", "_delta_log"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(ROWS[:1]), tmp_path / "data" / "a.parquet" / "part-00000.parquet")
    for name, text in {
        "b.jsonl/part-00000.json": lines(ROWS[1:2]),
        "b.jsonl/_SUCCESS": "",
        "c.jsonl": lines(ROWS[2:]),
        "._c.jsonl": "\0",
        ".ipynb_checkpoints/c-checkpoint.jsonl": lines(ROWS[2:]),
        "_delta_log/00000.json": '{"commitInfo": {}}',
    }.items():
        (tmp_path / "data" / name).write_text(text, encoding="utf-8")
    assert read(tmp_path, "data") == ["Q0", "Q1", "Q2"]
    assert read(tmp_path, "data/a.parquet") == ["Q0"]
    assert read(tmp_path, "data/b.jsonl") == ["Q1"]


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "_data").mkdir(parents=True)
    (tmp_path / ".cache" / "_data" / "a.jsonl").write_text(lines(ROWS), encoding="utf-8")
    assert read(tmp_path, ".cache", subset="_data") == ["Q0", "Q1", "Q2"]


@pytest.mark.parametrize("path", ["folder", "folder/a.jsonl"])
def test_a_link_to_nothing_is_told(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jsonl").symlink_to("../gone.jsonl")
    with pytest.raises(harness.DataError, match=r"folder/a.jsonl: is a link to ../gone.jsonl, which is not there or may"):
        read(tmp_path, path)


CSV = b"prompt,chosen,rejected\n" + b"".join(b"Q%d,a,b\n" % number for number in range(3))
TRUNCATED = gzip.compress(lines(ROWS * 500).encode())[:-20]
BAD_FILES = {
    "truncated.jsonl.gz": (TRUNCATED, "truncated.jsonl.gz: cannot be read after line"),
    "corrupt.jsonl.gz": (TRUNCATED[:30] + b"\xff" * 40 + TRUNCATED[70:], "corrupt.jsonl.gz: cannot be read after line"),
    "plain.jsonl.gz": (lines(ROWS).encode(), "plain.jsonl.gz: cannot be read after line 0: Not a gzipped file"),
    "broken.jsonl": (lines(ROWS[:2]).encode() + b'{"prompt": \n', "broken.jsonl:3: not valid JSON: Expecting value"),
    "list.jsonl": (b"[1, 2]\n", "list.jsonl:1: expected a JSON object, not '[1, 2]'"),
    "latin.jsonl": (lines(ROWS).encode() + b'{"prompt": "caf\xe9"}\n', "latin.jsonl:4: not UTF-8; save the file as UTF-8"),
    "latin.jsonl.gz": (gzip.compress(lines(ROWS).encode() + b'"caf\xe9"'), "latin.jsonl.gz:4: not UTF-8; save the file as"),
    "utf16.jsonl": (lines(ROWS).encode("utf-16"), "utf16.jsonl:1: not UTF-8"),
    "deep.jsonl": (b"[" * 100_000, "deep.jsonl:1: cannot be read: "),
    "digits.jsonl": (b'{"id": ' + b"9" * 5000 + b"}", "digits.jsonl:1: cannot be read: "),
    "empty.jsonl": (b"", "empty.jsonl is empty"),
    "blank.jsonl": (b"\n \n", "blank.jsonl is empty"),
    "rows.tsv": (b"prompt\tchosen\n", "rows.tsv: expected a .jsonl, .json or .csv file, plain or .gz, or .parquet file"),
    "rows.csv": (b"prompt,chosen\n", "rows.csv is empty"),
    "short.csv": (CSV + b"Q,a\n", "short.csv:5: has more or fewer cells than there are columns"),
    "long.csv": (CSV + b"Q,a,b,c\n", "long.csv:5: has more or fewer cells than there are columns"),
    "open.csv": (CSV + b'Q,"a,b\n', "open.csv:5: not valid CSV (unexpected end of data)"),
    "latin.csv": (CSV + b"caf\xe9,a,b\n", "latin.csv:5: not UTF-8; save the file as UTF-8"),
    "broken.json": (
        b'[{},\n {"prompt": }]',
        "broken.json:2: not valid JSON: Expecting value; expected an array of objects",
    ),
    "unparted.json": (b"[{}\n {}]", "unparted.json:1: not valid JSON: expected a comma, or ] at the end"),
    "behind.json": (b"[{}] {}", "behind.json:1: not valid JSON: expected a comma, or ] at the end"),
    "unclosed.json": (b"[{}\n", "unclosed.json:1: not valid JSON: expected a comma, or ] at the end"),
    "texts.json": (b'[{},\n "a"]', "texts.json:2: expected a JSON object, not '\"a\"'"),
    "none.json": (b"[ ]\n", "none.json is empty"),
    "latin.json": (b'[{},\n"caf\xe9"]', "latin.json:2: not UTF-8; save the file as UTF-8"),
    "deep.json": (b"[" * 100_000, "deep.json:1: cannot be read: "),
    "bad.parquet": (b"PAR1 is not enough", "bad.parquet: not a readable Parquet file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, name: str) -> None:
    content, text = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(harness.DataError) as caught:
        read(tmp_path, name)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["none.jsonl", "./none", "/none/at/all", "none.parquet"])
def test_a_local_file_that_is_not_there(tmp_path: Path, path: str) -> None:
    with pytest.raises(harness.DataError, match="no such file; paths count from the plan's folder"):
        read(tmp_path, path)


def test_a_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        harness.DataError, match=r"no .jsonl, .json or .csv file, plain or .gz, or .parquet file in this folder"
    ):
        read(tmp_path, "empty")


@pytest.mark.parametrize("path", ["a.jsonl", "./folder", "~/a", "/a.parquet"])
def test_a_path_that_is_surely_local_has_no_parts(path: str) -> None:
    with pytest.raises(ValidationError, match=r"part: only a Hub data set has parts; name the file instead"):
        Preferences.Config(path=path, part="test")
    Preferences.Config(path=path, part="train")


def test_a_local_folder_has_no_parts_and_a_data_set_of_the_hub_may_have(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jsonl").write_text(lines(ROWS), encoding="utf-8")
    config = Preferences.Config(path="folder", part="test")
    assert Preferences().missing(config, tmp_path) == (
        "folder is local and has no part 'test'; only a Hub data set has parts; name the file instead"
    )
    assert Preferences().missing(Preferences.Config(path="folder"), tmp_path) is None
    assert Preferences().missing(Preferences.Config(path="owner/name", part="test"), tmp_path) is None


def test_a_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([{"text": "a"}]), tmp_path / "a.parquet")
    with pytest.raises(harness.DataError, match=r"a.parquet: row 1: has text; a preference has"):
        read(tmp_path, "a.parquet")
