"""What the user sees while something runs: one live line on a terminal, a plain line now and then when piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

PLAIN_SECONDS = 5.0
LIVE_SECONDS = 0.1


class Progress:
    """Messages and progress on standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._shown = 0.0
        self._started = 0.0
        self._first_step: int | None = None
        self._task = ""
        self._open = False

    def say(self, text: str) -> None:
        """Tell the user one line, or several."""
        self._clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def start(self, task: str) -> None:
        """Begin a task; its progress is counted from its first step here, so that a resumed one shows a true rate."""
        self._task = task
        self._first_step = None
        self._started = self._shown = time.monotonic()

    def update(self, step: int, total: int | None, values: Mapping[str, float] | None = None) -> None:
        """Show how far the task is."""
        now = time.monotonic()
        if self._first_step is None:
            self._first_step, self._started = step, now
        if now - self._shown < (LIVE_SECONDS if self._live else PLAIN_SECONDS) and step != total:
            return
        self._shown = now
        line = f"{self._task}: {' · '.join(self._parts(step, total, values or {}, now))}"
        if self._live:
            self._stream.write(f"\r\x1b[K{line}")
            self._open = True
        else:
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def _parts(self, step: int, total: int | None, values: Mapping[str, float], now: float) -> list[str]:
        parts = [f"{step}/{total}" if total else f"{step}"]
        parts += [f"{name} {values[name]:.3g}" for name in ("loss", "reward", "kl", "accuracy") if name in values]
        done, seconds = step - (self._first_step or 0), now - self._started
        if done > 0 and seconds > 0:
            rate = done / seconds
            parts.append(f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each")
            if total and total > step:
                parts.append(f"{duration((total - step) / rate)} left")
        return parts

    def _clear(self) -> None:
        if self._open:
            self._stream.write("\r\x1b[K")
            self._open = False


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(n: int, noun: str) -> str:
    """A number of things, in words: 1 stage, 2 stages."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def in_bytes(count: float) -> str:
    """A size as a person reads it, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
