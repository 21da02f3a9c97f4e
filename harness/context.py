"""What a running stage is given, and the train log that makes its curves survive a kill and a reuse."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .components import Compute, StageContext
from .errors import StageError
from .health import Monitor
from .store import Workspace

TRAIN_LOG = "train.jsonl"
SAMPLE_SECONDS = 0.25


class RunningStage(StageContext):
    """The context of a stage that trains in this process.

    Scalars go to the train log beside the checkpoints, to `on_log`, and to the `health` monitor, which may end the stage;
    those before a checkpoint that it goes on from, to the latter two again. The train log is copied into the output when the
    stage is done, so that it is committed with the model, and stays where it is: a kill in between loses nothing.

    `earlier_seconds` is what interrupted tries had spent up to the checkpoint that this one goes on from.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        compute: Compute,
        work: Workspace,
        on_log: Callable[[int, Mapping[str, float], int | None, bool], None],
        on_note: Callable[[str], None],
        keep: Callable[[str, Mapping[str, Any], Callable[[Path], None]], Path],
        health: Monitor | None = None,
    ) -> None:
        self.name = name
        self.seed = seed
        self.compute = compute
        self.output = work.output
        self.checkpoints = work.checkpoints
        self._log_path = work.checkpoints / TRAIN_LOG
        self._on_log = on_log
        self._on_note = on_note
        self._keep = keep
        self._health = health or Monitor(name, (), lambda _: None)
        self._resumed = False
        self._started = time.monotonic()
        self.earlier_seconds = 0.0

    def log(self, step: int, values: Mapping[str, float], total: int | None = None) -> None:
        """Record scalars at a step; see StageContext. Raises StageError where a health rule ends the stage."""
        for name, value in values.items():
            if "loss" in name and not math.isfinite(value):
                raise StageError(
                    f"stage {self.name!r}: {name} is {value} at step {step}; nothing of it was kept. Lower its learning_rate, "
                    "or look at the data of that step"
                )
        if not self._resumed:
            self.rewind(0)
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        seconds = round(self.earlier_seconds + time.monotonic() - self._started, 3)
        with self._log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "total": total, "seconds": seconds, "values": finite}) + "\n")
        self._tell(step, finite, total, again=False)

    def rewind(self, step: int) -> None:
        """Forget the scalars after `step`, and hand those before it on again; see StageContext."""
        kept = [row for row in read_train_log(self._log_path) if row["step"] <= step] if step else []
        self._log_path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        self._resumed = True
        self.earlier_seconds = kept[-1]["seconds"] if kept else 0.0
        self._health.reset()
        for row in kept:
            self._tell(row["step"], row["values"], row.get("total"), again=True)

    def note(self, text: str) -> None:
        """Tell the user something."""
        self._on_note(text)

    def keep(self, what: str, identity: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """What `build` writes, from the store where it is there already; see StageContext."""
        return self._keep(what, identity, build)

    def finish(self) -> None:
        """Put the train log beside the model. Raises StageError where a health rule ends the stage after all."""
        self._health.finish()
        # Without the seconds, which no second run would have again.
        rows = ({name: row[name] for name in ("step", "total", "values")} for row in read_train_log(self._log_path))
        (self.output / TRAIN_LOG).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def _tell(self, step: int, values: Mapping[str, float], total: int | None, again: bool) -> None:
        self._on_log(step, values, total, again)
        self._health.log(step, values, total)


def read_train_log(path: Path) -> Iterator[dict[str, Any]]:
    """The scalars that a stage logged, in order; a last line cut off by a kill is left out. Raises StageError if damaged."""
    if path.exists():
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    try:
                        yield _logged(json.loads(line))
                    except (ValueError, TypeError, LookupError, AttributeError):
                        raise StageError(
                            f"{path}:{number}: not the scalars of a step; the file is damaged, --fresh computes it again"
                        ) from None


def _logged(row: Any) -> dict[str, Any]:
    """A row of a train log, as it is read. Raises what a row that is none makes the conversions raise."""
    values = {str(name): float(value) for name, value in row["values"].items()}
    return {"step": int(row["step"]), "total": row.get("total"), "seconds": float(row.get("seconds", 0)), "values": values}


class PeakMemory:
    """The most memory that this process holds while it is open, sampled: `bytes` resident, `device_bytes` in tensors on a GPU."""

    def __init__(self, device: str) -> None:
        import psutil

        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)
        self._device = device
        self.bytes = 0
        self.device_bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        self._ask_device()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.device_bytes = self._ask_device()

    def _ask_device(self) -> int | None:
        """The peak since it was asked last; None without a GPU."""
        if self._device == "cpu":
            return None
        from .engine.inference import take_peak_bytes

        return take_peak_bytes()

    def _sample(self) -> None:
        while True:
            self.bytes = max(self.bytes, self._process.memory_info().rss)
            if self._stop.wait(SAMPLE_SECONDS):
                return
