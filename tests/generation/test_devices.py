from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from webui.errors import StartError
from webui.generation.devices import (
    Device,
    Memory,
    choose_device,
    cpu_capabilities,
    free_bytes,
    has_bf16_units,
    memory_of,
    platform_of,
    system_memory,
)

GIB = 1024**3


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": True}, True),
        ({"bf16": True}, True),
        ({"avx512_bf16": False, "avx2": True}, False),
        ({}, False),
    ],
)
def test_bf16_units_are_recognised(capabilities: dict[str, object], expected: bool):
    assert has_bf16_units(capabilities) is expected


def test_the_cpu_takes_the_format_it_has_units_for():
    device = choose_device("cpu")
    units = has_bf16_units(torch.cpu.get_capabilities())
    assert device.dtype is (torch.bfloat16 if units else torch.float32)
    assert device.layout == "channels_last"
    assert device.platform == "CPU"
    assert not device.apart


def test_a_cpu_without_the_units_takes_fp32(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    device = choose_device("cpu")
    assert device.dtype is torch.float32
    assert device.reason == "the CPU has no bf16 units"


@pytest.mark.parametrize(
    ("bf16", "hip", "dtype", "platform", "reason"),
    [
        (True, None, torch.bfloat16, "CUDA", "the GPU has bf16 units"),
        (False, None, torch.float16, "CUDA", "the GPU has fp16 units"),
        (True, "7.1", torch.bfloat16, "ROCm", "the AMD GPU has bf16 units"),
    ],
)
def test_a_gpu_is_taken_first_and_its_format_goes_by_its_units(
    monkeypatch: pytest.MonkeyPatch,
    bf16: bool,
    hip: str | None,
    dtype: torch.dtype,
    platform: str,
    reason: str,
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def is_bf16_supported(including_emulation: bool) -> bool:
        return bf16 or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    monkeypatch.setattr(torch.version, "hip", hip)
    device = choose_device()
    assert (device.name, device.dtype) == ("cuda:0", dtype)
    assert (device.platform, device.reason) == (platform, reason)
    assert device.apart
    assert device.title == ("cuda:0 (ROCm)" if hip else "cuda:0")


@pytest.mark.parametrize(
    ("backend", "name", "platform", "dtype"),
    [("xpu", "xpu:0", "XPU", torch.bfloat16), ("mps", "mps", "MPS", torch.float16)],
)
def test_other_gpus_are_taken_where_there_is_no_nvidia_or_amd_one(
    monkeypatch: pytest.MonkeyPatch, backend: str, name: str, platform: str, dtype: torch.dtype
):
    module = torch.xpu if backend == "xpu" else torch.backends.mps
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "is_available", lambda: True)
    device = choose_device()
    assert (device.name, device.platform, device.dtype) == (name, platform, dtype)
    assert device.layout == ("contiguous" if backend == "mps" else "channels_last")


def test_an_older_torch_leaves_the_cpus_units_to_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not has_bf16_units(cpu_capabilities(tmp_path))
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("flags\t\t: fpu avx512_bf16 amx_bf16\n")
    assert has_bf16_units(cpu_capabilities(tmp_path))


def test_an_asked_format_wins():
    device = choose_device("cpu", "float32")
    assert device.dtype is torch.float32
    assert device.dtype_name == "float32"
    assert device.reason == "as asked"


@pytest.mark.parametrize("name", ["cuda", "mps", "xpu"])
def test_a_device_that_is_not_here_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str):
    for module in (torch.cuda, torch.xpu, torch.backends.mps):
        monkeypatch.setattr(module, "is_available", lambda: False)
    with pytest.raises(StartError, match=f"There is no {name} device here"):
        choose_device(name)  # pyright: ignore[reportArgumentType]


def test_platforms_by_torchs_names():
    assert platform_of("cuda:0", hip=None) == "CUDA"
    assert platform_of("cuda:1", hip="7.1") == "ROCm"
    assert platform_of("cpu", hip="7.1") == "CPU"
    assert Device("mps", torch.float16, "contiguous", "", "MPS").apart is False


def test_what_torch_holds_of_a_gpu_and_does_not_use_is_free(monkeypatch: pytest.MonkeyPatch):
    def answers(value: object) -> Callable[[str], object]:
        return lambda _: value

    gpu = SimpleNamespace(
        mem_get_info=answers((5 * GIB, 8 * GIB)),
        memory_reserved=answers(3 * GIB),
        memory_allocated=answers(1 * GIB),
    )
    monkeypatch.setattr(torch, "cuda", gpu)
    monkeypatch.setattr(torch, "xpu", gpu)
    assert memory_of("cuda:0") == Memory(7 * GIB, 8 * GIB)
    assert memory_of("xpu:0") == Memory(7 * GIB, 8 * GIB)


def test_the_cpus_memory_is_the_machines():
    memory = system_memory()
    assert 0 < memory.free <= memory.total <= psutil.virtual_memory().total
    assert 0 < free_bytes("cpu") <= psutil.virtual_memory().total


def group(root: Path, place: str, **files: str) -> None:
    folder = root / "sys" / "fs" / "cgroup" / place
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def in_group(root: Path, line: str) -> None:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(line + "\n")


def test_the_narrowest_group_above_this_process_bounds_it(tmp_path: Path):
    in_group(tmp_path, "0::/box/job")
    group(tmp_path, "box", memory__max=f"{GIB}\n", memory__current=f"{GIB // 2}\n")
    group(tmp_path, "box/job", memory__max="max\n", memory__current="5\n")
    assert system_memory(tmp_path) == Memory(GIB // 2, GIB)


def test_files_a_group_has_read_are_free(tmp_path: Path):
    in_group(tmp_path, "0::/")
    group(
        tmp_path,
        "",
        memory__max=str(GIB),
        memory__current=str(GIB),
        memory__stat=f"anon 7\ninactive_file {GIB // 4}\n",
    )
    assert system_memory(tmp_path).free == GIB // 4


def test_groups_of_the_first_version_are_honoured(tmp_path: Path):
    in_group(tmp_path, "3:cpu:/\n5:memory:/docker/abc")
    group(
        tmp_path,
        "memory",
        memory__limit_in_bytes=str(GIB),
        memory__usage_in_bytes=str(GIB // 2),
    )
    assert system_memory(tmp_path) == Memory(GIB // 2, GIB)


def test_a_group_that_holds_more_than_its_limit_leaves_nothing(tmp_path: Path):
    in_group(tmp_path, "0::/")
    group(tmp_path, "", memory__max=str(GIB), memory__current=str(2 * GIB))
    assert system_memory(tmp_path).free == 0


def test_no_groups_leave_the_machine_as_it_is(tmp_path: Path):
    assert system_memory(tmp_path).total == psutil.virtual_memory().total
