"""Extra sections of the report, from other plugins.

The hooks that write the report are not given the plugin manager, so the one that this process was configured with last is
kept here. Without one (`render` called as a function) a report has the built-in sections only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.rundir import RunFolder

_hooks: list[Any] = []


@dataclass(frozen=True)
class Section:
    """A section that a plugin added. `html` is the plugin's own; the page's content security policy binds it too."""

    title: str
    html: str


def use(hook: Any) -> None:
    """Ask these hooks for sections from now on."""
    _hooks[:] = [hook]


def extra_sections(run: RunFolder) -> tuple[Section, ...]:
    """Every plugin's sections for this run."""
    answers = [answer for hook in _hooks for answer in hook.harness_report_sections(run=run)]
    return tuple(Section(title, html) for answer in answers for title, html in answer)
