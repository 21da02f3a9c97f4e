"""Device and precision: what a plan leaves open follows from what the machine can multiply."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from harness import compute
from harness.components import Compute
from harness.errors import UsageError

ZEN_4 = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512_bf16\nbugs\t\t: none\n"
ZEN_2 = "processor\t: 0\nflags\t\t: fpu sse2 avx avx2 fma\nbugs\t\t: avx512_bf16\n"
XEON = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f avx512_bf16{}\nbugs\t\t: none\n"
COOPER_LAKE, SAPPHIRE_RAPIDS = XEON.format(""), XEON.format(" amx_bf16 avx512_fp16 amx_tile amx_int8")
WITHOUT_AMX = XEON.format(" avx512_fp16")
GRAVITON_3 = "processor\t: 0\nFeatures\t: fp asimd sve i8mm bf16 dgh\nCPU implementer\t: 0x41\n"


class Driver:
    """What the CUDA driver's library answers, for a machine that has none: a number of devices of one generation."""

    def __init__(self, devices: int, major: int) -> None:
        self.devices, self.major = devices, major

    def cuInit(self, flags: int) -> int:
        return 0 if self.devices else 100  # CUDA_ERROR_NO_DEVICE

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device: Any, number: int) -> int:
        device._obj.value = 40 + number
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = f"NVIDIA number {device.value}".encode()[:length]
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:
        memory._obj.value = device.value * 10**9
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:
        assert (attribute, device) == (75, 0)
        value._obj.value = self.major
        return 0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A function that says which processor, and which GPUs, compute.py is to see."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(compute, "torch_is_cpu_build", lambda: False)

    def describe(cpu: str, devices: int = 0, major: int = 0) -> None:
        monkeypatch.setattr(compute, "CPU_INFO", tmp_path / "cpuinfo")
        (tmp_path / "cpuinfo").write_text(cpu)
        monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(devices, major))

    return describe


@pytest.mark.parametrize(
    ("cpu", "precision"),
    [
        (ZEN_4, "bf16"),
        (COOPER_LAKE, "bf16"),
        (SAPPHIRE_RAPIDS, "bf16"),
        (GRAVITON_3, "bf16"),
        (ZEN_2, "fp32"),
        (WITHOUT_AMX, "fp32"),
        ("", "fp32"),
    ],
)
def test_a_processor_computes_in_bf16_where_that_is_faster(machine: Any, cpu: str, precision: str) -> None:
    machine(cpu)
    chosen = compute.choose_compute(threads=99)
    assert chosen == Compute("cpu", precision, 99)
    assert not list(compute.compute_warnings(chosen))


@pytest.mark.parametrize(("major", "precision"), [(7, "fp32"), (8, "bf16"), (9, "bf16")])
def test_a_gpu_computes_in_bf16_from_ampere_on(machine: Any, major: int, precision: str) -> None:
    """A T4 or V100 has compute capability 7, and imitates bf16."""
    machine(ZEN_4, devices=1, major=major)
    assert compute.choose_compute(threads=2) == Compute("cuda", precision, 2)


def test_hidden_gpus_are_not_used(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(ZEN_2, devices=2, major=8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert compute.choose_compute().device == "cpu"
    with pytest.raises(UsageError, match="device: cuda"):
        compute.choose_compute("cuda")


def test_bf16_by_wish_is_warned_of_where_it_is_imitated(machine: Any) -> None:
    machine(ZEN_2, devices=1, major=7)
    for device, name in (("cpu", "processor"), ("cuda", "GPU")):
        [text] = compute.compute_warnings(compute.choose_compute(device, "bf16"))
        assert f"precision: bf16: this {name} has no bf16" in text
        assert "set it to fp32" in text
    machine(ZEN_4, devices=1, major=8)
    assert not [*compute.compute_warnings(Compute("cpu", "bf16", 1)), *compute.compute_warnings(Compute("cuda", "bf16", 1))]


def test_bf16_by_wish_is_warned_of_where_the_machine_hides_amx(machine: Any) -> None:
    machine(WITHOUT_AMX)
    [text] = compute.compute_warnings(compute.choose_compute("cpu", "bf16"))
    assert text.startswith(
        "precision: bf16: this processor hides its AMX, and multiplies bf16 matrices without it at about half"
    )
    assert text.endswith("leave `precision` out, or set it to fp32")


def test_gpus_have_names_and_memory(machine: Any) -> None:
    machine(ZEN_4, devices=2, major=9)
    assert compute.cuda_names() == ["NVIDIA number 40, 40 GB of memory", "NVIDIA number 41, 41 GB of memory"]
    machine(ZEN_4)
    assert compute.cuda_names() == []
