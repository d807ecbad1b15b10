"""Graphics cards as the tools and the kernel tell of them."""

from __future__ import annotations

import platform
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from webui.library.defaults import fitting
from webui.library.graphics import graphics_memory
from webui.settings import GIB

_NONE = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
_REGISTERS = "0x0000000084000000 0x0000000084ffffff 0x0000000000140204\n"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One on which nothing is installed, with no cards."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(platform, "system", lambda: "Linux")


def nvidia_smi(tmp_path: Path, script: str) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def card(tmp_path: Path, number: int, **files: str) -> None:
    for name, text in files.items():
        file = tmp_path / "sys" / "class" / "drm" / f"card{number}" / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def memory(tmp_path: Path) -> int | None:
    return graphics_memory(tmp_path / "sys")


def test_without_a_card_there_is_none(tmp_path: Path) -> None:
    assert memory(tmp_path) is None


def test_the_largest_nvidia_card_counts(tmp_path: Path) -> None:
    right = "--query-gpu=memory.total --format=csv,noheader,nounits"
    nvidia_smi(tmp_path, f'test "$*" = "{right}" && printf "8188\\n24564\\n"')
    assert memory(tmp_path) == 24564 * 1024**2


@pytest.mark.parametrize(
    "script",
    ["echo 'NVIDIA-SMI has failed'; exit 9", "echo 'No devices were found'", "echo '[N/A]'"],
)
def test_an_nvidia_tool_without_a_card_tells_of_none(tmp_path: Path, script: str) -> None:
    nvidia_smi(tmp_path, script)
    assert memory(tmp_path) is None


def test_an_amd_card_is_read_from_the_kernel(tmp_path: Path) -> None:
    card(tmp_path, 0, device__vendor="0x1002\n", device__mem_info_vram_total="536870912\n")
    card(tmp_path, 1, device__vendor="0x1002\n", device__mem_info_vram_total="17163091968\n")
    card(tmp_path, 2, device__vendor="0x1002\n", device__mem_info_vram_total="torn\n")
    assert memory(tmp_path) == 17163091968


@pytest.mark.parametrize(
    ("told", "size"),
    [
        # As xe tells it, of a card of two tiles.
        ({"device__tile0__physical_vram_size_bytes": f"{8 * GIB}\n"}, 8 * GIB),
        (
            {f"device__tile{n}__physical_vram_size_bytes": f"{8 * GIB}\n" for n in range(2)},
            16 * GIB,
        ),
        # As Intel's own i915 does.
        ({"lmem_total_bytes": "17179869184\n"}, 16 * GIB),
        # By its window on the PCI bus alone.
        (
            {
                "device__resource": f"{_REGISTERS}{_NONE}"
                "0x0000004000000000 0x00000042ffffffff 0x000000000014220c\n"
            },
            12 * GIB,
        ),
    ],
)
def test_an_intel_card_is_read_from_the_kernel(
    tmp_path: Path, told: dict[str, str], size: int
) -> None:
    card(tmp_path, 1, device__vendor="0x8086\n", **told)
    assert memory(tmp_path) == size


def test_what_an_intel_processor_brings_along_is_too_little_for_anything(tmp_path: Path) -> None:
    window = "0x0000000060000000 0x000000006fffffff 0x000000000014220c\n"
    card(tmp_path, 0, device__vendor="0x8086\n", device__resource=_REGISTERS + _NONE + window)
    card(tmp_path, 1, device__vendor="0x8086\n", device__resource=3 * _NONE)
    card(tmp_path, 2, device__vendor="0x8086\n")
    assert fitting(memory(tmp_path)) == ()


def test_a_mac_shares_two_thirds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16 * GIB))
    found = memory(tmp_path)
    assert found == int(16 * GIB * 0.66)
    assert [one.rank for one in fitting(found)] == ["small", "standard"]
    # One with an Intel processor has nothing that torch could use.
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert memory(tmp_path) is None
