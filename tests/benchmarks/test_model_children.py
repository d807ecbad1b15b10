"""What runs in processes of their own, run in this one with tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image
from safetensors import torch as safetensors

from benchmarks import (
    activations_child,
    keeping_child,
    model_gpu_child,
    model_listing,
    model_listing_child,
    model_runs,
    model_runs_child,
)
from benchmarks.measure import BenchmarkError
from benchmarks.model_files import MODELS, bytes_of, write_configs, write_models, write_other
from benchmarks.model_runs import Case
from tests.work import files_opened, models_loaded
from webui.generation.devices import Memory
from webui.settings import GIB

load_file: Any = cast(Any, safetensors).load_file


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    work = tmp_path_factory.mktemp("models")
    model = MODELS["sd15"]
    config = write_configs(work / "configs", model, tiny=True)
    single = work / "single" / "tiny.safetensors"
    write_models(config, single, work / "folder")
    steps, rounds = 2, 1
    return Case(
        "tiny", "sd1", config.parent, single, work / "folder", work, 64, steps, rounds, "cpu"
    )


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Runs the sides here; the list has their tasks."""
    tasks: list[dict[str, Any]] = []

    def run_child(module: str, task: dict[str, Any]) -> dict[str, Any]:
        assert module == "benchmarks.model_runs_child"
        tasks.append(task)
        return model_runs_child.main(json.loads(json.dumps(task)))

    monkeypatch.setattr(model_runs, "run_child", run_child)
    return tasks


def test_both_layouts_hold_the_same_numbers(case: Case):
    single = load_file(case.single)
    files = sorted(case.folder.glob("*/*.safetensors"))
    parts = {file.parent.name: load_file(file) for file in files}
    assert set(parts) == {"unet", "vae", "text_encoder"}
    assert len(single) == sum(map(len, parts.values()))
    ours = sum(float(tensor.double().abs().sum()) for tensor in single.values())
    theirs = sum(float(t.double().abs().sum()) for part in parts.values() for t in part.values())
    assert ours == pytest.approx(theirs, rel=1e-12)
    first = "input_blocks.0.0.weight"
    assert torch.equal(single[f"model.diffusion_model.{first}"], parts["unet"]["conv_in.weight"])
    assert bytes_of(case.configs / case.config) == sum(t.nbytes for t in single.values())


def test_all_sides_make_the_same_picture_from_their_own_files(
    case: Case, in_this_process: list[dict[str, Any]]
):
    load, step, decode, peak = model_runs.measure(case, load=True, steps=True)
    turns = [
        [(turn["side"], turn["request"]["steps"]) for turn in task["turns"]]
        for task in in_this_process
    ]
    together = [("ours", 1), ("same", 1), ("same", 2), ("ours", 2)]
    assert turns == [[("ours", 1)], [("same", 1)], [("plain", 1)], together]
    assert in_this_process[-1]["models"] == {"ours": str(case.single), "same": str(case.folder)}
    assert len({task["work"] for task in in_this_process}) == 4
    for figure in (load, step, decode, peak):
        assert isinstance(figure.value, float)
        assert figure.asked is not None
    # One step after the first, one picture decoded.
    assert [len(figure.samples["ours"]) for figure in (step, decode)] == [1, 1]
    assert "fp16 weights in " in load.beside


def test_where_only_loading_is_asked_for_both_end_with_the_first_step(
    case: Case, in_this_process: list[dict[str, Any]]
):
    (load,) = model_runs.measure(case, load=True, steps=False)
    assert [task["whole"] for task in in_this_process] == [False, False]
    assert "our layout" not in load.beside


def test_another_picture_ends_the_measurement(tmp_path: Path):
    for name, colour in (("a", "black"), ("b", "white")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    a, b = ({"picture": str(tmp_path / f"{name}.png")} for name in "ab")
    check: Any = model_runs._check_pictures  # pyright: ignore[reportPrivateUsage]
    check(a, a)
    with pytest.raises(BenchmarkError, match="different pictures"):
        check(a, b)


def test_peak_and_load_are_ratios_round_by_round():
    def run(first: float, peak: float) -> dict[str, Any]:
        walls = [first, 0.5]
        return {
            "wall": walls,
            "processor": walls,
            "peak": peak * GIB,
            "graphics": None,
            "format": "bfloat16",
        }

    case = Case("m", "sd1", Path(), Path(), Path(), Path(), 64, 3, 2)
    runs = {"ours": [run(12, 4.2), run(24, 4.2)], "plain": [run(10, 1), run(20, 1)]}
    loads: Any = model_runs._load_figure  # pyright: ignore[reportPrivateUsage]
    assert loads(case, runs).value == pytest.approx(1.2)
    peaks: Any = model_runs._peak_figure  # pyright: ignore[reportPrivateUsage]
    peak = peaks(case, runs["ours"], [run(1, 4.0), run(1, 4.0)])
    assert peak.value == pytest.approx(5.0)


def test_a_step_is_compared_with_the_same_of_the_other_side(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(picture := tmp_path / "same.png")

    def turn(side: str, *walls: float) -> dict[str, Any]:
        return {"side": side, "wall": walls, "processor": walls, "picture": str(picture)}

    turns = [
        *(turn("ours", 90, 90), turn("same", 10, 10)),
        *(turn("same", 5, 2.0, 4.0, 1.0), turn("ours", 9, 2.2, 4.4, 1.5)),
        *(turn("ours", 9, 3.3, 2.2, 1.5), turn("same", 5, 3.0, 2.0, 1.0)),
    ]
    case = Case("m", "sd1", Path(), Path(), Path(), Path(), 64, 3, 2)
    figures: Any = model_runs._step_figures  # pyright: ignore[reportPrivateUsage]
    step, decode = figures(case, turns)
    assert (step.value, decode.value) == (pytest.approx(10), pytest.approx(50))
    assert step.samples["ours"] == [2.2, 4.4, 3.3, 2.2]


def test_two_single_files_are_switched_between(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = case.single.with_name("other.safetensors")
    write_other(case.single, other)
    task = {
        "models": str(case.single.parent),
        "names": [case.single.stem, other.stem],
        "configs": str(case.configs),
        "work": str(tmp_path),
        "switches": 2,
    }
    loaded = models_loaded(monkeypatch)
    try:
        answer = keeping_child.main(task)
    finally:
        other.unlink()
    assert len(answer["resident"]) == len(answer["load"]) == 2
    assert len(loaded) == 2 + 2


@pytest.mark.parametrize("name", ["sdxl", "sd35", "flux"])
def test_a_model_is_run_by_both_loops_and_its_operations_counted(tmp_path: Path, name: str):
    model = MODELS[name]
    write_configs(tmp_path, model, tiny=True)
    task = {
        "work": str(tmp_path),
        "config": model.config,
        "tokens": 8,
        "side": 64,
        "steps": 2,
        "rounds": 1,
        "device": "cpu",
        "compiled": False,
    }
    answer = model_gpu_child.main(task)
    assert answer["lacking"] is None
    assert answer["guided"] == ("without CFG" if name == "flux" else "with CFG")
    assert answer["operations"] > 1e6
    for side in ("ours", "eager"):
        assert len(answer[side]) == 1
        assert answer[side][0] > 0


def test_a_model_too_large_for_the_device_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = MODELS["flux"]
    write_configs(tmp_path, model, tiny=False)

    def memory_of(_: str) -> Memory:
        return Memory(20 * GIB, 24 * GIB)

    monkeypatch.setattr(model_gpu_child, "memory_of", memory_of)
    lacking = model_gpu_child.main(
        {"work": str(tmp_path), "config": model.config, "device": "cpu"}
    )["lacking"]
    # 12 milliard numbers of 2 bytes, and room for the work.
    assert lacking == "20.0 GiB of cpu are free, 29.0 GiB are needed"


def test_files_of_real_headers_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, state = tmp_path / "models", tmp_path / "state"
    largest = model_listing.write_headers(folder, 5)
    state.mkdir()
    assert largest == 2_513
    assert (folder / "sdxl-001.safetensors").stat().st_size > 6.9e9
    # Holes take no room.
    assert sum(file.stat().st_blocks * 512 for file in folder.iterdir()) < 4e6
    task = {"models": str(folder), "state": str(state)}
    opened = files_opened(monkeypatch)
    anew = model_listing_child.main(task)
    assert anew["count"] == len(anew["recognised"]) == 5
    read = [file for file in opened if file.parent == folder]
    model_listing_child.main(task)
    again = [file for file in opened if file.parent == folder][len(read) :]
    # What is measured by itself is read each time, what is listed only at first.
    assert len(read) == 2 * len(again) == 10
    (folder / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(BenchmarkError, match="broken"):
        model_listing_child.main(task)


def test_the_most_bytes_of_a_call_are_those_held_at_once():
    mib = 1024**2

    def call() -> None:
        for _ in range(3):
            a = torch.empty(mib, dtype=torch.uint8)
            b = torch.empty(2 * mib, dtype=torch.uint8)
            del a, b

    assert activations_child.most_bytes(call) == pytest.approx(3 * mib, rel=0.01)


@pytest.mark.parametrize(
    ("name", "part"), [("sd15", "unet"), ("sd15", "vae"), ("sd35", "transformer")]
)
def test_a_call_of_each_kind_of_network_is_measured(tmp_path: Path, name: str, part: str):
    config = write_configs(tmp_path, MODELS[name], tiny=True)
    task = {"config": str(config), "part": part, "side": 64, "batch": 2, "tokens": 8}
    assert activations_child.main(task)["bytes"] > 1000
