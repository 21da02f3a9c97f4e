"""Everything a user can cause, as one line and one exit status.

HarnessError            any of the below; the command line prints its text and exits with `status`
├── UsageError       2  a wrong argument, file or environment
│   └── PlanError    2  a plan with problems; carries all of them
├── StageError       1  a stage could not finish
│   └── DataError    1  a data set cannot be read, or too many of its rows are bad
├── GateError        3  a requirement of the plan was not met
└── Interrupted    130  Ctrl-C

Anything else that reaches the command line is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class HarnessError(Exception):
    """A mistake that the user can mend; the text says where, what, and what to do."""

    status = 1


class UsageError(HarnessError):
    """A wrong argument, file or environment."""

    status = 2


@dataclass(frozen=True, order=True)
class Problem:
    """One problem of a plan: where it stands and what is wrong with it."""

    line: int
    path: str
    text: str
    file: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (where, self.path, self.text) if part)


class PlanError(UsageError):
    """A plan with problems; the text lists every one of them, a line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


class StageError(HarnessError):
    """A stage could not finish; nothing of it was committed."""


class DataError(StageError):
    """A data set cannot be read, or too many of its rows are bad."""


class GateError(HarnessError):
    """A requirement of the plan was not met."""

    status = 3


class Interrupted(HarnessError):
    """The user pressed Ctrl-C."""

    status = 130


def in_words(error: Exception) -> str:
    """An error in one line: of a bug, its kind as well."""
    return str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}".strip()


def out_of_space(error: BaseException | None) -> bool:
    """Whether an error, or one that it followed on, is that of a full disk: libraries wrap it in their own, or only quote it."""
    while error is not None:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def hint(name: object, known: Iterable[str]) -> str:
    """What may be meant by an unknown name: the first that begins so, or the nearest; otherwise all, if they are few."""
    known = [*known]
    begun = [each for each in known if each.startswith(str(name))] if name else []
    close = begun or difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; there are {', '.join(known)}" if known and len(known) <= 30 else ""
