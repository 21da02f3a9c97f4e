"""One policy for device and precision, decided without importing torch."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from .components import Compute
from .errors import UsageError
from .plan import Plan
from .progress import in_bytes

CPU_INFO = Path("/proc/cpuinfo")
CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
AMPERE = 8


def resolve_compute(plan: Plan) -> Compute:
    """Where this plan runs: what it says, else what choose_compute chooses. Raises UsageError for a device that is not there."""
    return replace(choose_compute(plan.device, plan.precision, plan.threads), trust_remote_code=plan.trust_remote_code)


def choose_compute(
    device: str = "auto", precision: Literal["auto", "fp32", "bf16"] = "auto", threads: int | None = None
) -> Compute:
    """Device `auto` is CUDA where torch and the driver have it, else the processor; threads are all its cores.

    Precision `auto` is bf16 by autocast where the device multiplies bf16 matrices faster than fp32 ones, else fp32. Raises
    UsageError for a device that is not there.
    """
    cuda = cuda_devices() > 0 and not torch_is_cpu_build()
    if device == "auto":
        device = "cuda" if cuda else "cpu"
    if device == "cuda" and not cuda:
        raise UsageError("device: cuda: this torch, or this machine, has none; leave `device` out, or set it to cpu")
    if precision == "auto":
        precision = "fp32" if bf16_drawback(device) else "bf16"
    return Compute(device, precision, threads or usable_cores())


def compute_warnings(compute: Compute) -> Iterator[str]:
    """What a plan asks of its device that would take far longer than it must."""
    if compute.precision == "bf16" and (drawback := bf16_drawback(compute.device)):
        yield f"precision: bf16: {drawback}; leave `precision` out, or set it to fp32"


def usable_cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bf16_drawback(device: str) -> str | None:
    """Why bf16 matrix products take longer than fp32 ones on a device; None where they do not.

    Of a processor's instructions for them AMX and those of AMD and Arm are faster than fp32. AVX512-BF16 of Intel's since
    Sapphire Rapids, which have AVX512-FP16, is not (docs/performance.md); it is what is left where a virtual machine hides AMX.
    """
    imitates = (
        "has no bf16 matrix products and imitates them, which takes longer than fp32, hundreds of times as long on some"
    )
    if device == "cuda":
        return None if cuda_has_bf16() else f"this GPU {imitates}"
    text = _cpu_info()
    flags = {flag for field in ("flags", "Features") for flag in text.partition(field)[2].partition("\n")[0].split()}
    if flags & {"amx_bf16", "bf16"}:
        return None
    if "avx512_bf16" not in flags:
        return f"this processor {imitates}"
    if "GenuineIntel" in text and "avx512_fp16" in flags:
        return "this processor hides its AMX, and multiplies bf16 matrices without it at about half the speed of fp32 ones"
    return None


def cuda_has_bf16() -> bool:
    """Whether the first CUDA device is of the Ampere generation (compute capability 8.0) or a later one."""
    driver, major = _cuda_driver(), ctypes.c_int()
    return (
        driver is not None
        and driver.cuDeviceGetAttribute(ctypes.byref(major), CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0) == 0
        and major.value >= AMPERE
    )


def cuda_devices() -> int:
    """How many CUDA devices the driver offers; 0 without a driver."""
    driver, count = _cuda_driver(), ctypes.c_int()
    return count.value if driver is not None and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def cuda_names() -> list[str]:
    """The CUDA devices that the driver offers: name and memory of each."""
    driver = _cuda_driver()
    if driver is None:
        return []
    found = []
    for number in range(cuda_devices()):
        device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
        driver.cuDeviceGet(ctypes.byref(device), number)
        driver.cuDeviceGetName(name, len(name), device)
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        found.append(f"{name.value.decode(errors='replace')}, {in_bytes(memory.value)} of memory")
    return found


def _cuda_driver() -> ctypes.CDLL | None:
    """The driver's library, ready to be asked; None where there is none or it is hidden."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        return None
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return driver if driver.cuInit(0) == 0 else None


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
    return _cpu_info().partition("model name")[2].partition("\n")[0].lstrip("\t :") or platform.machine()


def _cpu_info() -> str:
    """What the kernel says of the processors; empty where it says nothing."""
    try:
        return CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
