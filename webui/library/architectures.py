"""Denoisers by the names and shapes of their tensors.

Sources of the names: the original repositories as `diffusers/loaders/single_file_utils.py` (0.42)
converts them, and diffusers' own model classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from webui.library.headers import Header

ModelFamily = Literal[
    "SD 1", "SD 2", "SDXL", "SD 3", "Flux", "Flux 2", "Z-Image", "Qwen-Image", "unknown"
]

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.", "unet.", "model.", "")
"""What may stand before the names of a denoiser's tensors."""


@dataclass(frozen=True)
class Tensors:
    """The tensors of a file whose names begin with a prefix, by the rest of their names."""

    header: Header
    prefix: str = ""

    def has(self, *names: str) -> bool:
        """Whether all of them are there."""
        return all(self.prefix + name in self.header.shapes for name in names)

    def width(self, name: str, bias: str = "") -> int:
        """The width of what goes into a layer, 0 where it cannot be told.

        Args:
            name: Its weight.
            bias: A bias as long as what comes out, for a weight that bitsandbytes has packed two
                to a byte into one column.
        """
        shapes, name = self.header.shapes, self.prefix + name
        shape = shapes.get(name, ())
        if f"{name}.absmax" in shapes:
            out = math.prod(shapes.get(self.prefix + bias, (0,)))
            return 2 * math.prod(shape) // out if out else 0
        return shape[1] if len(shape) > 1 else 0

    def rows(self, name: str, width: int = 0) -> int:
        """How many rows a table or weight has, 0 where it cannot be told.

        Args:
            width: Of what goes into it, for one that bitsandbytes has packed as for `width`.
        """
        shape = self.header.shapes.get(self.prefix + name, ())
        if f"{self.prefix}{name}.absmax" in self.header.shapes:
            return 2 * math.prod(shape) // width if width else 0
        return shape[0] if len(shape) == 2 else 0

    def length(self, name: str) -> int:
        """The length of a bias or norm, 0 where there is none."""
        return math.prod(self.header.shapes.get(self.prefix + name, (0,)))


@dataclass(frozen=True)
class Denoiser:
    """What a file's denoiser is.

    Attributes:
        config: The shipped configuration that fits; None where none does.
        wrong: Why none fits, as the rest of a sentence that begins with the file's name.
        prefix: What its tensors' names begin with.
    """

    family: ModelFamily
    config: str | None
    wrong: str | None
    prefix: str


_Reading = tuple[ModelFamily, str | None, str | None]
"""Family, configuration and what is wrong, as in `Denoiser`."""

_FOREIGN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Chroma", ("distilled_guidance_layer.in_proj.bias",)),
    ("Lumina 2", ("cap_embedder.0.weight", "layers.0.adaLN_modulation.1.weight")),
    ("Wan video", ("head.modulation",)),
    ("Wan video", ("condition_embedder.text_embedder.linear_1.weight",)),
    ("LTX video", ("patchify_proj.weight",)),
    ("Hunyuan video", ("txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias",)),
    ("HiDream", ("double_stream_blocks.0.block.adaLN_modulation.1.bias",)),
    ("AuraFlow", ("double_layers.0.attn.w1q.weight",)),
    ("Cosmos", ("net.x_embedder.proj.1.weight",)),
    ("Mochi", ("blocks.0.attn.qkv_x.weight",)),
    ("Sana or PixArt", ("blocks.0.cross_attn.q_linear.weight",)),
    ("Stable Cascade", ("clip_txt_mapper.weight",)),
    ("Stable Cascade", ("down_blocks.1.0.channelwise.0.weight",)),
    ("FLUX.3", ("early_stream_modulations.image.lin.weight",)),
    ("Qwen-Image 2.1", ("txt_in.text_norm.weight",)),
    ("Qwen-Image-Layered", ("time_text_embed.addition_t_embedding.weight",)),
    ("Krea 2", ("txtfusion.projector.weight",)),
    ("Stable Video Diffusion", ("input_blocks.1.1.time_stack.0.norm1.weight",)),
    ("AnimateDiff", ("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight",)),
    ("Kolors", ("encoder_hid_proj.weight", "input_blocks.0.0.weight")),
    ("Playground 2.5", ("edm_mean",)),
    ("CosXL", ("edm_vpred.sigma_max",)),
)
"""Names of models that are not served, and tensors by which they are told from those that are."""


def read_denoiser(header: Header) -> Denoiser | None:
    """The denoiser in a file; None where there is none that is known."""
    every = [Tensors(header, prefix) for prefix in PREFIXES]
    for tensors in every:
        for name, marks in _FOREIGN:
            if tensors.has(*marks):
                wrong = f"is a {name} model, which is not served"
                return Denoiser("unknown", None, wrong, tensors.prefix)
    for tensors in every:
        for marks, read in _SERVED:
            if tensors.has(*marks):
                return Denoiser(*read(tensors), tensors.prefix)
    return None


def _of_shape(
    tensors: Tensors, family: ModelFamily, config: str, *names: tuple[str, ...]
) -> _Reading:
    """The configuration, where the file has each tensor under one of its two names."""
    if all(any(tensors.has(name) for name in either) for either in names):
        return family, config, None
    return family, None, f"is a {family} model with fewer layers than usual, which is not served"


def _unet(tensors: Tensors) -> _Reading:
    """A UNet by the width of its cross attention, then by the channels that go into it."""
    ldm = tensors.has("input_blocks.0.0.weight")
    block = "input_blocks.4.1" if ldm else "down_blocks.1.attentions.0"
    attention = f"{block}.transformer_blocks.0.attn2"
    width = tensors.width(f"{attention}.to_k.weight", f"{attention}.to_out.0.bias")
    first = "input_blocks.0.0" if ldm else "conv_in"
    channels = tensors.width(f"{first}.weight", f"{first}.bias")
    family = _FAMILIES_BY_WIDTH.get(width, "unknown")
    if width == _REFINER_WIDTH:
        return "SDXL", "sdxl-refiner", None
    config = _UNETS.get((family, channels))
    if config is None:
        kind = _FOREIGN_UNETS.get(channels, "of an unknown kind")
        return family, None, f"is a diffusion model {kind}, which is not served"
    if family == "SDXL":
        deep = ("input_blocks.7.1", "down_blocks.2.attentions.0")
        inner = tuple(f"{block}.transformer_blocks.9.norm1.weight" for block in deep)
        return _of_shape(tensors, family, config, inner)
    deep = (
        "output_blocks.11.1.transformer_blocks.0.norm1.weight",
        "up_blocks.3.attentions.2.transformer_blocks.0.norm1.weight",
    )
    return _of_shape(tensors, family, config, deep)


GUIDANCE_LAYERS = ("time_embedding.cond_proj.weight", "time_embed.cond_proj.weight")
"""What a UNet that was distilled with its guidance takes that in by; in the LDM layout too the
first, since that has no name for it."""

_FAMILIES_BY_WIDTH: MappingProxyType[int, ModelFamily] = MappingProxyType(
    {768: "SD 1", 1024: "SD 2", 2048: "SDXL"}
)
_REFINER_WIDTH = 1280

_UNETS: MappingProxyType[tuple[ModelFamily, int], str] = MappingProxyType(
    {
        ("SD 1", 4): "sd1",
        ("SD 1", 9): "sd1-inpaint",
        ("SD 2", 4): "sd2",
        ("SD 2", 9): "sd2-inpaint",
        ("SDXL", 4): "sdxl",
        ("SDXL", 9): "sdxl-inpaint",
    }
)
"""Family and channels that go in (4 of noise; 5 more are a mask and what it leaves) to the
configuration."""

_FOREIGN_UNETS = MappingProxyType(
    {5: "that takes depth", 7: "that enlarges pictures", 8: "that follows instructions"}
)
"""Channels that go in to what the model is for."""


def _sd3(tensors: Tensors) -> _Reading:
    blocks, layer = "joint_blocks", "x_block.adaLN_modulation.1.bias"
    if not tensors.has(f"{blocks}.0.{layer}"):
        blocks, layer = "transformer_blocks", "norm1.linear.bias"
    if tensors.has(f"{blocks}.37.{layer}"):
        return "SD 3", "sd3.5-large", None
    twice = ("joint_blocks.0.x_block.attn2.qkv.bias", "transformer_blocks.0.attn2.to_q.bias")
    config = "sd3.5-medium" if any(tensors.has(name) for name in twice) else "sd3-medium"
    return _of_shape(tensors, "SD 3", config, (f"{blocks}.23.{layer}",))


def _flux(tensors: Tensors) -> _Reading:
    """Flux by what goes into it: noise, besides with a picture, besides with a mask."""
    bfl = tensors.has("img_in.weight")
    first = "img_in" if bfl else "x_embedder"
    guidance = (
        "guidance_in.in_layer.bias",
        "time_text_embed.guidance_embedder.linear_1.bias",
    )
    config = _FLUX_KINDS.get(tensors.width(f"{first}.weight", f"{first}.bias"))
    if config is None:
        return "Flux", None, "is a Flux model of an unknown kind, which is not served"
    if config == "flux-dev" and not any(tensors.has(name) for name in guidance):
        config = "flux-schnell"
    double = ("double_blocks.18.img_mod.lin.bias", "transformer_blocks.18.norm1.linear.bias")
    single = (
        "single_blocks.37.modulation.lin.bias",
        "single_transformer_blocks.37.norm.linear.bias",
    )
    return _of_shape(tensors, "Flux", config, double, single)


_FLUX_KINDS = MappingProxyType({64: "flux-dev", 128: "flux-control", 384: "flux-fill"})


def _flux2(tensors: Tensors) -> _Reading:
    """FLUX.2 by its number of blocks, which no quantisation changes."""
    for blocks, layer in (
        ("single_blocks", "norm.key_norm.scale"),
        ("single_transformer_blocks", "attn.norm_k.weight"),
    ):
        for count, config in _FLUX2_SIZES:
            if tensors.has(f"{blocks}.{count - 1}.{layer}"):
                return "Flux 2", config, None
    return "Flux 2", None, "is a FLUX.2 model of an unknown size, which is not served"


_FLUX2_SIZES = ((48, "flux2-dev"), (24, "flux2-klein-9b"), (20, "flux2-klein-4b"))


def _z_image(tensors: Tensors) -> _Reading:
    return _of_shape(tensors, "Z-Image", "z-image", ("layers.29.attention_norm1.weight",))


def _qwen_image(tensors: Tensors) -> _Reading:
    last = ("transformer_blocks.59.img_mod.1.bias",)
    return _of_shape(tensors, "Qwen-Image", "qwen-image", last)


_SERVED: tuple[tuple[tuple[str, ...], Callable[[Tensors], _Reading]], ...] = (
    (("input_blocks.0.0.weight", "time_embed.0.bias"), _unet),
    (("conv_in.weight", "time_embedding.linear_1.bias"), _unet),
    (("x_embedder.proj.bias", "joint_blocks.0.x_block.adaLN_modulation.1.bias"), _sd3),
    (("pos_embed.proj.bias", "transformer_blocks.0.norm1_context.linear.bias"), _sd3),
    (("double_stream_modulation_img.lin.weight",), _flux2),
    (("double_stream_modulation_img.linear.weight",), _flux2),
    (("img_in.weight", "double_blocks.0.img_attn.norm.key_norm.scale"), _flux),
    (("x_embedder.weight", "single_transformer_blocks.0.norm.linear.bias"), _flux),
    (("cap_embedder.0.weight", "layers.0.adaLN_modulation.0.bias"), _z_image),
    (("txt_norm.weight", "transformer_blocks.0.img_mod.1.bias"), _qwen_image),
)
"""Tensors of each architecture, in the original layout and in diffusers', and what reads it."""
