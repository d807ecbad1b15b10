from __future__ import annotations

from pathlib import Path

import pytest

from webui.launcher import lockfile, torch_build
from webui.launcher.console import SetupError
from webui.launcher.torch_build import AUTO, LEGACY_CUDA, PLAIN, Machine

TURING, PASCAL = (7, 5), (6, 1)


@pytest.mark.parametrize(
    ("machine", "backend"),
    [
        (Machine("linux"), PLAIN),
        (Machine("linux", driver=580, capability=TURING), PLAIN),
        (Machine("linux", driver=610), PLAIN),
        (Machine("linux", driver=610, capability=TURING, rocm=True, arc=True), PLAIN),
        (Machine("linux", driver=579, capability=TURING), AUTO),
        (Machine("linux", driver=580, capability=PASCAL), LEGACY_CUDA),
        (Machine("linux", rocm=True), AUTO),
        (Machine("linux", arc=True), AUTO),
        (Machine("win32"), PLAIN),
        (Machine("win32", driver=610, capability=TURING), AUTO),
        (Machine("win32", rocm=True), PLAIN),
        (Machine("darwin"), PLAIN),
    ],
)
def test_choose(machine: Machine, backend: str) -> None:
    assert torch_build.choose(machine) == backend


def test_a_build_the_user_names_wins() -> None:
    assert torch_build.choose(Machine("linux", driver=610), "cpu") == "cpu"


def test_the_rule_fits_the_torch_that_is_locked() -> None:
    cuda = lockfile.version(lockfile.read(lockfile.LOCK), "cuda-toolkit")
    assert cuda.startswith("13."), "another CUDA needs another PLAIN_DRIVER and PLAIN_CAPABILITY"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("580.82.07, 9.0\n", (580, (9, 0))),
        ("575.57, 6.1\n575.57, 12.0\n", (575, (12, 0))),
        ("", None),
        ("NVIDIA-SMI has failed because it couldn't communicate with the driver.\n", None),
    ],
)
def test_parse_nvidia_smi(text: str, expected: tuple[int, tuple[int, int]] | None) -> None:
    assert torch_build.parse_nvidia_smi(text) == expected


def _add_device(sys_folder: Path, address: str, kind: str, vendor: str) -> None:
    device = sys_folder / "bus" / "pci" / "devices" / address
    device.mkdir(parents=True)
    for name, value in (("class", kind), ("vendor", vendor), ("device", "0x56a0")):
        (device / name).write_text(f"{value}\n")


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.mark.usefixtures("no_tools")
@pytest.mark.parametrize(
    ("address", "kind", "arc"),
    [
        ("0000:00:02.0", "0x030000", False),
        ("0000:03:00.0", "0x030000", True),
        ("0000:03:00.0", "0x020000", False),
    ],
)
def test_survey_tells_an_intel_card_from_the_processors_gpu(
    tmp_path: Path, address: str, kind: str, arc: bool
) -> None:
    _add_device(tmp_path, address, kind, "0x8086")
    assert torch_build.survey(tmp_path).arc is arc


@pytest.mark.usefixtures("no_tools")
def test_survey_reads_the_driver_where_nvidia_smi_is_missing(tmp_path: Path) -> None:
    assert torch_build.survey(tmp_path).driver is None
    (tmp_path / "module" / "nvidia").mkdir(parents=True)
    (tmp_path / "module" / "nvidia" / "version").write_text("550.144.03\n")
    assert torch_build.survey(tmp_path).driver == 550


def test_the_fingerprint_changes_with_the_gpu(tmp_path: Path) -> None:
    before = torch_build.fingerprint(tmp_path)
    assert torch_build.fingerprint(tmp_path) == before
    _add_device(tmp_path, "0000:01:00.0", "0x030000", "0x10de")
    assert torch_build.fingerprint(tmp_path) != before


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (Machine("linux", driver=525), torch_build.PLAIN),
        (Machine("linux"), torch_build.PLAIN),
        (Machine("win32", driver=580, processor="AMD64"), "cu128"),
    ],
)
def test_xformers_takes_the_build_its_wheel_was_made_for(machine: Machine, expected: str) -> None:
    assert torch_build.choose_for_xformers(machine) == expected
    assert torch_build.choose_for_xformers(machine, "cu126") == "cu126"


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (Machine("darwin", processor="arm64"), "ready-made builds for Linux and Windows on x86"),
        (Machine("linux", driver=580, processor="aarch64"), "ready-made builds"),
        (Machine("linux", driver=520), "NVIDIA driver from 525 on, and this is 520"),
    ],
)
def test_a_machine_that_xformers_does_not_run_on_is_told(machine: Machine, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        torch_build.choose_for_xformers(machine)
