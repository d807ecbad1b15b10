from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import keeping, model_gpu, models, run
from benchmarks.figures import Figure
from benchmarks.model_files import MODELS
from benchmarks.run import ending
from benchmarks.workbench import ModelsEffort, Workbench
from webui.cli import main
from webui.errors import BadRequestError
from webui.settings import GIB


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the command hands to the benchmarks, of which none runs."""
    told: list[tuple[Any, ...]] = []

    def take(*arguments: Any) -> int:
        told.append(arguments)
        return 0

    monkeypatch.setattr(run, "run_benchmarks", take)
    return told


def test_the_flags_say_what_is_measured(asked: list[tuple[Any, ...]], tmp_path: Path):
    flags = ["--only", "steps,load", "--models", "sdxl", "--quick", "--folder", str(tmp_path)]
    assert main(["bench", "models", *flags]) == 0
    ((names, out, full, folder),) = asked
    assert (names, out, folder) == (["models"], None, tmp_path)
    assert full == ModelsEffort(parts=("load", "steps"), models=("sdxl",), quick=True)


@pytest.mark.parametrize(
    ("flags", "nearest"), [(["--only", "lod"], "'load'"), (["--models", "sd14"], "'sd15'")]
)
def test_what_is_not_known_is_said(
    asked: list[tuple[Any, ...]],
    flags: list[str],
    nearest: str,
    capsys: pytest.CaptureFixture[str],
):
    assert main(["bench", "models", *flags]) == BadRequestError("").exit_code
    assert nearest in capsys.readouterr().err
    assert asked == []


def test_a_folder_that_is_not_there_is_said(
    asked: list[tuple[Any, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["bench", "models", "--folder", str(tmp_path / "no")]) != 0
    assert "There is no folder" in capsys.readouterr().err
    assert asked == []


def test_being_told_to_end_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def measured(bench: Workbench) -> list[Figure]:
        (bench.work / "large").write_bytes(b"weights")
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it went on")

    monkeypatch.setattr(models, "run", measured)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run.run_benchmarks(["models"], None, ModelsEffort(quick=True), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before
    with ending():
        assert signal.getsignal(signal.SIGTERM) != before


def test_nothing_of_a_quick_run_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def measured(_: Workbench) -> list[Figure]:
        return [Figure("tiny", 1.0, "s", "")]

    monkeypatch.setattr(models, "run", measured)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.md")
    for quick in (True, False):
        run.run_benchmarks(["models"], None, ModelsEffort(quick=quick), tmp_path)
        assert (tmp_path / "results.md").exists() is not quick


def quick(bench: Workbench, work: Path, **what: Any) -> Workbench:
    full = ModelsEffort(quick=True, **what)
    return Workbench(replace(bench.effort, full=full), bench.models, work)


@dataclass(frozen=True)
class Room:
    free: int

    @property
    def available(self) -> int:
        return self.free


def test_a_model_that_has_no_room_is_left_out_with_the_reason(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    free = {"disk": GIB, "memory": 100 * GIB}

    def disk_usage(_: Path) -> Room:
        return Room(free["disk"])

    def virtual_memory() -> Room:
        return Room(free["memory"])

    monkeypatch.setattr(models.shutil, "disk_usage", disk_usage)
    monkeypatch.setattr(models.psutil, "virtual_memory", virtual_memory)
    full = ModelsEffort(parts=("load",), models=("sdxl", "flux"))
    large = Workbench(replace(bench.effort, full=full), bench.models, tmp_path)
    (row,) = models.run(large)
    # 6.9 GB twice, and what is left free.
    assert row.cells()[1:] == (
        "not measured",
        "",
        "1.00 GiB on the disk are free, 13.92 GiB are needed",
    )
    assert list(tmp_path.iterdir()) == []
    free.update(disk=100 * GIB, memory=GIB)
    (row,) = models.run(large)
    assert "of memory are free" in row.beside


def test_switches_are_between_two_files(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def switches(
        name: str, folder: Path, names: tuple[str, str], work: Path, configs: Path
    ) -> list[Figure]:
        files = [folder / f"{one}.safetensors" for one in names]
        assert work.parent == tmp_path
        assert configs.is_dir()
        assert files[0].read_bytes() != files[1].read_bytes()
        assert sorted(folder.iterdir()) == sorted(files)
        return [Figure(name, 1.0, "%", "")]

    monkeypatch.setattr(keeping, "switches", switches)
    (row,) = models.run(quick(bench, tmp_path, parts=("switch",), models=("sd15",)))
    assert row.what == "random-sd15, single files"
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu_its_rows_say_so(bench: Workbench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_gpu.torch.cuda, "is_available", lambda: False)
    rows = model_gpu.run(bench)
    assert len(rows) == 4
    assert {row.value for row in rows} == {"not measured"}
    assert all("no GPU" in row.beside for row in rows)


def test_the_share_of_the_peak_is_counted_operations_over_time():
    measured = {
        "ours": [0.2, 0.2],
        "eager": [0.25, 0.25],
        "compiled": [0.1, 0.1],
        "operations": 50e12,
        "peak": {"ours": 21 * GIB, "eager": 20 * GIB},
        "product": 700e12,
        "gpu": "NVIDIA H100 80GB HBM3",
        "side": 1024,
        "guided": "with CFG",
        "format": "bfloat16",
    }
    a_second, step, share, memory = model_gpu.figures_of(MODELS["sdxl"], measured)
    assert a_second.value == pytest.approx(5.0)
    assert "4.00 /s; " not in a_second.beside
    assert "10.00 /s with its repeated blocks compiled" in a_second.beside
    assert step.value == pytest.approx(-20.0)
    assert share.value == pytest.approx(250 / 989 * 100)
    assert f"{500 / 989 * 100:.1f} %" in share.beside
    assert memory.value == pytest.approx(5.0)
    unknown = model_gpu.figures_of(MODELS["sdxl"], measured | {"gpu": "Another"})[2]
    assert unknown.value == pytest.approx(250 / 700 * 100)
