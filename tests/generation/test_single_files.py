"""A single file of every shipped configuration, as published, is the network it was made of."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import diffusers
import pytest
import torch
from diffusers.loaders import single_file_model, single_file_utils

from tests.fakes import NO_CONTENT
from tests.generation.original_names import Tensors
from tests.generation.shipped_models import CONFIGS, PUBLISHED, WIDTH, Small, make_small, save
from tests.generation.test_packed import pack
from webui.errors import BrokenFileError
from webui.generation.file_parts import load_part
from webui.generation.loading import load_pipe
from webui.generation.separate_vae import load_vae
from webui.generation.weight_sizes import sizes_for, vae_bytes
from webui.library.vaes import Vae

FLUX_WIDTH = 3072
FP8 = torch.float8_e4m3fn


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(autouse=True)
def narrow_flux(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' conversion of FLUX.1 has its width written down; here it is that of the test."""
    known: Any = single_file_model
    kind = known.SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"]
    code = kind["checkpoint_mapping_fn"].__code__
    assert FLUX_WIDTH in code.co_consts
    narrow = tuple(WIDTH if one == FLUX_WIDTH else one for one in code.co_consts)
    function = FunctionType(code.replace(co_consts=narrow), dict(vars(single_file_utils)))
    monkeypatch.setitem(kind, "checkpoint_mapping_fn", function)


def load(small: Small, dtype: torch.dtype = torch.bfloat16) -> Any:
    """The pipeline of the only model there is."""
    checkpoint = small.checkpoint
    return load_pipe(checkpoint, checkpoint.pipeline, dtype, others=small.tokenizers)


def test_every_shipped_configuration_is_in_the_table() -> None:
    assert {folder.name for folder in CONFIGS.iterdir()} == set(PUBLISHED)


@pytest.mark.parametrize("config", PUBLISHED)
def test_a_published_file_is_the_network_it_was_made_of(tmp_path: Path, config: str) -> None:
    small = make_small(config, tmp_path)
    save(tmp_path / "models" / f"{small.published.file}.safetensors", small.tensors)
    pipe = load(small)
    for part, weights in small.weights.items():
        expected = dict(weights)
        if part == "text_encoder" and "text_projection.weight" in expected:
            # Stable Diffusion 3 takes what CLIP-L gives before its projection.
            expected["text_projection.weight"] = torch.eye(768, dtype=torch.bfloat16)
        # A file may have it; no prompt is read with it.
        expected.pop("lm_head.weight", None)
        found = pipe.components[part].state_dict()
        assert found.keys() == expected.keys(), part
        kinds = {name: (found[name].dtype, expected[name].dtype) for name in expected}
        assert all(one == other for one, other in kinds.values()), part
        assert [n for n in expected if not torch.equal(found[n], expected[n])] == [], part


def test_z_images_pad_tokens_may_have_lost_their_row(tmp_path: Path) -> None:
    small = make_small("z-image-turbo", tmp_path)
    tensors = small.tensors
    tokens = {name: tensors[name] for name in tensors if name.endswith("pad_token")}
    assert len(tokens) == 2
    flat = {name: token.flatten() for name, token in tokens.items()}
    save(tmp_path / "models" / "z_image_turbo.safetensors", tensors | flat)
    found = load(small).transformer.state_dict()
    for name, token in tokens.items():
        assert torch.equal(found[name.removeprefix("model.diffusion_model.")], token)


def written_back(tensors: Tensors) -> Tensors:
    """By diffusers' first script for that: its own names in the VAE's attention, linear layers."""
    return in_attention(
        tensors,
        lambda name: re.sub(r"\.([qkv])\.", r".to_\1.", name).replace("proj_out", "to_out.0"),
        lambda name, t: t if "norm" in name else t.flatten(1) if t.ndim > 1 else t,
    )


def of_one_pixel(tensors: Tensors) -> Tensors:
    """By later ones, which made convolutions of the biases too."""
    return in_attention(
        tensors,
        lambda name: name,
        lambda name, t: t[:, None, None] if t.ndim == 1 and "norm" not in name else t,
    )


def in_attention(
    tensors: Tensors,
    named: Callable[[str], str],
    shaped: Callable[[str, torch.Tensor], torch.Tensor],
) -> Tensors:
    ours = {name: tensor for name, tensor in tensors.items() if ".mid.attn_1." in name}
    assert len(ours) == 20
    rest = {name: tensor for name, tensor in tensors.items() if name not in ours}
    return rest | {named(name): shaped(name, tensor) for name, tensor in ours.items()}


@pytest.mark.parametrize("rewrite", [written_back, of_one_pixel])
def test_the_vae_of_a_model_that_was_written_back_is_whole(
    tmp_path: Path, rewrite: Callable[[Tensors], Tensors]
) -> None:
    small = make_small("sd1", tmp_path)
    save(tmp_path / "models" / "merge.safetensors", rewrite(small.tensors))
    found, expected = load(small).vae.state_dict(), small.weights["vae"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dims", [2, 4])
def test_a_vae_by_diffusers_first_names_is_whole(tmp_path: Path, dims: int) -> None:
    small = make_small("sd1", tmp_path)
    save(tmp_path / "models" / "a.safetensors", small.tensors)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    expected, stored = small.weights["vae"], dict[str, torch.Tensor]()
    for name, tensor in expected.items():
        layer = next((one for one in old if f".attentions.0.{one}." in name), None)
        if layer is not None and tensor.ndim == 2:
            tensor = tensor.view(*tensor.shape, *[1] * (dims - 2))
        stored[name if layer is None else name.replace(layer, old[layer])] = tensor
    assert stored.keys() - expected.keys()
    file = save(tmp_path / "vae" / "diffusion_pytorch_model.safetensors", stored)
    named = ("diffusers", "AutoencoderKL")
    found = load_part(file, named, small.checkpoint, "vae", torch.bfloat16).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_whole_model_in_fp8_computes_what_it_stands_for(tmp_path: Path) -> None:
    """As programs save them: every tensor of every part in fp8."""
    small = make_small("sd1", tmp_path)
    stored = {n: t.to(FP8) if t.is_floating_point() else t for n, t in small.tensors.items()}
    file = save(tmp_path / "models" / "a_fp8.safetensors", stored)
    ours = load(small, torch.float32)
    assert ours.unet.mid_block.resnets[0].conv1.weight.dtype is FP8
    assert ours.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight.dtype is FP8
    file.unlink()
    save(file, {n: t.float() if t.is_floating_point() else t for n, t in stored.items()})
    theirs = load(small, torch.float32)
    noise, words = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 768)
    ids = torch.tensor([[1, 5, 63]])
    with torch.inference_mode():
        answers = [
            (pipe.unet(noise, 500, words)[0], pipe.vae.decode(noise)[0], pipe.text_encoder(ids)[0])
            for pipe in (ours, theirs)
        ]
    for found, expected in zip(*answers, strict=True):
        # Mapped weights lie at addresses with which torch rounds otherwise.
        assert torch.allclose(found, expected, atol=1e-4)


def test_a_unet_in_four_bits_is_the_one_it_stands_for(tmp_path: Path) -> None:
    """As programs save them: the linear layers of the UNet packed, everything else as it is."""
    small = make_small("sd1", tmp_path)
    of_unet = {n: t for n, t in small.tensors.items() if n.startswith("model.diffusion_model.")}
    stored, whole = pack(of_unet)
    file = save(tmp_path / "models" / "a.safetensors", small.tensors | stored)
    ours = load(small).unet.state_dict()
    file.unlink()
    save(file, small.tensors | {n: t.to(torch.bfloat16) for n, t in whole.items()})
    theirs = load(small).unet.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("is_published", [True, False])
def test_flux2s_vae_with_a_narrow_decoder_is_the_one_it_was_made_of(
    tmp_path: Path, *, is_published: bool
) -> None:
    """As `full_encoder_small_decoder`: found beside the model, and chosen in place of its own."""
    small = make_small("flux2-klein-4b", tmp_path)
    save(tmp_path / "models" / "flux-2-klein-4b.safetensors", small.tensors)
    settings = small.config / "vae" / "config.json"
    wide = json.loads(settings.read_text()) | {"block_out_channels": [64, 128, 256, 256]}
    settings.write_text(json.dumps(wide))
    kind: Any = getattr(diffusers, wide["_class_name"])
    theirs = kind.from_config(wide, decoder_block_out_channels=[32, 64, 128, 128]).eval()
    file, write = small.published.apart["vae"]
    stored = theirs.state_dict()
    # The same is published for diffusers, by the names it has there.
    stored = write({"vae": stored}) if is_published else stored
    path = save(tmp_path / "models" / file, stored)
    checkpoint = small.checkpoint
    vae = Vae("narrow", path, "vae-flux2", "narrow", NO_CONTENT)
    latents, picture = torch.randn(1, 32, 4, 4), torch.randn(1, 3, 32, 32)
    chosen: Any = load_vae(vae, checkpoint, torch.float32)
    for ours in (load(small, torch.float32).vae, chosen):
        with torch.inference_mode():
            assert torch.equal(ours.decode(latents)[0], theirs.decode(latents)[0])
            assert torch.equal(ours.encode(picture)[0].mean, theirs.encode(picture)[0].mean)
    kept = sum(weight.nbytes for weight in theirs.parameters())
    assert vae_bytes(vae, checkpoint, torch.float32) == pytest.approx(kept, rel=0.01)
    assert sizes_for(checkpoint, "Flux 2", torch.float32).vae == pytest.approx(kept, rel=0.01)


def test_a_flux2_vae_of_a_width_that_nothing_has_is_refused(tmp_path: Path) -> None:
    small = make_small("flux2-klein-4b", tmp_path)
    save(tmp_path / "models" / "flux-2-klein-4b.safetensors", small.tensors)
    file, write = small.published.apart["vae"]
    odd = write(small.weights) | {"decoder.conv_in.weight": torch.zeros(20, 32, 3, 3)}
    save(tmp_path / "models" / file, odd)
    with pytest.raises(BrokenFileError, match=r"vae in flux2-vae\.safetensors is incomplete or of"):
        load(small)


@pytest.mark.parametrize(("file", "is_distilled"), [("klein-4b", True), ("klein-base-4b", False)])
def test_which_of_kleins_kinds_a_file_is_its_pipeline_knows(
    tmp_path: Path, file: str, is_distilled: bool
) -> None:
    small = make_small("flux2-klein-4b", tmp_path)
    save(tmp_path / "models" / f"flux-2-{file}.safetensors", small.tensors)
    assert load(small).config.is_distilled is is_distilled
