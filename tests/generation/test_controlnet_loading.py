"""Single files hold the same ControlNet as the folder they were written from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.controlnets.controlnet_qwenimage import QwenImageControlNetModel
from diffusers.models.controlnets.controlnet_sd3 import SD3ControlNetModel
from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel
from safetensors.torch import save

from tests.families import tiny
from tests.generation.ldm_names import Tensors, ldm_unet
from webui.errors import BrokenFileError
from webui.generation.devices import Device
from webui.generation.lora_transformers import own_names
from webui.generation.steering import ControlNets
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook

CPU = Device("cpu", torch.float32, "contiguous", "for tests")

UNET: dict[str, Any] = {
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "cross_attention_dim": 16,
    "transformer_layers_per_block": [1, 1],
    "conditioning_embedding_out_channels": (4, 8, 8, 12),
}
SDXL: dict[str, Any] = UNET | {
    "transformer_layers_per_block": [1, 2],
    "use_linear_projection": True,
    "attention_head_dim": [1, 1],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 40,
}
TRANSFORMER: dict[str, Any] = {"num_layers": 1, "num_attention_heads": 1}
FLUX: dict[str, Any] = TRANSFORMER | {
    "num_single_layers": 1,
    "joint_attention_dim": 12,
    "pooled_projection_dim": 10,
}


def made(kind: Any, **config: Any) -> Any:
    with tiny.same_weights():
        net = kind(**config)
        for weight in net.parameters():
            weight.data.normal_(std=0.1)
    return net.eval().requires_grad_(False)


def as_it_is(net: Any) -> Tensors:
    return net.state_dict()


def ldm(net: Any) -> Tensors:
    """As lllyasviel's files have it."""
    written = ldm_unet(net.state_dict(), 1, "control_model.")
    names = (
        (r"controlnet_down_blocks\.(\d+)\.", r"zero_convs.\1.0."),
        (r"controlnet_mid_block\.", "middle_block_out.0."),
        (r"controlnet_cond_embedding\.conv_in", "input_hint_block.0"),
        (r"controlnet_cond_embedding\.conv_out", "input_hint_block.14"),
    )
    for pattern, new in names:
        written = {re.sub(pattern, new, name): tensor for name, tensor in written.items()}

    def numbered(found: re.Match[str]) -> str:
        return f"input_hint_block.{2 * int(found[1]) + 2}."

    blocks = r"controlnet_cond_embedding\.blocks\.(\d+)\."
    return {re.sub(blocks, numbered, name): tensor for name, tensor in written.items()}


def xlabs(net: Any) -> Tensors:
    """As XLabs' files for FLUX.1 have it."""
    own: Tensors = net.state_dict()
    written: Tensors = {}
    layers = [name.rpartition(".")[0] for name in own]
    for new, ours, _ in own_names("FluxTransformer2DModel", layers):
        for end in ("weight", "bias"):
            if f"{ours[0]}.{end}" in own:
                whole = torch.cat([own[f"{path}.{end}"] for path in ours])
                written[f"{new}.{'scale' if '_norm' in new else end}"] = whole
    for name, tensor in own.items():
        hint = re.fullmatch(r"input_hint_block\.(?:conv_(in|out)|blocks\.(\d+))\.(\w+)", name)
        if hint:
            at = {"in": 0, "out": 14}.get(hint[1], 2 * int(hint[2] or 0) + 2)
            written[f"input_hint_block.{at}.{hint[3]}"] = tensor
        elif name.startswith("controlnet_"):
            written[name.replace("controlnet_x_embedder", "pos_embed_input")] = tensor
    return written


def stability(net: Any) -> Tensors:
    """As Stability's files for 3.5 Large have it."""
    own: Tensors = net.state_dict()
    written: Tensors = {}
    for name, tensor in own.items():
        if ".attn.to_q." in name:
            parts = [own[name.replace("to_q", f"to_{part}")] for part in "qkv"]
            written[name.replace("to_q", "qkv")] = torch.cat(parts)
        elif not re.search(r"\.attn\.to_[kv]\.", name):
            new = name
            for ours, old in (
                (".attn.to_out.0.", ".attn.proj."),
                (".ff.net.0.proj.", ".mlp.fc1."),
                (".ff.net.2.", ".mlp.fc2."),
                (".norm1.linear.", ".adaLN_modulation.1."),
            ):
                new = new.replace(ours, old)
            written[new] = tensor
    return written


CASES: list[tuple[str, Any, dict[str, Any], Callable[[Any], Tensors]]] = [
    ("diffusers", ControlNetModel, UNET, as_it_is),
    ("ldm", ControlNetModel, UNET, ldm),
    ("sdxl", ControlNetModel, SDXL, as_it_is),
    ("sdxl in ldm", ControlNetModel, SDXL, ldm),
    (
        "union",
        ControlNetUnionModel,
        SDXL | {"num_control_type": 8, "num_trans_channel": 32, "num_proj_channel": 32},
        as_it_is,
    ),
    ("flux", FluxControlNetModel, FLUX | {"num_mode": 7, "guidance_embeds": True}, as_it_is),
    (
        "xlabs",
        FluxControlNetModel,
        FLUX | {"num_single_layers": 0, "conditioning_embedding_channels": 16, "patch_size": 2},
        xlabs,
    ),
    (
        "sd3",
        SD3ControlNetModel,
        TRANSFORMER
        | {
            "joint_attention_dim": 12,
            "caption_projection_dim": 64,
            "pooled_projection_dim": 10,
            "pos_embed_max_size": 8,
        },
        as_it_is,
    ),
    (
        "sd3.5",
        SD3ControlNetModel,
        TRANSFORMER
        | {
            "joint_attention_dim": None,
            "pooled_projection_dim": 10,
            "use_pos_embed": False,
            "pos_embed_type": None,
            "pos_embed_max_size": None,
            "caption_projection_dim": 64,
            "force_zeros_for_pooled_projection": False,
        },
        stability,
    ),
    ("qwen", QwenImageControlNetModel, TRANSFORMER | {"joint_attention_dim": 12}, as_it_is),
]


@pytest.fixture
def shelf(tmp_path: Path) -> ControlNetShelf:
    (tmp_path / "controlnet").mkdir()
    return ControlNetShelf((tmp_path,), HashBook(tmp_path / "hashes.json"))


@pytest.mark.parametrize(
    ("name", "kind", "config", "written"), CASES, ids=lambda one: str(one)[:12]
)
def test_a_single_file_holds_the_same_controlnet(
    name: str,
    kind: Any,
    config: dict[str, Any],
    written: Callable[[Any], Tensors],
    shelf: ControlNetShelf,
) -> None:
    net = made(kind, **config)
    file = shelf.place / f"{name}.safetensors"
    write(file, written(net))
    card = shelf.find(name)
    (loaded,) = ControlNets(CPU).get([card])
    assert type(loaded) is kind
    differ = {
        key: (loaded.config[key], value)
        for key, value in net.config.items()
        if not key.startswith("_") and plain(loaded.config[key]) != plain(value)
    }
    assert not differ
    expected = net.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[n]) for n, tensor in loaded.state_dict().items())
    lacking = dict(written(net))
    lacking.pop(sorted(n for n in lacking if n.endswith("bias"))[-1])
    write(file, lacking)
    with pytest.raises(
        BrokenFileError, match=f"The ControlNet in {name}.safetensors is incomplete"
    ):
        ControlNets(CPU).get([shelf.find(name)])


@pytest.mark.parametrize("written", [as_it_is, ldm])
def test_the_one_of_shuffled_pictures_is_told_by_its_name(
    written: Callable[[Any], Tensors], shelf: ControlNetShelf
) -> None:
    net = made(ControlNetModel, **UNET)
    names = ("control_v11e_sd15_shuffle", "Control_v11e_sd15_shuffle_fp16", "sd15_shuffled_tile")
    for name in names:
        write(shelf.place / f"{name}.safetensors", written(net))
    cards = [shelf.find(name) for name in names]
    loaded = ControlNets(CPU).get(cards)
    assert [one.config.global_pool_conditions for one in loaded] == [True, True, False]
    assert cards[0].sha256 == cards[1].sha256 != cards[2].sha256


def write(file: Path, tensors: Tensors) -> None:
    file.write_bytes(save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
