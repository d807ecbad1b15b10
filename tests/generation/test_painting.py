from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from tests.generation.test_loading import (
    picture,
    save_file,
    sd1_pipe,
    sd1_tensors,
    single,
    state,
    write_config,
)
from webui.errors import NotFoundError
from webui.events import Notice, StageDone
from webui.generation.devices import Device
from webui.generation.families import SD1
from webui.generation.painting import Painter
from webui.generation.plan import Plan
from webui.generation.resolve import resolve
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.library.vaes import VaeShelf
from webui.request import GenerationRequest

CPU = Device("cpu", torch.float32, "contiguous", "as asked")
T = TypeVar("T")


def told(work: Generator[Any, None, T]) -> tuple[list[str | bool], T]:
    """The notices of a piece of work and whether its stages were reused, and what came of it."""
    happened: list[str | bool] = []
    try:
        while True:
            match next(work):
                case Notice(message=message):
                    happened.append(message)
                case StageDone(reused=reused):
                    happened.append(reused)
                case _:
                    pass
    except StopIteration as end:
        return happened, end.value


def test_which_of_several_files_a_part_is_from_is_told_and_another_one_is_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    pipe, models = sd1_pipe(), tmp_path / "models"
    tensors = sd1_tensors(pipe)
    without = {n: t for n, t in tensors.items() if not n.startswith("first_stage_model.")}
    config = write_config(pipe, tmp_path / "configs" / "sd1")
    checkpoint = replace(single(models / "a.safetensors", config, without), folders=(models,))
    vaes = models / "vae"
    vaes.mkdir()
    vae = state(pipe, "vae")
    fp8 = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in vae.items()}
    save_file(fp8, vaes / "a_fp8.safetensors")
    hashes = HashBook(tmp_path / "hashes.json")
    shelves = (LoraShelf((tmp_path / "loras",), hashes), ControlNetShelf((models,), hashes))
    plan = resolve(GenerationRequest(model="a", width=64, height=64), checkpoint, *shelves)
    painter = Painter(CPU, cache_bytes=2**20, annotators=(), memory="resident")
    # One alone is no choice.
    happened, loaded = told(painter.load(plan))
    assert happened == [False]
    assert [part.label for part in loaded.parts] == ["a_fp8.safetensors"]
    assert told(painter.encode(loaded, plan))[0] == [False]
    assert told(painter.encode(loaded, plan))[0] == [True]
    save_file(vae, vaes / "b.safetensors")
    # What is in memory is not looked for again.
    assert told(painter.load(plan))[0] == [True]
    painter.retreat(plan)
    happened, loaded = told(painter.load(plan))
    assert happened == [
        False,
        "Of 2 files with the VAE of Stable Diffusion, b.safetensors is used: no other is stored"
        " more exactly.",
    ]
    assert [part.label for part in loaded.parts] == ["b.safetensors"]
    assert told(painter.encode(loaded, plan))[0] == [False]
    painter.close()


def test_a_chosen_vae_is_that_of_a_file_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    pipe, models = sd1_pipe(), tmp_path / "models"
    tensors = sd1_tensors(pipe)
    without = {n: t for n, t in tensors.items() if not n.startswith("first_stage_model.")}
    config = write_config(pipe, tmp_path / "configs" / "sd1")
    checkpoint = replace(single(models / "a.safetensors", config, without), folders=(models,))
    (models / "vae").mkdir()
    vae = state(pipe, "vae")
    # Of another model's kind, but of the same shapes: taken for none of this one's by itself.
    save_file(vae, models / "vae" / "sdxl_a.safetensors")
    lighter = vae | {"decoder.conv_out.bias": vae["decoder.conv_out.bias"] + 0.5}
    save_file(lighter, models / "vae" / "sdxl_b.safetensors")
    hashes = HashBook(tmp_path / "hashes.json")
    shelves = (LoraShelf((tmp_path / "loras",), hashes), ControlNetShelf((models,), hashes))
    known = VaeShelf((models,), hashes)
    request = GenerationRequest(model="a", width=64, height=64)

    def plan_with(name: str | None) -> Plan:
        chosen = None if name is None else known.find(name)
        asked = request.model_copy(update={"vae": name})
        return resolve(asked, checkpoint, *shelves, vae=chosen)

    def bias_with(name: str | None) -> torch.Tensor:
        loaded = told(painter.load(plan_with(name)))[1]
        return loaded.networks["vae"].get_parameter("decoder.conv_out.bias")

    painter = Painter(CPU, cache_bytes=2**20, annotators=(), memory="resident")
    missing = "needs more: put the VAE of Stable Diffusion into"
    with pytest.raises(NotFoundError, match=missing):
        bias_with(None)
    bias = vae["decoder.conv_out.bias"]
    assert torch.equal(bias_with("sdxl_b"), bias + 0.5)
    pipelines: Any = painter
    (kept,) = pipelines._pipelines._kept.values()
    sizes = pipelines._pipelines.sizes(checkpoint, SD1, known.find("sdxl_b"))
    assert sizes.vae == sum(4 * tensor.numel() for tensor in vae.values())
    assert kept.nbytes == kept.loaded.nbytes
    unet = kept.loaded.denoiser
    assert torch.equal(bias_with("sdxl_a"), bias)
    (kept,) = pipelines._pipelines._kept.values()
    assert kept.loaded.denoiser is unet
    assert torch.equal(picture(kept.loaded.pipe), picture(pipe))
    # The one before is not kept as if it were the model's own.
    assert kept.nbytes == kept.loaded.nbytes
    with pytest.raises(NotFoundError, match=missing):
        bias_with(None)
    assert torch.equal(bias_with("sdxl_b"), bias + 0.5)
    save_file(vae, models / "vae" / "own.safetensors")
    assert torch.equal(bias_with(None), bias)
    painter.close()
