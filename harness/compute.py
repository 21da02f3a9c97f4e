"""One policy for device and precision, decided without importing torch."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from .components import Compute
from .errors import UsageError
from .plan import Plan


def resolve_compute(plan: Plan) -> Compute:
    """Where this plan runs: what it says, else CUDA where torch and the driver have it, else the processor.

    Precision `auto` is bf16 by autocast where the device multiplies bf16 matrices itself, else fp32. Raises UsageError for a
    device that is not there.
    """
    cuda = cuda_devices() > 0 and not torch_is_cpu_build()
    device = plan.device if plan.device != "auto" else ("cuda" if cuda else "cpu")
    if device == "cuda" and not cuda:
        raise UsageError("device: cuda: this torch, or this machine, has none; leave `device` out, or set it to cpu")
    precision: Literal["fp32", "bf16"]
    if plan.precision == "auto":
        precision = "bf16" if device == "cuda" or (device == "cpu" and cpu_has_bf16()) else "fp32"
    else:
        precision = plan.precision
    return Compute(device, precision, plan.threads or usable_cores())


def usable_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 matrices in hardware (AVX512-BF16, AMX or Arm's BF16)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = set(text.partition("flags")[2].partition("\n")[0].split()) | set(
        text.partition("Features")[2].partition("\n")[0].split()
    )
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def cuda_devices() -> int:
    """How many CUDA devices the driver offers; 0 without a driver."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        return 0
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def torch_is_cpu_build() -> bool:
    """Whether the installed torch says that it was built without CUDA."""
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return True


def host() -> dict[str, Any]:
    """What the numbers of a run were computed on."""
    import psutil

    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return text.partition("model name")[2].partition("\n")[0].lstrip("\t :") or platform.machine()
