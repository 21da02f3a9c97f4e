"""Conversations that two data sets of a plan share: a suite and what a stage trains on, a judge's pairs and a candidate's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from harness.data import DataSets
from harness.evaluation.suites import load_suites
from harness.overlap import overlap_warnings
from harness.plan import check, parse_document
from harness.plugins import load_plugins

PLAN = """\
name: files
base: {type: tiny}
data:
  train: {source: preferences, path: train.jsonl}
  judged: {source: preferences, path: judged.jsonl}
  eval: {source: preferences, path: eval.jsonl}
stages:
  sft: {aligner: sft, init: base, data: train}
  referee: {aligner: reward, init: sft, data: judged}
  dpo: {aligner: dpo, init: sft, data: train}
evaluate:
  baseline: sft
  candidates: [dpo]
  suites: {heldout: {data: eval, limit: 4}, mine: {path: mine.jsonl}}
  judges: {referee: {judge: reward-model, model: referee}}
  metrics: [win-rate]
"""


def write(folder: Path, name: str, numbers: Iterable[int]) -> None:
    rows = [{"prompt": f"question {n}", "chosen": "yes", "rejected": "no"} for n in numbers]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def warnings(folder: Path, train: Iterable[int], judged: Iterable[int], asked: Iterable[int], mine: str) -> list[str]:
    for name, numbers in (("train.jsonl", train), ("judged.jsonl", judged), ("eval.jsonl", asked)):
        write(folder, name, numbers)
    (folder / "mine.jsonl").write_text(json.dumps({"id": "a", "prompt": mine}) + "\n")
    (folder / "plan.yaml").write_text(PLAN)
    graph = check(parse_document(PLAN, str(folder / "plan.yaml")), load_plugins().registry())
    assert graph.warnings == ()
    data = DataSets(graph)
    return list(overlap_warnings(graph, data, load_suites(graph, data)))


def test_files_that_share_nothing_are_no_warning(tmp_path: Path) -> None:
    assert warnings(tmp_path, range(10), range(10, 20), range(20, 30), "question 30") == []


def test_a_suite_that_asks_what_a_stage_trains_on_is_told_with_how_many(tmp_path: Path) -> None:
    """Of the suite's four prompts, 8 to 11, two are in train and two in judged; `mine` asks one of train's."""
    found = warnings(tmp_path, range(10), range(10, 20), range(8, 18), "question 3")
    assert [text.partition(". ")[0] for text in found] == [
        "'sft' trains on train, where 2 of the 4 prompts of the suite 'heldout' begin conversations, too; the numbers of 'dpo', "
        "'referee' there are not of unseen prompts alone",
        "'referee' trains on judged, where 2 of the 4 prompts of the suite 'heldout' begin conversations, too; the numbers of "
        "'referee' there are not of unseen prompts alone",
        "'dpo' trains on train, where 2 of the 4 prompts of the suite 'heldout' begin conversations, too; the numbers of 'dpo' "
        "there are not of unseen prompts alone",
        "'sft' trains on train, where 1 of the 1 prompts of the suite 'mine' begin conversations, too; the numbers of 'dpo', "
        "'referee' there are not of unseen prompts alone",
        "'dpo' trains on train, where 1 of the 1 prompts of the suite 'mine' begin conversations, too; the numbers of 'dpo' "
        "there are not of unseen prompts alone",
    ]


def test_a_judge_that_learned_a_candidates_conversations_is_told(tmp_path: Path) -> None:
    found = warnings(tmp_path, range(10), range(7, 20), range(20, 30), "question 30")
    assert [text.partition(": ")[0] for text in found] == [
        "judge 'referee' ('referee') learned from judged, of whose conversations 3 are in train, which 'sft' trained on",
        "judge 'referee' ('referee') learned from judged, of whose conversations 3 are in train, which 'dpo' trained on",
    ]


def test_splits_of_one_data_set_are_the_plans_own_matter(tmp_path: Path) -> None:
    """The suite asks what both stages train on, of which the plan itself warns."""
    write(tmp_path, "train.jsonl", range(10))
    write(tmp_path, "judged.jsonl", range(10, 20))
    plan = PLAN.replace("{data: eval, limit: 4}, mine: {path: mine.jsonl}", "{data: train}").replace(
        "path: eval", "path: train"
    )
    graph = check(parse_document(plan, str(tmp_path / "plan.yaml")), load_plugins().registry())
    assert [text.partition(", whose")[0] for text in graph.warnings] == ["'sft' trains on train", "'dpo' trains on train"]
    data = DataSets(graph)
    assert list(overlap_warnings(graph, data, load_suites(graph, data))) == []
