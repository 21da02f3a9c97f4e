"""What a run tells its user, it tells once."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.runlog import RunLog
from harness.stages import Stages


def test_a_warning_is_noted_and_told_once() -> None:
    told: list[str] = []
    log = SimpleNamespace(_warnings=[], event=lambda _, text: told.append(text))
    noted = [RunLog.warn(log, text) for text in ("one", "two", "one")]  # type: ignore[arg-type]
    assert (noted, told) == ([True, True, False], ["one", "two"])


@pytest.mark.parametrize(("base", "told"), [("models/mine", True), (None, False)])
def test_a_base_that_was_given_a_template_is_told_unless_it_is_the_harnesss_own(
    monkeypatch: pytest.MonkeyPatch, base: str | None, told: bool
) -> None:
    warnings: list[str] = []
    result = SimpleNamespace(about={"key": "k", "template_added": True}, path=Path())
    run = SimpleNamespace(
        graph=SimpleNamespace(plan=SimpleNamespace(base=base)),
        data=SimpleNamespace(texts=list),
        produce=lambda *_: result,
        warn=warnings.append,
        artifacts={},
    )
    monkeypatch.setattr("harness.stages.base_identity", lambda *_: {})
    Stages(run)._base()  # type: ignore[arg-type]
    assert [text.partition(":")[0] for text in warnings] == (["base models/mine"] if told else [])
    assert run.artifacts["base"].key == "k"


def test_what_a_stage_notes_is_told_and_kept_once() -> None:
    told: list[str] = []
    kept: list[tuple[str, dict[str, str]]] = []
    log = SimpleNamespace(_notes=set(), event=lambda kind, **fields: kept.append((kind, fields)))
    log.note = partial(RunLog.note, log)
    stages = Stages(SimpleNamespace(graph=None, progress=SimpleNamespace(say=told.append), log=log))  # type: ignore[arg-type]
    for stage, text in (
        ("ppo", "its judge asks too much"),
        ("ppo", "its judge asks too much"),
        ("dpo", "cut"),
        ("ppo", "cut"),
    ):
        stages._note(stage, text)
    assert told == ["ppo: its judge asks too much", "dpo: cut", "ppo: cut"]
    assert [(kind, *fields.values()) for kind, fields in kept] == [("note", *each.split(": ")) for each in told]
    assert list(kept[0][1]) == ["stage", "text"]
