"""Seconds, memory and the name of what they were measured on, on a processor and on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable


def timed(work: Callable[[], object], device: str) -> float:
    """The seconds that `work` takes, up to the end of what it started on `device`; what was started before has ended."""
    import torch

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started


def peak_bytes(device: str) -> int:
    """The most memory this process has held: resident on a processor, in tensors on a GPU."""
    import resource

    import torch

    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device_name(device: str) -> str:
    """The model name of the processor or the GPU."""
    import torch

    from harness.compute import host

    return str(torch.cuda.get_device_name() if device == "cuda" else host()["cpu"])
