from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from webui.errors import BrokenFileError
from webui.generation.devices import Device
from webui.generation.families import SD1
from webui.generation.pipelines import Loaded, Pipelines
from webui.library.checkpoints import Checkpoint, CheckpointShelf
from webui.library.hashes import HashBook
from webui.settings import ROOT

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


def test_the_model_in_memory_is_used_again_and_replaced_by_another(checkpoint: Checkpoint):
    pipelines = Pipelines(CPU)
    assert not pipelines.holds(checkpoint)
    first = pipelines.get(checkpoint, SD1)
    assert pipelines.get(checkpoint, SD1) is first
    other = Checkpoint("other", checkpoint.path, checkpoint.pipeline, sha256="0" * 64)
    assert pipelines.get(other, SD1) is not first
    assert not pipelines.holds(checkpoint)


def test_weights_that_do_not_fit_their_configuration_are_one_sentence(checkpoint: Checkpoint):
    config = checkpoint.path / "unet" / "config.json"
    config.write_text(config.read_text().replace('"cross_attention_dim": 192', '"x": 1'))
    with pytest.raises(BrokenFileError, match="could not be loaded"):
        Pipelines(CPU).get(checkpoint, SD1)


def test_a_damaged_preview_map_is_named(checkpoint: Checkpoint):
    (checkpoint.path / "preview.json").write_text('{"matrix": [[1, 2]], "bias": 5}')
    with pytest.raises(BrokenFileError, match=r"preview\.json"):
        Pipelines(CPU).get(checkpoint, SD1)
