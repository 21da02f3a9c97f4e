"""Judgements that came from elsewhere: judgement lines, and the annotation files of AlpacaEval."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, replace
from io import BufferedReader
from typing import Any

from pydantic import Field, ValidationError

from ..errors import UsageError
from ..records import Identity, Judgement, Probability, Record
from .json_elements import elements

UNNAMED = "unnamed"
ALPACA_FIELDS = {"output_1", "output_2", "generator_1", "generator_2"}
EXPECTED = 'expected judgement lines {"prompt_id", "candidate", "baseline", "preference"…} or AlpacaEval annotations'


@dataclass(frozen=True, slots=True)
class Judged:
    """One judge's preference for the candidate in [0, 1] on one prompt, None where unscored.

    `difference` is the candidate's length less the baseline's, in characters; None where a length is not known. `position`
    counts the rows of the same judge and pair in the same file, from 0.
    """

    prompt_id: str
    root: str
    suite: str
    judge: str
    candidate: str
    baseline: str
    preference: float | None
    difference: int | None
    position: int
    where: str

    @property
    def pair(self) -> tuple[str, str, str, str]:
        """Judge, suite, candidate and baseline: what one win rate is of."""
        return self.judge, self.suite, self.candidate, self.baseline


class JudgementLine(Record):
    """What is read of a judgement line: all but the names and the preference may be left out, `root` may be added.

    The other fields of a judgement are allowed and not looked at; any else is an error, for it may be a misspelt one.
    """

    prompt_id: Identity
    candidate: str
    baseline: str
    preference: Probability | None
    suite: str = UNNAMED
    judge: str = UNNAMED
    root: Identity | None = None
    candidate_length: int | None = Field(default=None, ge=0)
    baseline_length: int | None = Field(default=None, ge=0)


def read_judged(name: str, file: BufferedReader) -> list[Judged]:
    """Every judgement of one file, which is a JSON array or JSON lines, each element of either of the two kinds.

    The two orders of an AlpacaEval pair, the same answers swapped, become one judgement: the mean of both preferences for
    what the first of them calls `output_2`, or unscored where one of the two is. Raises UsageError with file and line for
    what is no judgement.
    """
    reader, rows = _AlpacaReader(name), []
    try:
        for where, value in elements(name, file):
            if not isinstance(value, dict):
                raise UsageError(f"{where}: {EXPECTED}, not {_kind(value)}")
            if ALPACA_FIELDS & value.keys() and "candidate" not in value:
                reader.add(where, value)
            else:
                rows.append(_line(where, value))
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not text in UTF-8 ({error.reason}); {EXPECTED}") from None
    rows += reader.rows.values()
    if not rows:
        raise UsageError(f"{name}: no judgements in it; {EXPECTED}")
    return rows


def refuse_repeats(rows: list[Judged]) -> None:
    """Raise UsageError where one judge judged two models on one prompt twice, in whatever order they are named."""
    seen: dict[tuple[str, str, str, str, str], str] = {}
    for row in rows:
        one, other = sorted((row.candidate, row.baseline))
        first = seen.setdefault((row.judge, row.suite, one, other, row.prompt_id), row.where)
        if first is not row.where:
            raise UsageError(
                f"{row.where}: {row.judge} judges {row.candidate} against {row.baseline} on prompt {_short(row.prompt_id)} "
                f"a second time (first: {first}); keep one preference per prompt and pair"
            )


def _line(where: str, value: dict[str, Any]) -> Judged:
    fields, ignored = JudgementLine.model_fields, Judgement.model_fields
    preference = value.get("preference")
    if isinstance(preference, float) and math.isnan(preference):
        value = {**value, "preference": None}
    try:
        if isinstance(preference, bool | str):
            raise UsageError(f"{where}: preference: expected a number from 0 to 1 or null, not {preference!r}")
        line = JudgementLine.model_validate({key: value[key] for key in value if key in fields or key not in ignored})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}; {EXPECTED}") from None
    known = line.candidate_length is not None and line.baseline_length is not None
    return Judged(
        prompt_id=line.prompt_id,
        root=line.root or line.prompt_id,
        suite=line.suite,
        judge=line.judge,
        candidate=line.candidate,
        baseline=line.baseline,
        preference=line.preference,
        difference=line.candidate_length - line.baseline_length if known else None,  # type: ignore[operator]
        position=0,
        where=where,
    )


class _AlpacaReader:
    """Collects the annotations of one file, the two orders of a pair as one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[tuple[Any, ...], Judged] = {}
        self.swapped: set[tuple[Any, ...]] = set()
        self.positions: Counter[tuple[str, str, str]] = Counter()
        self.asked: Counter[tuple[str, str, str, str]] = Counter()
        self.texts: dict[str, str] = {}

    def add(self, where: str, value: dict[str, Any]) -> None:
        preference = _preference(where, value)
        first, second = _text(where, value, "output_1"), _text(where, value, "output_2")
        baseline, candidate = value.get("generator_1") or "baseline", value.get("generator_2") or self.name
        judge, instruction = str(value.get("annotator") or UNNAMED), _text(where, value, "instruction")
        if not isinstance(baseline, str) or not isinstance(candidate, str):
            raise UsageError(f"{where}: generator_1, generator_2: expected names")
        asked = f"item {len(self.rows)}" if instruction is None else self.texts.setdefault(instruction, instruction)
        # The data sets that a set is made of may share an instruction.
        prompt = judge, asked, str(value.get("dataset"))
        answers = hash(first), hash(second)
        key = (*prompt, baseline, candidate, *answers)
        # The same answers the other way round, with the models' names swapped too, or left where they stood.
        for names in ((candidate, baseline), (baseline, candidate)):
            turned = (*prompt, *names, *answers[::-1])
            if turned != key and turned in self.rows:
                self._collapse(where, turned, preference)
                return
        if key in self.rows:
            raise UsageError(
                f"{where}: the same annotation a second time (first: {self.rows[key].where}); keep one per prompt and pair"
            )
        self.asked[judge, asked, candidate, baseline] += 1
        number = self.asked[judge, asked, candidate, baseline]
        position = self.positions[judge, candidate, baseline]
        self.positions[judge, candidate, baseline] += 1
        index = value.get("index")
        self.rows[key] = Judged(
            # An instruction may stand in a set twice; such prompts are siblings.
            prompt_id=asked if number == 1 else f"{asked} ({number})",
            root=asked,
            suite="alpaca-eval",
            judge=judge,
            candidate=candidate,
            baseline=baseline,
            preference=preference,
            difference=None if first is None or second is None else len(second) - len(first),
            position=index if isinstance(index, int) and not isinstance(index, bool) else position,
            where=where,
        )

    def _collapse(self, where: str, key: tuple[Any, ...], preference: float | None) -> None:
        earlier = self.rows[key]
        if key in self.swapped:
            raise UsageError(f"{where}: a third judgement of the answers of {earlier.where}; keep one in each order")
        self.swapped.add(key)
        both = None if preference is None or earlier.preference is None else (earlier.preference + 1 - preference) / 2
        self.rows[key] = replace(earlier, preference=both)


def _preference(where: str, value: dict[str, Any]) -> float | None:
    """AlpacaEval's 1 … 2 as 0 … 1; 0, its old sign of a tie, is 0.5."""
    if "preference" not in value:
        raise UsageError(f"{where}: preference: missing; AlpacaEval's is a number from 1 to 2, or null")
    given = value["preference"]
    if given is None or (isinstance(given, float) and math.isnan(given)):
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not (given == 0 or 1 <= given <= 2):
        raise UsageError(
            f"{where}: preference: {json.dumps(given)}; AlpacaEval's is a number from 1 (output_1) to 2 (output_2), 0 or 1.5 "
            "a tie, or null"
        )
    return 0.5 if given == 0 else float(given) - 1


def _text(where: str, value: dict[str, Any], field: str) -> str | None:
    """A text that may be missing: absent, null or NaN."""
    given = value.get(field)
    if given is None or (isinstance(given, float) and math.isnan(given)):
        return None
    if not isinstance(given, str):
        raise UsageError(f"{where}: {field}: expected text, not {_kind(given)}")
    return given


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return json.dumps(line if len(line) <= 60 else line[:57] + "…", ensure_ascii=False)
