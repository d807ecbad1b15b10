"""Models as GGUF by their authors' names, which are what people have: packed as they are stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import diffusers
import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import quants

from tests.generation.original_names import Tensors
from tests.generation.shipped_models import Small, make_small, networks_of, save
from tests.generation.test_single_files import load, narrow_flux, no_network
from webui.errors import BrokenFileError
from webui.generation.file_parts import load_part
from webui.generation.weight_sizes import sizes_for
from webui.generation.weights import build

G: Any = gguf
Q: Any = quants
N: Any = cast(Any, torch).from_numpy

pytestmark = pytest.mark.usefixtures(no_network.__name__, narrow_flux.__name__)

_K_QUANTS = (Kind.Q4_K, Kind.Q5_K, Kind.Q6_K, Kind.Q3_K, Kind.Q2_K)
_SCALES: Mapping[Kind, tuple[int, ...]] = MappingProxyType(
    {
        Kind.Q8_0: (0,),
        Kind.Q2_K: (80, 82),
        Kind.Q3_K: (108,),
        Kind.Q4_K: (0, 2),
        Kind.Q5_K: (0, 2),
        Kind.Q6_K: (208,),
    }
)
"""Where in a block its scales are, each a number in fp16 (`ggml-common.h`)."""

_NOT_PACKED = ("embed", "pad_token")
"""What the programs that pack leave as it is, by what is in diffusers' names."""


def eight_bits(name: str, shape: torch.Size) -> Kind:
    if len(shape) == 1:
        return Kind.F32
    is_packed = len(shape) == 2 and not any(part in name for part in _NOT_PACKED)
    return Kind.Q8_0 if is_packed and shape[1] % 32 == 0 else Kind.BF16


def _k_quants(name: str, shape: torch.Size) -> Kind:
    """All of them, one after the other from block to block."""
    kind = eight_bits(name, shape)
    if kind is not Kind.Q8_0 or shape[1] % 256:
        return kind
    at = name.split(".")[1] if "blocks" in name else "0"
    return _K_QUANTS[int(at) % len(_K_QUANTS)]


def _packed(shape: torch.Size, kind: Kind, chance: np.random.Generator) -> np.ndarray[Any, Any]:
    """Bytes of a tensor that is packed so, at random but for the scales of its blocks."""
    numbers, size = G.GGML_QUANT_SIZES[kind]
    blocks = chance.integers(0, 256, (shape[0], shape[1] // numbers, size), dtype=np.uint8)
    for at in _SCALES[kind]:
        blocks[..., at : at + 2] = np.array([2e-4], np.float16).view(np.uint8)
    return blocks.reshape(shape[0], -1)


class Packed:
    """A denoiser's weights as GGUF has them, by diffusers' names.

    Attributes:
        kinds: How each is stored.
        stored: Their bytes, or numbers in fp32.
        whole: The numbers they stand for, by the reference of the format.
    """

    def __init__(self, weights: Tensors, kind_of: Callable[[str, torch.Size], Kind]) -> None:
        self.kinds = {name: kind_of(name, tensor.shape) for name, tensor in weights.items()}
        self.stored: Tensors = {}
        self.whole: Tensors = {}
        chance = np.random.default_rng(1)
        for name, tensor in weights.items():
            kind = self.kinds[name]
            if kind is Kind.F32:
                self.stored[name] = self.whole[name] = tensor.float()
            elif kind is Kind.BF16:
                self.stored[name] = tensor.view(torch.uint8)
                self.whole[name] = tensor.float()
            else:
                data = _packed(tensor.shape, kind, chance)
                self.stored[name] = N(data)
                self.whole[name] = N(Q.dequantize(data, kind))


def write_gguf(small: Small, part: str, packed: Packed) -> None:
    """The model's own file: what is in rows is renamed and joined as the numbers would be."""
    write = small.published.holds[0]
    numbers = {
        name: torch.full(tensor.shape[: max(1, tensor.ndim - 1)] + (1,) * (tensor.ndim > 1), kind)
        for (name, tensor), kind in zip(packed.stored.items(), packed.kinds.values(), strict=True)
    }
    kinds = write({part: numbers})
    writer: Any = G.GGUFWriter(str(small.folder / "models" / f"{small.published.file}.gguf"), "x")
    for name, tensor in write({part: packed.stored}).items():
        kind = Kind(int(kinds[name].flatten()[0]))
        data = cast(Any, tensor.contiguous()).numpy()
        writer.add_tensor(name, data, raw_dtype=None if data.dtype == np.float32 else kind)
    close(writer)


def close(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sizes_of_parts(small: Small) -> tuple[int, int, int]:
    """What the plan for memory counts on: bytes of denoiser, text encoders and VAE."""
    sizes = sizes_for(small.checkpoint, "SD 1", torch.float32)
    return sizes.denoiser, sizes.text, sizes.vae


def bytes_of(pipe: Any) -> tuple[int, int, int]:
    parts = (pipe.unet, pipe.text_encoder, pipe.vae)
    counts = [sum(weight.nbytes for weight in part.parameters()) for part in parts]
    return counts[0], counts[1], counts[2]


def load_transformer(small: Small) -> Any:
    checkpoint = small.checkpoint
    assert checkpoint.file is not None
    named = networks_of(small.config)["transformer"]
    return load_part(checkpoint.file, named, checkpoint, "transformer", torch.float32)


def inputs(transformer: Any) -> dict[str, Any]:
    """What a denoiser of that class is called with for 4 x 4 patches and 3 words."""
    config = transformer.config
    time = torch.tensor([0.5])
    kind = type(transformer).__name__
    if kind == "ZImageTransformer2DModel":
        noise = torch.randn(config.in_channels, 1, 8, 8)
        return {"x": [noise], "t": time, "cap_feats": [torch.randn(3, config.cap_feat_dim)]}
    words = torch.randn(1, 3, config.joint_attention_dim)
    said: dict[str, Any] = {"encoder_hidden_states": words, "timestep": time, "return_dict": False}
    if kind == "SD3Transformer2DModel":
        pooled = torch.randn(1, config.pooled_projection_dim)
        noise = torch.randn(1, config.in_channels, 8, 8)
        return said | {"hidden_states": noise, "pooled_projections": pooled}
    said["hidden_states"] = torch.randn(1, 16, config.in_channels)
    if kind == "QwenImageTransformer2DModel":
        mask = torch.ones(1, 3, dtype=torch.bool)
        return said | {"encoder_hidden_states_mask": mask, "img_shapes": [[(1, 4, 4)]]}
    axes = len(config.axes_dims_rope)
    said |= {"img_ids": torch.rand(16, axes), "txt_ids": torch.zeros(3, axes)}
    said["guidance"] = torch.tensor([3.5]) if config.guidance_embeds else None
    if kind == "FluxTransformer2DModel":
        said["pooled_projections"] = torch.randn(1, config.pooled_projection_dim)
    return said


def first(answer: Any) -> torch.Tensor:
    """What a denoiser gives."""
    one = answer[0]
    return one if isinstance(one, torch.Tensor) else one[0]


def reference(small: Small, part: str, whole: Tensors) -> Any:
    """The denoiser with those weights, as diffusers makes it."""
    said = json.loads((small.config / part / "config.json").read_text())
    untyped: Any = diffusers
    cls: Any = getattr(untyped, said["_class_name"])
    net: Any = build(lambda: cls.from_config(said))
    net.load_state_dict(whole, assign=True)
    return net.eval()


_WIDE = {"num_layers": 1, "attention_head_dim": 128, "axes_dims_rope": [32, 32, 32, 32]}


@pytest.mark.parametrize(
    ("config", "kind_of", "more"),
    [
        ("flux-dev", eight_bits, {}),
        ("sd3.5-medium", eight_bits, {}),
        ("flux2-klein-9b", eight_bits, {}),
        ("z-image-turbo", eight_bits, {}),
        ("qwen-image", eight_bits, {}),
        ("flux2-klein-4b", _k_quants, _WIDE),
    ],
)
def test_a_transformer_stays_packed_and_computes_what_it_stands_for(
    tmp_path: Path, config: str, kind_of: Callable[[str, torch.Size], Kind], more: dict[str, Any]
) -> None:
    small = make_small(config, tmp_path, alone=True, **more)
    packed = Packed(dict(small.weights["transformer"]), kind_of)
    write_gguf(small, "transformer", packed)
    ours = load_transformer(small)
    found = dict(ours.named_parameters())
    for name, kind in packed.kinds.items():
        if kind in _SCALES:
            assert found[name].quant_type == kind
            assert torch.equal(found[name].as_tensor(), packed.stored[name]), name
    said = inputs(ours)
    with torch.inference_mode():
        expected = first(reference(small, "transformer", packed.whole)(**said))
        assert torch.allclose(first(ours(**said)), expected, rtol=1e-3, atol=1e-4)
    assert expected.std() > 0.01


@pytest.mark.parametrize("stored_as", [Kind.F32, Kind.BF16])
def test_z_images_pad_tokens_may_have_lost_their_row(tmp_path: Path, stored_as: Kind) -> None:
    """As stable-diffusion.cpp writes them: 3840 numbers, of which the network wants 1 x 3840."""
    small = make_small("z-image-turbo", tmp_path, alone=True)
    weights = dict(small.weights["transformer"])
    tokens = {name: weights[name] for name in ("x_pad_token", "cap_pad_token")}
    flat = {name: token.flatten() for name, token in tokens.items()}
    packed = Packed(
        weights | flat,
        lambda name, shape: stored_as if name in flat else eight_bits(name, shape),
    )
    write_gguf(small, "transformer", packed)
    found = load_transformer(small).state_dict()
    for name, token in tokens.items():
        assert torch.equal(found[name], token.float())


def test_a_gguf_of_another_width_is_said(tmp_path: Path) -> None:
    small = make_small("z-image-turbo", tmp_path, alone=True)
    narrow = {"x_pad_token": small.weights["transformer"]["x_pad_token"][:, :8]}
    write_gguf(small, "transformer", Packed(small.weights["transformer"] | narrow, eight_bits))
    with pytest.raises(BrokenFileError, match=r"does not fit its configuration: .*x_pad_token"):
        load_transformer(small)


def test_a_whole_model_whose_convolutions_are_stored_flat_is_unpacked(tmp_path: Path) -> None:
    small = make_small("sd1", tmp_path)
    begin = "comfy.gguf.orig_shape."
    writer: Any = G.GGUFWriter(str(tmp_path / "models" / "a.gguf"), "sd1")
    whole: Tensors = {}
    for name, tensor in small.tensors.items():
        if not tensor.is_floating_point():
            continue
        data = tensor.float().numpy()
        if tensor.ndim > 1 and data.size % 256 == 0:
            packed = Q.quantize(data.reshape(-1, 256), Kind.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=Kind.Q8_0)
            writer.add_array(begin + name, [*data.shape])
            data = Q.dequantize(packed, Kind.Q8_0).reshape(data.shape)
        else:
            writer.add_tensor(name, data)
        whole[name] = N(data.copy())
    close(writer)
    ours = load(small, torch.float32)
    assert sizes_of_parts(small) == bytes_of(ours)
    (tmp_path / "models" / "a.gguf").unlink()
    save(tmp_path / "models" / "a.safetensors", whole)
    theirs = load(small, torch.float32)
    for part in small.weights:
        found, expected = ours.components[part].state_dict(), theirs.components[part].state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_a_gguf_lacks_is_said(tmp_path: Path) -> None:
    small = make_small("flux2-klein-4b", tmp_path, alone=True)
    packed = Packed(dict(small.weights["transformer"]), eight_bits)
    for group in (packed.stored, packed.kinds):
        del group["proj_out.weight"]
    write_gguf(small, "transformer", packed)
    with pytest.raises(BrokenFileError, match=r"lacks 1 tensors, such as proj_out\.weight"):
        load_transformer(small)
