"""VAEs, text encoders, embeddings and ControlNets by the names and shapes of their tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from webui.library.architectures import ModelFamily, Tensors
from webui.library.components import Component
from webui.library.distilled import as_words
from webui.library.headers import Header


@dataclass(frozen=True)
class Part:
    """What is in a file that belongs to a model.

    Attributes:
        config: For a VAE the shipped configuration that it can be taken from.
        wrong: Why it cannot be used, as the rest of a sentence that begins with the file's name.
    """

    kind: Literal["vae", "text encoder", "embedding", "controlnet", "unknown"]
    family: ModelFamily = "unknown"
    config: str | None = None
    component: Component | None = None
    wrong: str | None = None


def read_part(header: Header, *, stem: str) -> Part | None:
    """The part in a file; None where it is none that is known.

    Args:
        stem: What the file is called, which tells what the header leaves open.
    """
    tensors = Tensors(header)
    for read in (_controlnet, _vae, _text_encoder):
        part = read(tensors, stem)
        if part is not None:
            return part
    for what, marks in _FOREIGN:
        if any(tensors.has(mark) for mark in marks):
            return Part("unknown", wrong=f"is {what}, which is not served")
    return None


_FOREIGN: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "an IP-Adapter",
        ("image_proj.proj.weight", "image_proj.latents", "ip_adapter.1.to_k_ip.weight"),
    ),
    ("a T2I-Adapter", ("adapter.body.0.block1.weight", "body.0.block1.weight")),
    ("an upscaler", ("conv_first.weight", "model.0.weight", "body.0.rdb1.conv1.weight")),
    (
        "a tiny VAE for previews",
        ("decoder.layers.0.weight", "taesd_decoder.1.weight", "3.conv.0.weight"),
    ),
    (
        "an encoder of pictures",
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ),
)


def _controlnet(tensors: Tensors, _stem: str) -> Part | None:
    if tensors.has(DIFFERENCE):
        return Part("controlnet", wrong=IS_DIFFERENCE)
    for prefix in ("control_model.", "controlnet.", ""):
        net = Tensors(tensors.header, prefix)
        if net.has("lora_controlnet"):
            return Part("controlnet", wrong="is a Control-LoRA, which is not served")
        if net.has("control_img_in.weight", "control_blocks.0.after_proj.weight"):
            return Part("controlnet", "Qwen-Image", wrong=_FUN.format("Qwen-Image"))
        if net.has("control_img_in.weight", "control_transformer_blocks.0.after_proj.weight"):
            return Part("controlnet", "Flux 2", wrong=_FUN.format("FLUX.2"))
        if net.has("controlnet_x_embedder.weight") or net.has("pos_embed_input.proj.weight"):
            return Part("controlnet", _transformer_family(net))
        if net.has("pos_embed_input.weight", "input_hint_block.0.weight"):
            return Part("controlnet", "Flux")
        if net.has("control_layers.0.adaLN_modulation.0.weight"):
            return Part("controlnet", "Z-Image")
        if net.has("controlnet_cond_embedding.conv_in.weight"):
            attention = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
            # SDXL's small one has no attention at all, and none but SDXL's is told the size.
            told_size = net.has("add_embedding.linear_1.weight")
            family = "SDXL" if told_size else _BY_WIDTH.get(net.width(attention), "unknown")
            return Part("controlnet", family)
        if net.has("input_hint_block.0.weight"):
            attention = "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
            return Part("controlnet", _BY_WIDTH.get(net.width(attention), "unknown"))
    return None


DIFFERENCE = "difference"
"""A tensor beside a ControlNet that is to be added to the model's own weights."""
IS_DIFFERENCE = (
    "is a ControlNet stored as its difference from a model, which is not read: take the whole one"
)
_FUN = "is a Fun ControlNet by Alibaba PAI for {}, which is not served"


def _transformer_family(net: Tensors) -> ModelFamily:
    if net.has("pos_embed_input.proj.weight"):
        return "SD 3"
    return "Qwen-Image" if net.has("txt_norm.weight") else "Flux"


_BY_WIDTH: Mapping[int, ModelFamily] = MappingProxyType(
    {768: "SD 1", 1024: "SD 2", 1280: "SDXL", 2048: "SDXL"}
)


def _vae(tensors: Tensors, stem: str) -> Part | None:
    for prefix in ("", "first_stage_model.", "vae."):
        vae = Tensors(tensors.header, prefix)
        if vae.has("decoder.middle.0.residual.0.gamma", "decoder.conv1.weight") or vae.has(
            "decoder.mid_block.resnets.0.norm1.gamma"
        ):
            return _video_vae(vae)
        channels = vae.width("decoder.conv_in.weight")
        if channels == 0 or not vae.has("decoder.conv_out.weight"):
            continue
        words = as_words(stem)
        if channels == 4:
            return _vae_part("vae-sdxl" if _SDXL_NAME.search(words) else "vae-sd")
        if channels == 16:
            # Both have the same shapes; one is nearly always called "ae", the other never.
            return _vae_part("vae-sd3" if _SD3_NAME.search(words) else "vae-flux")
        if channels == 32:
            return _vae_part("vae-flux2")
        return Part("vae", wrong=f"is a VAE of {channels} channels, which is not served")
    return None


def _video_vae(vae: Tensors) -> Part:
    """Qwen-Image's VAE, which is built as Wan 2.1's, unless it is one that came after it."""
    channels = vae.width("decoder.conv1.weight") or vae.width("decoder.conv_in.weight")
    if channels != _QWEN_CHANNELS:
        what = "Wan 2.2's VAE" if channels == _WAN22_CHANNELS else f"a VAE of {channels} channels"
        return Part("vae", wrong=f"is {what}, which is not served")
    colours = vae.length("decoder.head.2.bias") or vae.length("decoder.conv_out.bias")
    if colours > _COLOURS:
        # Qwen-Image-Layered's gives transparency too, others a picture that is twice as large.
        wrong = f"is a VAE whose pictures have {colours} channels, which is not served"
        return Part("vae", wrong=wrong)
    return _vae_part("vae-qwen")


_QWEN_CHANNELS = 16
_WAN22_CHANNELS = 48
_COLOURS = 3

_SDXL_NAME = re.compile(r"sdxl|xl(?![a-z])|\bxl ?vae")
_SD3_NAME = re.compile(r"\b(?:sd|stable ?diffusion) ?3(?: ?5)?(?![0-9])")

_VAES: Mapping[Component, tuple[ModelFamily, str]] = MappingProxyType(
    {
        "vae-sd": ("SD 1", "sd1"),
        "vae-sdxl": ("SDXL", "sdxl"),
        "vae-sd3": ("SD 3", "sd3-medium"),
        "vae-flux": ("Flux", "flux-dev"),
        "vae-flux2": ("Flux 2", "flux2-dev"),
        "vae-qwen": ("Qwen-Image", "qwen-image"),
    }
)


def _vae_part(component: Component) -> Part:
    family, config = _VAES[component]
    return Part("vae", family, config, component)


def _text_encoder(tensors: Tensors, _stem: str) -> Part | None:
    """A text encoder by its names and sizes, as far as it is known."""
    for prefix in ("text_model.", "", "transformer.text_model.", "transformer."):
        clip = Tensors(tensors.header, prefix)
        positions = "embeddings.position_embedding.weight"
        if clip.width(positions) and clip.has("embeddings.token_embedding.weight"):
            return _clip(clip, positions)
    if tensors.has("token_embedding.weight", "positional_embedding"):
        return _clip(tensors, "positional_embedding")
    for norm, second_table in _T5S:
        if tensors.has(norm):
            # A table of positions in each layer is the many-language T5's.
            known = not tensors.has(second_table) and tensors.length(norm) == _T5_XXL_WIDTH
            return _encoder("a T5", "t5-xxl" if known else None)
    if any(map(tensors.has, _QWEN3_VL)) or _architecture(tensors) in _QWEN3_VL_ARCHITECTURES:
        # Its sizes are Qwen3's, and what it makes of a prompt is not.
        return _encoder("Qwen3-VL, a language model", None)
    for block, norm, query_norm, gate, table in _LANGUAGE_MARKS:
        width = tensors.length(f"{block}.0.{norm}")
        if width:
            normed = tensors.has(f"{block}.0.{query_norm}")
            inner = tensors.rows(f"{block}.0.{gate}", width)
            return _language_model(width, normed=normed, inner=inner, tokens=tensors.rows(table))
    return None


def _clip(tensors: Tensors, positions: str) -> Part:
    if tensors.rows(positions) > _CLIP_POSITIONS:
        wrong = (
            f"is a Long-CLIP of {tensors.rows(positions)} positions, which is not served:"
            f" take a CLIP that has {_CLIP_POSITIONS}"
        )
        return Part("text encoder", wrong=wrong)
    return _encoder("a CLIP", _CLIPS.get(tensors.width(positions)))


def _language_model(width: int, *, normed: bool, inner: int, tokens: int) -> Part:
    """By its sizes.

    Args:
        width: Of what goes from layer to layer.
        normed: Whether queries are normed.
        inner: Width inside of a feed-forward network, which tells those apart that share the rest.
        tokens: Number of tokens, 0 where it cannot be told; some files leave out the last ones.
    """
    if (width, inner) == _MISTRAL_NEMO:
        return _encoder("Mistral Nemo, a language model", None)
    component, known = _LANGUAGE_SIZES.get((width, normed), (None, 0))
    if component is not None and tokens > known:
        return _encoder(f"a language model of {tokens:,} tokens", None)
    return _encoder("a language model", component)


def _architecture(tensors: Tensors) -> str:
    """What a GGUF file says that it is."""
    return tensors.header.metadata.get("general.architecture", "")


def _encoder(what: str, component: Component | None) -> Part:
    if component is None:
        return Part("text encoder", wrong=f"is {what} that no served model uses")
    return Part("text encoder", component=component)


_CLIPS: Mapping[int, Component] = MappingProxyType({768: "clip-l", 1024: "clip-h", 1280: "clip-g"})

_CLIP_POSITIONS = 77

_T5_XXL_WIDTH = 4096
_T5S = (
    (
        "encoder.final_layer_norm.weight",
        "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
    ),
    ("enc.output_norm.weight", "enc.blk.1.attn_rel_b.weight"),
)
"""The last norm and a second table of positions, in transformers' layout and in llama.cpp's."""

LANGUAGE_MODELS = ("model", "model.language_model", "language_model.model")
"""What the names of a language model's tensors begin with, but in GGUF files."""

_LANGUAGE_MARKS = (
    *(
        (
            f"{model}.layers",
            "input_layernorm.weight",
            "self_attn.q_norm.weight",
            "mlp.gate_proj.weight",
            f"{model}.embed_tokens.weight",
        )
        for model in LANGUAGE_MODELS
    ),
    ("blk", "attn_norm.weight", "attn_q_norm.weight", "ffn_gate.weight", "token_embd.weight"),
)
"""Where the layers of a language model are, their first norm, that of queries and the gate of the
feed-forward network, and the table of what it makes of its tokens."""


_LANGUAGE_SIZES: Mapping[tuple[int, bool], tuple[Component, int]] = MappingProxyType(
    {
        (2560, True): ("qwen3-4b", 151_936),
        (4096, True): ("qwen3-8b", 151_936),
        (3584, False): ("qwen2.5-vl-7b", 152_064),
        (5120, False): ("mistral-small", 131_072),
    }
)
"""Width, and whether queries are normed, to the model and its number of tokens."""

_MISTRAL_NEMO = (5_120, 14_336)
"""Its width, and that of its feed-forward networks; the rest of its sizes are Mistral Small's."""

_QWEN3_VL = (
    "model.visual.deepstack_merger_list.0.norm.weight",
    "visual.deepstack_merger_list.0.norm.weight",
)
_QWEN3_VL_ARCHITECTURES = frozenset({"qwen3vl", "qwen3vlmoe"})
"""What llama.cpp calls it: pictures are read by another file."""

_MOST_VECTORS = 512
_MOST_EMBEDDINGS = 4
_EMBEDDING_WIDTHS: Mapping[int, ModelFamily] = MappingProxyType({768: "SD 1", 1024: "SD 2"})


def read_embedding(header: Header) -> Part | None:
    """A textual inversion: a few vectors, for SDXL and SD 3 a set for each text encoder.

    A LoRA of a single layer may look the same but for its names.
    """
    shapes = header.shapes
    if len(shapes) > _MOST_EMBEDDINGS or not all(
        len(shape) == 1 or (len(shape) == 2 and shape[0] <= _MOST_VECTORS)
        for shape in shapes.values()
    ):
        return None
    widths = {name: shape[-1] for name, shape in shapes.items()}
    if widths.get("clip_g") == 1280 and widths.get("clip_l") == 768:
        return Part("embedding", "SD 3" if "t5xxl" in widths else "SDXL")
    if "t5xxl" in widths and widths.get("clip_l") == 768:
        return Part("embedding", "Flux")
    family = _EMBEDDING_WIDTHS.get(next(iter(widths.values()))) if len(widths) == 1 else None
    return None if family is None else Part("embedding", family)
