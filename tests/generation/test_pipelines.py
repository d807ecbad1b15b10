from __future__ import annotations

import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.activations_child import most_bytes
from tests.work import models_loaded
from webui.errors import BrokenFileError
from webui.generation import pipelines as pipelines_module
from webui.generation.devices import Device
from webui.generation.families import SD1
from webui.generation.loaded import Loaded
from webui.generation.memory import PictureSize
from webui.generation.pipelines import Pipelines
from webui.generation.weight_sizes import sizes_for
from webui.library.checkpoints import Checkpoint, CheckpointShelf
from webui.library.hashes import HashBook
from webui.settings import GIB, ROOT

CPU = Device("cpu", torch.bfloat16, "channels_last", "as asked")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """A copy of the embedded model, to be mistreated."""
    shutil.copytree(ROOT / "models" / "postcard", tmp_path / "models" / "postcard")
    shelf = CheckpointShelf((tmp_path / "models",), HashBook(tmp_path / "hashes.json"))
    return shelf.find("postcard")


def convolution(loaded: Loaded) -> torch.Tensor:
    unet = loaded.pipe.components["unet"]
    assert isinstance(unet, torch.nn.Module)
    return unet.get_parameter("conv_in.weight")


def test_the_model_is_in_the_devices_format_and_layout(checkpoint: Checkpoint):
    weight = convolution(Pipelines(CPU).get(checkpoint, SD1))
    assert weight.dtype is torch.bfloat16
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_there_is_one_copy_of_the_weights_and_it_is_not_the_file(checkpoint: Checkpoint):
    loaded = Pipelines(CPU).get(checkpoint, SD1)
    assert str(checkpoint.path) not in Path("/proc/self/maps").read_text()
    for file in checkpoint.path.glob("*/*.safetensors"):
        file.write_bytes(b"")
    assert torch.isfinite(convolution(loaded)).all()


def named(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """The same files as a model of another content."""
    return replace(checkpoint, name=name, key=name * 8)


def test_the_model_in_memory_is_used_again(checkpoint: Checkpoint):
    pipelines = Pipelines(CPU)
    assert not pipelines.holds(checkpoint)
    first = pipelines.get(checkpoint, SD1)
    assert pipelines.holds(checkpoint)
    assert pipelines.get(checkpoint, SD1) is first
    assert pipelines.loaded is first
    assert pipelines.plan.name == "resident"


def test_without_a_budget_for_others_the_old_model_leaves_memory(checkpoint: Checkpoint):
    pipelines = Pipelines(CPU, keep_bytes=0)
    gone = [weakref.ref(part) for part in pipelines.get(checkpoint, SD1).networks.values()]
    assert len(gone) == 3
    pipelines.get(named(checkpoint, "other"), SD1)
    assert [part() for part in gone] == [None] * 3
    assert not pipelines.holds(checkpoint)
    assert pipelines.kept == ("other",)


def test_as_many_models_are_kept_as_the_budget_allows_the_newest_first(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
):
    size = Pipelines(CPU).get(checkpoint, SD1).nbytes
    pipelines = Pipelines(CPU, keep_bytes=2 * size)
    read = models_loaded(monkeypatch)
    models = {name: named(checkpoint, name) for name in "abcd"}
    loaded = {name: pipelines.get(models[name], SD1) for name in "abc"}
    assert pipelines.kept == ("a", "b", "c")
    assert pipelines.get(models["a"], SD1) is loaded["a"]
    assert pipelines.kept == ("b", "c", "a")
    assert pipelines.get(models["d"], SD1) is not loaded["a"]
    assert pipelines.kept == ("c", "a", "d")
    assert pipelines.get(models["c"], SD1) is loaded["c"]
    assert read == ["a", "b", "c", "d"]


def test_a_kept_model_goes_before_the_new_one_has_to_lie_leaner(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
):
    pipelines = Pipelines(CPU, keep_bytes=8 * GIB)
    needs = pipelines_need(pipelines, checkpoint)
    held = pipelines.get(checkpoint, SD1).nbytes
    free = needs + held // 2

    def left(name: str) -> int:
        loaded = [kept.loaded for kept in untyped._kept.values()]
        return free - sum(each.nbytes for each in loaded)

    untyped: Any = pipelines
    monkeypatch.setattr(pipelines_module, "free_bytes", left)
    pipelines.get(named(checkpoint, "other"), SD1)
    assert pipelines.kept == ("other",)
    assert pipelines.plan.layout == "resident"


def pipelines_need(pipelines: Pipelines, checkpoint: Checkpoint) -> int:
    pipelines.get(checkpoint, SD1)
    return pipelines.plan.needs


def test_a_model_is_laid_out_anew_where_pictures_need_more(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
):
    pipelines = Pipelines(CPU)
    first = pipelines.get(checkpoint, SD1)
    own = first.bytes_on("cpu")
    room = pipelines.plan.needs - own + 2**26

    def free(name: str) -> int:
        return room

    monkeypatch.setattr(pipelines_module, "free_bytes", free)
    assert pipelines.get(checkpoint, SD1) is first
    vae: Any = first.networks["vae"]
    assert not vae.use_tiling
    assert pipelines.get(checkpoint, SD1, PictureSize(768, 768, 1)) is first
    assert (pipelines.plan.layout, vae.use_tiling) == ("resident tiled", True)
    assert pipelines.get(checkpoint, SD1) is first
    assert (pipelines.plan.layout, vae.use_tiling) == ("resident", False)
    second = pipelines.get(checkpoint, SD1, PictureSize(2048, 2048, 4))
    assert second is not first
    assert pipelines.plan.layout.startswith("fp8")
    assert pipelines.plan.reason == "room"
    assert second.bytes_on("cpu") < own
    room = 99 * GIB
    assert pipelines.get(checkpoint, SD1) is second, "changing costs a loading"
    assert (pipelines.plan.layout, pipelines.plan.reason) == ("fp8", "kept")
    assert pipelines.plan.needs < pipelines.plan.whole


def test_8_bits_are_read_as_such_so_that_no_more_is_held_than_the_plan_says(
    checkpoint: Checkpoint,
):
    # The files' format is another one, so that none of them can stay mapped.
    pipelines = Pipelines(replace(CPU, dtype=torch.float32), memory="fp8")
    most = most_bytes(lambda: pipelines.get(checkpoint, SD1))
    sizes = sizes_for(checkpoint, "SD 1", torch.float32)
    fp8 = sizes.denoiser // 4 + sizes.leaf
    # The file that is mapped counts as held, though the system can take its pages back.
    (mapped,) = (file.stat().st_size for file in checkpoint.path.glob("unet/*.safetensors"))
    assert most <= fp8 + max(mapped, sizes.text + sizes.vae)
    assert pipelines.plan.needs > most


def test_sizes_are_read_from_the_headers(checkpoint: Checkpoint):
    sizes = sizes_for(checkpoint, "SD 1", torch.bfloat16)
    loaded = Pipelines(CPU).get(checkpoint, SD1)
    weights = {
        name: sum(parameter.nbytes for parameter in part.parameters())
        for name, part in loaded.networks.items()
    }
    assert sizes.denoiser == weights["unet"]
    assert sizes.vae == weights["vae"]
    assert abs(sizes.text - weights["text_encoder"]) <= 2 * 77 * 8


def test_weights_that_do_not_fit_their_configuration_are_one_sentence(checkpoint: Checkpoint):
    config = checkpoint.path / "unet" / "config.json"
    config.write_text(config.read_text().replace('"cross_attention_dim": 192', '"x": 1'))
    with pytest.raises(BrokenFileError, match="could not be loaded"):
        Pipelines(CPU).get(checkpoint, SD1)


def test_a_damaged_preview_map_is_named(checkpoint: Checkpoint):
    (checkpoint.path / "preview.json").write_text('{"matrix": [[1, 2]], "bias": 5}')
    with pytest.raises(BrokenFileError, match=r"preview\.json"):
        Pipelines(CPU).get(checkpoint, SD1)
