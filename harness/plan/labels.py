"""What people said of some comparisons: the judgement lines that `evaluate.human` names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError, hint
from ..records import Judgement, read_records
from .problems import Problems

if TYPE_CHECKING:
    from .model import Evaluate

PATH = ("evaluate", "human")
MOST_PROBLEMS = 5


def read_labels(path: Path) -> list[tuple[int, Judgement]]:
    """The judgements of a file, each with the number of its line. Raises UsageError for a file or a line that is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}") from None
    return list(zip((n for n, line in enumerate(lines, 1) if line.strip()), read_records(path, Judgement), strict=True))


def check_labels(evaluate: Evaluate, problems: Problems, comparisons: list[tuple[str, str]]) -> None:
    """Note what is wrong with the file of people's judgements, as far as the plan tells."""
    if evaluate.human is None:
        return
    path = problems.document.folder / evaluate.human
    if not evaluate.judges:
        problems.add(PATH, "there is no judge to hold people's judgements against; name one in `judges`, or leave this out")
    if not path.is_file():
        problems.add(PATH, f"{path}: no such file; paths count from the plan's folder")
        return
    try:
        rows = read_labels(path)
    except UsageError as error:
        problems.add(PATH, str(error))
        return
    if not any(row.preference is not None for _, row in rows):
        problems.add(PATH, f"{path}: holds no preference; a line is a judgement, as a run writes it under judgements/")
        return
    found = [f"{path}:{number}: {text}" for number, text in _misfits(evaluate, rows, comparisons)]
    for text in found[:MOST_PROBLEMS]:
        problems.add(PATH, text)
    if len(found) > MOST_PROBLEMS:
        problems.add(PATH, f"{path}: {len(found) - MOST_PROBLEMS} more lines do not fit this plan")


def _misfits(
    evaluate: Evaluate, rows: list[tuple[int, Judgement]], comparisons: list[tuple[str, str]]
) -> Iterator[tuple[int, str]]:
    first: dict[tuple[str, ...], int] = {}
    for number, row in rows:
        key = (row.suite, row.candidate, row.baseline, row.prompt_id, row.judge)
        if row.suite not in evaluate.suites:
            yield number, f"no suite {row.suite!r} in this plan{hint(row.suite, evaluate.suites)}"
        elif (row.candidate, row.baseline) not in comparisons:
            known = "; ".join(f"{candidate} with {baseline}" for candidate, baseline in comparisons[:8])
            yield number, f"this plan does not compare {row.candidate!r} with {row.baseline!r}; it compares {known}"
        elif (earlier := first.setdefault(key, number)) != number:
            yield (
                number,
                f"the comparison of line {earlier} again, by the same judge; keep one, or name who judged in `judge`",
            )
