"""What a plan counts is what is loaded, for each way that files store weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel

from tests.fakes import NO_CONTENT
from tests.families.tiny_modern import write_flux2_dev
from tests.generation.test_controlnet_loading import UNET, ldm, made
from tests.generation.test_loading_transformers import (
    FluxFiles,
    Tensors,
    prefixed,
    save_file,
    state,
    write_gguf,
)
from tests.generation.test_packed import pack
from webui.generation.devices import Device
from webui.generation.loaded import networks_of
from webui.generation.loading import load_pipe
from webui.generation.memory import plan_memory
from webui.generation.placement import kind_of, place
from webui.generation.sizes import Sizes
from webui.generation.steering import ControlNets
from webui.generation.weight_sizes import net_sizes, sizes_for, vae_bytes
from webui.library.checkpoints import Checkpoint
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook
from webui.library.headers import read_header
from webui.library.vaes import Vae

FP8 = torch.float8_e4m3fn
CUDA = Device("cuda:0", torch.bfloat16, "channels_last", "", "CUDA")


@pytest.fixture
def flux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FluxFiles:
    """A FLUX.1 whose text encoders, tokenizers and VAE lie in a model's folder beside it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    files = FluxFiles(tmp_path)
    beside = files.models / "another"
    files.pipe.save_pretrained(beside)
    shutil.copy(files.config / "model_index.json", beside)
    shutil.rmtree(beside / "transformer")
    return files


def in_fp8(tensors: Tensors) -> Tensors:
    return {name: tensor.to(FP8) for name, tensor in tensors.items()}


def scaled(tensors: Tensors) -> Tensors:
    stored = in_fp8(tensors)
    for name in [name for name, tensor in tensors.items() if tensor.ndim == 2]:
        stored[name.replace(".weight", ".scale_weight")] = torch.ones(())
    return stored | {"scaled_fp8": torch.zeros(2).to(FP8)}


def in_rows(tensors: Tensors) -> Tensors:
    """As bitsandbytes packs matrices in 8 bits."""
    stored: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            stored[name] = tensor.clamp(-1, 1).mul(127).to(torch.int8)
            stored[name.replace(".weight", ".SCB")] = torch.ones(len(tensor))
        else:
            stored[name] = tensor
    return stored


WAYS: Mapping[str, Callable[[Tensors], Tensors]] = MappingProxyType(
    {
        "fp32": dict,
        "fp8": in_fp8,
        "fp8 with scales": scaled,
        "nf4": lambda tensors: pack(tensors)[0],
        "int8": in_rows,
    }
)


def written(flux: FluxFiles, way: str) -> Checkpoint:
    whole = state(flux.pipe, "transformer")
    if way != "gguf":
        return flux.write(prefixed("model.diffusion_model.", WAYS[way](whole)))
    checkpoint = flux.write({"x": torch.zeros(1)})
    file = flux.models / "flux-Q8_0.gguf"
    write_gguf(file, whole)
    return Checkpoint(
        "q", checkpoint.path, checkpoint.pipeline, file, {}, key="q", content=NO_CONTENT
    )


def kept(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, int]:
    """Bytes that lie in memory once the model is loaded and laid out, by kind of part."""
    parts = networks_of(load_pipe(checkpoint, checkpoint.pipeline, dtype))
    place(parts, "resident", Device("cpu", dtype, "contiguous", ""))
    found = {"denoiser": 0, "text": 0, "vae": 0}
    for name, part in parts.items():
        found[str(kind_of(name))] += sum(weight.nbytes for weight in part.parameters())
    return found


def counted(sizes: Sizes) -> dict[str, int]:
    return {"denoiser": sizes.denoiser, "text": sizes.text, "vae": sizes.vae}


@pytest.mark.parametrize("way", [*WAYS, "gguf"])
def test_what_is_counted_is_what_is_kept(flux: FluxFiles, way: str) -> None:
    checkpoint = written(flux, way)
    sizes = sizes_for(checkpoint, "Flux", torch.bfloat16)
    assert counted(sizes) == kept(checkpoint, torch.bfloat16)
    weights = sum(weight.numel() for weight in flux.pipe.transformer.parameters())
    assert (sizes.denoiser < 1.2 * weights) == (way in ("fp8", "gguf"))
    assert (sizes.packed > 0) == (way in ("fp8", "gguf"))


def test_of_a_language_model_what_is_run_is_counted(tmp_path: Path) -> None:
    write_flux2_dev(tmp_path)
    checkpoint = Checkpoint("a", tmp_path, "Flux2Pipeline", key="a", content=NO_CONTENT)
    sizes = sizes_for(checkpoint, "Flux 2", torch.bfloat16)
    assert sizes.text == kept(checkpoint, torch.bfloat16)["text"]
    encoder = read_header(tmp_path / "text_encoder" / "model.safetensors")
    assert sizes.text < sum(encoder.sizes.values()) / 2


def test_what_must_not_be_computed_in_fp16_is_counted_as_it_is_kept(flux: FluxFiles) -> None:
    checkpoint = written(flux, "fp32")
    sizes = sizes_for(checkpoint, "Flux", torch.float16)
    assert counted(sizes) == kept(checkpoint, torch.float16)
    narrow = sizes_for(checkpoint, "Flux", torch.bfloat16)
    assert sizes.denoiser == narrow.denoiser
    assert sizes.text > narrow.text
    assert sizes.vae == 2 * narrow.vae


def test_text_encoders_beside_a_file_are_in_its_plan(flux: FluxFiles) -> None:
    """Without them in it, a bare FLUX.1 would seem to fit where it does not."""
    checkpoint = written(flux, "fp32")
    sizes = sizes_for(checkpoint, "Flux", torch.bfloat16)
    bare = Sizes("Flux", sizes.denoiser, 0, 0, sizes.group, sizes.rest, sizes.group)
    free = plan_memory(bare, 0, CUDA, 64, 64, 1).whole
    assert plan_memory(bare, free, CUDA, 64, 64, 1).name == "resident"
    assert plan_memory(sizes, free, CUDA, 64, 64, 1).name != "resident"
    shutil.rmtree(flux.models / "another")
    assert counted(sizes_for(checkpoint, "Flux", torch.bfloat16))["text"] == 0


def test_averaged_weights_that_are_not_loaded_are_not_counted(flux: FluxFiles) -> None:
    whole = prefixed("model.diffusion_model.", state(flux.pipe, "transformer"))
    plain = sizes_for(flux.write(whole), "Flux", torch.bfloat16)
    averaged = flux.write(whole | {"model_ema.x_embedder.weight": torch.zeros(64, 16)})
    assert sizes_for(averaged, "Flux", torch.bfloat16) == plain


def test_a_vae_in_place_of_a_models_own_is_counted(flux: FluxFiles) -> None:
    checkpoint = written(flux, "fp32")
    vae = Vae("ae", flux.others["vae"], "vae-flux", "k", NO_CONTENT)
    own = sizes_for(checkpoint, "Flux", torch.bfloat16)
    assert vae_bytes(vae, checkpoint, torch.bfloat16) == own.vae


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_controlnets_file_is_counted_as_it_is_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    shelf = ControlNetShelf((tmp_path,), HashBook(tmp_path / "hashes.json"))
    shelf.place.mkdir()
    tensors = ldm(made(ControlNetModel, **UNET))
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(in_fp8(tensors), shelf.place / "net.safetensors")
    card = shelf.find("net")
    nets = ControlNets(Device("cpu", dtype, "contiguous", ""))
    nets.get([card])
    assert net_sizes(card, dtype).denoiser == nets.bytes_on("cpu") > 0
