"""Single files with a ControlNet, by the names and shapes of their tensors.

Its configuration is read off the shapes, in diffusers' words, so that nothing has to be fetched.
Sources of the names: diffusers' own classes, the LDM layout of `lllyasviel/ControlNet`, XLabs'
`x-flux`, Stability's `sd3.5`, and the files of those who made the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from webui.library.architectures import Tensors
from webui.library.distilled import as_words
from webui.library.headers import Header
from webui.library.lora_facts import reads_a_hint
from webui.library.parts import DIFFERENCE, IS_DIFFERENCE
from webui.library.recognition import recognise
from webui.library.weight_files import stem_of

CONTROL_LORA = "FluxControlLora"
"""What a LoRA is called here that has the model take a hint beside the latents."""

_PREFIXES = ("control_model.", "controlnet.", "")

Config = Mapping[str, Any]


@dataclass(frozen=True)
class NetInFile:
    """What is in a file.

    Attributes:
        class_name: Class of diffusers that runs it, or `CONTROL_LORA`; empty where none does.
        config: Its configuration, without what is as usual.
        prefix: What its tensors' names begin with.
        wrong: Why it cannot be used, in a sentence.
    """

    class_name: str
    config: Config
    prefix: str = ""
    wrong: str | None = None


def read_net(header: Header, *, file: str) -> NetInFile:
    """What the header of a file in the folder of ControlNets says.

    Args:
        file: The file's name, or the path to it, as for `webui.library.recognition.recognise`.
    """
    path, stem, file = file, stem_of(Path(file)), Path(file).name
    if reads_a_hint(header):
        return NetInFile(CONTROL_LORA, {"width": _control_lora_width(header)})
    if any(name.startswith("lllite_") for name in header.shapes):
        return _unserved(f"{file} is a ControlNet-LLLite, which is not served.")
    if DIFFERENCE in header.shapes:
        return _unserved(f"{file} {IS_DIFFERENCE}.")
    for net in (Tensors(header, prefix) for prefix in _PREFIXES):
        if net.has("lora_controlnet"):
            return _unserved(f"{file} is a Control-LoRA for a UNet, which is not served.")
        for mark, read in _LAYOUTS:
            if net.has(mark):
                try:
                    class_name, config = read(_Names.of(net))
                except (IndexError, ZeroDivisionError):
                    return _unserved(f"{file} is a ControlNet with layers missing: fetch it again.")
                if class_name == "ControlNetModel" and _POOLED in as_words(stem).split():
                    config = {**config, "global_pool_conditions": True}
                return NetInFile(class_name, MappingProxyType(dict(config)), net.prefix)
    said = recognise(header, file=path)
    return _unserved(said.problem or f"{file} is no ControlNet, but holds: {said.kind}.")


_POOLED = "shuffle"
"""A word in the name of ControlNet 1.1's for shuffled pictures, whose residuals are means over the
whole picture; its tensors are those of the others."""


def _unserved(wrong: str) -> NetInFile:
    return NetInFile("", {}, wrong=wrong)


def _control_lora_width(header: Header) -> int:
    """What the first layer of its model gives."""
    ends = tuple(f"{layer}.lora_{up}.weight" for layer in _FIRST for up in ("B", "up"))
    return next((s[0] for name, s in header.shapes.items() if name.endswith(ends)), 0)


_FIRST = ("img_in", "x_embedder")


@dataclass(frozen=True)
class _Names:
    """The tensors' shapes, and how many there are of what is numbered."""

    shapes: Mapping[str, tuple[int, ...]]

    @staticmethod
    def of(net: Tensors) -> _Names:
        begin = len(net.prefix)
        named = net.header.shapes.items()
        return _Names({n[begin:]: shape for n, shape in named if n.startswith(net.prefix)})

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def out(self, layer: str) -> int:
        return self.shapes.get(f"{layer}.weight", ())[0]

    def inside(self, layer: str) -> int:
        return self.shapes.get(f"{layer}.weight", ())[1]

    def count(self, row: str) -> int:
        begin = f"{row}."
        return len({n[len(begin) :].partition(".")[0] for n in self.shapes if n.startswith(begin)})


def _unet(net: _Names) -> tuple[str, Config]:
    """A UNet's first half in diffusers' layout."""
    levels = [f"down_blocks.{at}" for at in range(net.count("down_blocks"))]
    config = _unet_config(
        net,
        [net.out(f"{level}.resnets.0.conv2") for level in levels],
        net.count("down_blocks.0.resnets"),
        [f"{level}.attentions.0" for level in levels],
        "mid_block.attentions.0",
    )
    hint = "controlnet_cond_embedding"
    widths = [net.out(f"{hint}.blocks.{at}") for at in range(1, net.count(f"{hint}.blocks"), 2)]
    config |= {
        "in_channels": net.inside("conv_in"),
        "conditioning_embedding_out_channels": [net.out(f"{hint}.conv_in"), *widths],
        "conditioning_channels": net.inside(f"{hint}.conv_in"),
    }
    config |= _told_size(net, "add_embedding.linear_1")
    if "task_embedding" not in net:
        return "ControlNetModel", config
    types, width = net.shapes["task_embedding"]
    return "ControlNetUnionModel", config | {
        "num_control_type": types,
        "num_trans_channel": width,
        "num_trans_layer": net.count("transformer_layes"),
        "num_proj_channel": net.out("spatial_ch_projs"),
        "addition_time_embed_dim": net.inside("control_add_embedding.linear_1") // types,
    }


def _ldm_unet(net: _Names) -> tuple[str, Config]:
    """A UNet's first half in the LDM layout, whose blocks are numbered through."""
    firsts: list[int] = [1]
    count = net.count("input_blocks")
    firsts += [at + 1 for at in range(count) if f"input_blocks.{at}.0.op.weight" in net]
    ends = [*(at - 1 for at in firsts[1:]), count]
    config = _unet_config(
        net,
        [net.out(f"input_blocks.{at}.0.out_layers.3") for at in firsts],
        ends[0] - firsts[0],
        [f"input_blocks.{at}.1" for at in firsts],
        "middle_block.1",
    )
    config |= {
        "in_channels": net.inside("input_blocks.0.0"),
        "conditioning_embedding_out_channels": [
            net.out(f"input_hint_block.{at}") for at in (0, 4, 8, 12)
        ],
        "conditioning_channels": net.inside("input_hint_block.0"),
    }
    return "ControlNetModel", config | _told_size(net, "label_emb.0.0")


def _unet_config(
    net: _Names, widths: list[int], layers: int, attentions: list[str], middle: str
) -> dict[str, Any]:
    attends = [f"{at}.norm.weight" in net for at in attentions]
    depths = [
        net.count(f"{at}.transformer_blocks") if on else 1
        for at, on in zip(attentions, attends, strict=True)
    ]
    in_middle = f"{middle}.norm.weight" in net
    if in_middle:
        # diffusers has the middle be as deep as the last level, which has no attention itself in
        # some.
        depths[-1] = net.count(f"{middle}.transformer_blocks")
    inner = [f"{at}.transformer_blocks.0.attn2.to_k" for at in (*attentions, middle)]
    cross = [net.inside(layer) for layer in inner if f"{layer}.weight" in net]
    linear = any(
        len(net.shapes.get(f"{at}.proj_in.weight", ())) == 2 for at in (*attentions, middle)
    )
    return {
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if on else "DownBlock2D" for on in attends],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if in_middle else "UNetMidBlock2D",
        "transformer_layers_per_block": depths,
        # The small ones of SDXL look at no prompt.
        "cross_attention_dim": cross[0] if cross else _SDXL_WIDTH,
        "use_linear_projection": linear,
        # Stable Diffusion 1 has 8 heads everywhere, those after it heads of 64.
        "attention_head_dim": [max(1, width // 64) for width in widths] if linear else 8,
    }


_SDXL_WIDTH = 2048


def _told_size(net: _Names, layer: str) -> dict[str, Any]:
    """Of those that are told the picture's size, as SDXL's are."""
    if f"{layer}.weight" not in net:
        return {}
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": net.inside(layer),
    }


def _flux(net: _Names) -> tuple[str, Config]:
    """A transformer's in diffusers' layout: FLUX.1's, or Qwen-Image's where it norms the text."""
    blocks = "transformer_blocks"
    head = net.out(f"{blocks}.0.attn.norm_q")
    if "txt_norm.weight" in net:
        channels = net.inside("img_in")
        return "QwenImageControlNetModel", {
            "in_channels": channels,
            "num_layers": net.count(blocks),
            "attention_head_dim": head,
            "num_attention_heads": net.out("img_in") // head,
            "joint_attention_dim": net.inside("txt_in"),
            "extra_condition_channels": net.inside("controlnet_x_embedder") - channels,
        }
    modes = "controlnet_mode_embedder"
    return "FluxControlNetModel", {
        "in_channels": net.inside("x_embedder"),
        "num_layers": net.count(blocks),
        "num_single_layers": net.count("single_transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": net.out("x_embedder") // head,
        "joint_attention_dim": net.inside("context_embedder"),
        "pooled_projection_dim": net.inside("time_text_embed.text_embedder.linear_1"),
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in net,
        "num_mode": net.out(modes) if f"{modes}.weight" in net else None,
    }


def _bfl_flux(net: _Names) -> tuple[str, Config]:
    """FLUX.1's by XLabs, with the names of FLUX.1's makers; it is shown the hint's pixels."""
    head = net.shapes.get("double_blocks.0.img_attn.norm.key_norm.scale", ())[0]
    return "FluxControlNetModel", {
        "patch_size": 2,
        "in_channels": net.inside("img_in"),
        "num_layers": net.count("double_blocks"),
        "num_single_layers": net.count("single_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": net.out("img_in") // head,
        "joint_attention_dim": net.inside("txt_in"),
        "pooled_projection_dim": net.inside("vector_in.in_layer"),
        "guidance_embeds": "guidance_in.in_layer.weight" in net,
        "conditioning_embedding_channels": net.out("input_hint_block.14"),
    }


def _sd3(net: _Names) -> tuple[str, Config]:
    """Stable Diffusion 3's in diffusers' layout or, for 3.5 Large, in Stability's."""
    blocks = "transformer_blocks"
    width, channels, *_ = net.shapes["pos_embed_input.proj.weight"]
    places = math.isqrt(net.shapes.get("pos_embed.pos_embed", (0, 0))[1])
    text = "context_embedder"
    reads = f"{text}.weight" in net
    count = net.count(blocks)
    both = [at for at in range(count) if f"{blocks}.{at}.attn2.to_q.weight" in net]
    return "SD3ControlNetModel", {
        "num_layers": count,
        "attention_head_dim": _SD3_HEAD,
        "num_attention_heads": width // _SD3_HEAD,
        "joint_attention_dim": net.inside(text) if reads else None,
        "caption_projection_dim": net.out(text) if reads else width,
        "pooled_projection_dim": net.inside("time_text_embed.text_embedder.linear_1"),
        "extra_conditioning_channels": channels - _SD3_CHANNELS,
        "dual_attention_layers": both,
        "qk_norm": "rms_norm" if f"{blocks}.0.attn.norm_q.weight" in net else None,
        "use_pos_embed": bool(places),
        "pos_embed_max_size": places or None,
        "pos_embed_type": "sincos" if places else None,
        # Stability's, which read no prompt, take the view of the whole; InstantX' do not.
        "force_zeros_for_pooled_projection": reads,
    }


_SD3_HEAD = 64
_SD3_CHANNELS = 16


def _z_image(net: _Names) -> tuple[str, Config]:
    """Z-Image's by Alibaba PAI, whose blocks steer evenly spaced ones of the model's 30."""
    blocks, first = net.count("control_layers"), "control_all_x_embedder.2-1"
    head = net.out("control_layers.0.attention.norm_q")
    refines = "control_noise_refiner.0.before_proj.weight" in net
    refiners = net.count("control_noise_refiner")
    return "ZImageControlNetModel", {
        "dim": net.out(first),
        "control_in_dim": net.inside(first) // 4,
        "n_heads": net.out("control_layers.0.attention.to_q") // head,
        "n_kv_heads": net.out("control_layers.0.attention.to_k") // head,
        "n_refiner_layers": refiners,
        "control_layers_places": [_Z_IMAGE_BLOCKS // blocks * at for at in range(blocks)],
        "control_refiner_layers_places": [*range(refiners)] if refines else None,
        "add_control_noise_refiner": "control_noise_refiner" if refines else None,
    }


_Z_IMAGE_BLOCKS = 30

_LAYOUTS: tuple[tuple[str, Callable[[_Names], tuple[str, Config]]], ...] = (
    ("control_all_x_embedder.2-1.weight", _z_image),
    ("pos_embed_input.proj.weight", _sd3),
    # Before the LDM layout, whose hints go through layers of the same name.
    ("pos_embed_input.weight", _bfl_flux),
    ("controlnet_x_embedder.weight", _flux),
    ("controlnet_cond_embedding.conv_in.weight", _unet),
    ("input_hint_block.0.weight", _ldm_unet),
)
"""A tensor of each layout, and what reads it."""
