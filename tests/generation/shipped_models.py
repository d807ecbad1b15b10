"""Models of every shipped configuration made small, in files as their authors publish them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import diffusers
import torch
import transformers
from safetensors import torch as safetensors

from benchmarks.ldm_layout import ldm_unet, ldm_vae, open_clip
from tests.families.tiny_modern import byte_tokenizer
from tests.generation.original_names import Tensors, bfl, lumina, mmdit, prefixed, wan_vae
from tests.generation.test_loading_transformers import words
from webui.generation.part_names import DENOISERS
from webui.generation.weights import build
from webui.library.checkpoints import Checkpoint, CheckpointShelf
from webui.library.hashes import HashBook
from webui.settings import ROOT

CONFIGS = ROOT / "webui" / "generation" / "configs"
LIBRARIES: Mapping[str, Any] = {"diffusers": diffusers, "transformers": transformers}

Weights = Mapping[str, Tensors]
"""Of each part of a pipeline, by diffusers' and transformers' names."""

Write = Callable[[Weights], Tensors]

_HEAD = 16
WIDTH = 2 * _HEAD
"""Of the transformers."""
_SMALL: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "AutoencoderKL": {"block_out_channels": [32] * 4, "layers_per_block": 1},
        "AutoencoderKLFlux2": {"block_out_channels": [32] * 4, "layers_per_block": 1},
        "AutoencoderKLQwenImage": {"base_dim": 8},
        "FluxTransformer2DModel": {
            "num_attention_heads": 2,
            "attention_head_dim": _HEAD,
            "axes_dims_rope": [4, 6, 6],
        },
        "Flux2Transformer2DModel": {
            "num_attention_heads": 2,
            "attention_head_dim": _HEAD,
            "axes_dims_rope": [4, 4, 4, 4],
        },
        "SD3Transformer2DModel": {
            "num_attention_heads": 2,
            "attention_head_dim": _HEAD,
            "caption_projection_dim": WIDTH,
            "pos_embed_max_size": 16,
            "sample_size": 16,
        },
        "ZImageTransformer2DModel": {
            "dim": WIDTH,
            "n_heads": 2,
            "n_kv_heads": 2,
            "axes_dims": [4, 6, 6],
        },
        "QwenImageTransformer2DModel": {
            "num_attention_heads": 2,
            "attention_head_dim": _HEAD,
            "axes_dims_rope": [4, 6, 6],
        },
    }
)
"""What is made smaller: never what a file is recognised by, which is the number of a transformer's
blocks and the width of what its text encoders give."""

_LANGUAGE = MappingProxyType(
    {
        "vocab_size": 64,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        # T5's names for the same.
        "d_kv": 8,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 2,
    }
)
_VISION = MappingProxyType({"hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "depth": 1})


def _smaller(config: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return config | {key: value for key, value in known.items() if key in config}


def _small(config: dict[str, Any]) -> dict[str, Any]:
    """A part's configuration, made small."""
    kind = config.get("_class_name")
    if kind == "UNet2DConditionModel":
        heads: list[int] | int = config["attention_head_dim"]
        levels = len(config["block_out_channels"])
        return config | {
            "block_out_channels": [32, 64, 64, 64][:levels],
            "attention_head_dim": 4 if isinstance(heads, int) else [2, 4, 4, 4][:levels],
        }
    if kind is not None:
        return config | dict(_SMALL.get(kind, {}))
    if "text_config" in config:
        text = _smaller(config["text_config"], _LANGUAGE)
        if "rope_scaling" in text:
            # Two heads, which this class takes no size of; the width of the model decides it.
            text["rope_scaling"] = {"type": "mrope", "mrope_section": [224, 336, 336]}
        vision = _smaller(config["vision_config"], {**_VISION, **_LANGUAGE, "head_dim": 8})
        return config | {"text_config": text, "vision_config": vision}
    return _smaller(config, _LANGUAGE)


def write_small_config(name: str, folder: Path, **denoiser: Any) -> Path:
    """The shipped configuration of that name, its networks made small.

    Args:
        denoiser: What its denoiser's configuration says besides.
    """
    small = shutil.copytree(CONFIGS / name, folder / name)
    for file in small.glob("*/config.json"):
        more = denoiser if file.parent.name in DENOISERS else {}
        file.write_text(json.dumps(_small(json.loads(file.read_text())) | more))
    return small


def networks_of(config: Path) -> dict[str, tuple[str, str]]:
    """Library and class of each part of a configuration that has weights."""
    index = json.loads((config / "model_index.json").read_text())
    return {part: tuple(index[part]) for part in index if (config / part / "config.json").exists()}


def random_weights(
    config: Path, only: tuple[str, ...] = (), unread: tuple[str, ...] = ()
) -> dict[str, Tensors]:
    """Weights in bf16 for each part of a configuration, whose shapes its real class says.

    Args:
        only: The parts that are wanted; all where it is empty.
        unread: As in `Published`.
    """
    made: dict[str, Tensors] = {}
    numbers = _Numbers()
    for part, (library, kind) in networks_of(config).items():
        if only and part not in only:
            continue
        cls: Any = getattr(LIBRARIES[library], kind)
        said = json.loads((config / part / "config.json").read_text())
        if library == "diffusers":
            net: Any = build(partial(cls.from_config, said))
        else:
            net = build(partial(cls, cls.config_class.from_dict(said)))
        made[part] = {
            name: numbers.like(tensor)
            for name, tensor in net.state_dict().items()
            if not name.startswith(unread)
        }
        for one, other in _TIED:
            if one in made[part] and (kind == "T5EncoderModel" or net.config.tie_word_embeddings):
                made[part][one] = made[part][other]
    return made


_TIED = (
    ("encoder.embed_tokens.weight", "shared.weight"),
    ("lm_head.weight", "model.embed_tokens.weight"),
)
"""Weights that are others, and what those are."""


class _Numbers:
    """Random numbers, of which each tensor is given its own stretch: drawing each costs more."""

    def __init__(self) -> None:
        self._places = random.Random(0)
        generator = torch.Generator().manual_seed(0)
        self._pool = (0.1 * torch.randn(2**20, generator=generator)).to(torch.bfloat16)

    def like(self, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return torch.zeros(tensor.shape, dtype=tensor.dtype)
        first = self._places.randrange(self._pool.numel())
        turns, end = divmod(first + tensor.numel(), self._pool.numel())
        pieces = [self._pool] * turns + [self._pool[:end]]
        return torch.cat([pieces[0][first:], *pieces[1:]]).view(tensor.shape)


def _clip_l(begins: str) -> Write:
    def write(weights: Weights) -> Tensors:
        # Before transformers 5 all its names began so; a projection is not in these files.
        plain = {
            name.removeprefix("text_model."): tensor
            for name, tensor in weights["text_encoder"].items()
            if not name.startswith("text_projection")
        }
        ids = {f"{begins}embeddings.position_ids": torch.arange(77)[None]}
        return prefixed(begins, plain) | ids

    return write


def _open_clip_h(begins: str) -> Write:
    """OpenCLIP's ViT-H: its last layer and its projection are not used by Stable Diffusion 2."""

    def write(weights: Weights) -> Tensors:
        known = open_clip(dict(weights["text_encoder"]), begins)
        layer = f"{begins}transformer.resblocks."
        more = {
            name.replace(f"{layer}0.", f"{layer}1."): torch.randn_like(tensor)
            for name, tensor in known.items()
            if name.startswith(f"{layer}0.")
        }
        projection = torch.randn(1024, 1024).to(torch.bfloat16)
        more[f"{begins}text_projection"] = projection
        return known | more | {f"{begins}logit_scale": torch.ones((), dtype=torch.bfloat16)}

    return write


def _part(part: str, begins: str = "") -> Write:
    """A part by the names it has already, but for what is another one's."""
    tied = tuple(name for name, _ in _TIED)
    return lambda weights: {
        begins + name: tensor for name, tensor in weights[part].items() if name not in tied
    }


def _open_clip_g(begins: str) -> Write:
    return lambda weights: open_clip(dict(weights["text_encoder_2"]), begins)


def _unet(weights: Weights) -> Tensors:
    return ldm_unet(dict(weights["unet"]), 2)


def _vae(begins: str) -> Write:
    return lambda weights: ldm_vae(dict(weights["vae"]), 4, begins)


def _flux2_vae(weights: Weights) -> Tensors:
    """Its last convolutions are within the halves they belong to."""
    places = {"quant_conv.": "encoder.quant_conv.", "post_quant_conv.": "decoder.post_quant_conv."}
    written: Tensors = {}
    for name, tensor in ldm_vae(dict(weights["vae"]), 4, "").items():
        begin = f"{name.split('.')[0]}."
        written[name.replace(begin, places[begin], 1) if begin in places else name] = tensor
    return written


def _transformer(layout: Callable[[Tensors], Tensors], begins: str = "") -> Write:
    return lambda weights: prefixed(begins, layout(dict(weights["transformer"])))


def _same(tensors: Tensors) -> Tensors:
    return tensors


def _language(weights: Weights) -> Tensors:
    """A language model as ComfyUI's files have it: by the names of one that only reads texts."""
    begins = "model.language_model."
    return {n.replace(begins, "model."): t for n, t in weights["text_encoder"].items()}


_COMFY = "model.diffusion_model."
_FLUX_VAE = ("vae/ae.safetensors", _vae(""))
_CLIP_L = ("text_encoders/clip_l.safetensors", _clip_l("text_model."))
_CLIP_G = (
    "text_encoders/clip_g.safetensors",
    _part("text_encoder_2"),
)
_T5 = "text_encoders/t5xxl_fp16.safetensors"
_QWEN3 = "text_encoders/qwen_3.safetensors"
_FLUX_APART: Mapping[str, tuple[str, Write]] = MappingProxyType(
    {"vae": _FLUX_VAE, "text_encoder": _CLIP_L, "text_encoder_2": (_T5, _part("text_encoder_2"))}
)
_FLUX2_VAE = ("vae/flux2-vae.safetensors", _flux2_vae)
_KLEIN_APART: Mapping[str, tuple[str, Write]] = MappingProxyType(
    {"vae": _FLUX2_VAE, "text_encoder": (_QWEN3, _part("text_encoder"))}
)
_Z_APART: Mapping[str, tuple[str, Write]] = MappingProxyType(
    {"vae": _FLUX_VAE, "text_encoder": (_QWEN3, _part("text_encoder", "model."))}
)


@dataclass(frozen=True)
class Published:
    """How a model comes.

    Attributes:
        file: The name of the model's file, without its suffix.
        holds: What is in it, the denoiser first.
        apart: What is in files of their own, by the part.
        unread: How the names of tensors begin that a text encoder needs none of, and that its
            file leaves out.
    """

    file: str
    holds: tuple[Write, ...]
    apart: Mapping[str, tuple[str, Write]] = field(default_factory=dict[str, tuple[str, Write]])
    unread: tuple[str, ...] = ()


_SD1 = (_unet, _vae("first_stage_model."), _clip_l("cond_stage_model.transformer.text_model."))
_SD2 = (_unet, _vae("first_stage_model."), _open_clip_h("cond_stage_model.model."))
_SDXL = (
    _unet,
    _vae("first_stage_model."),
    _clip_l("conditioner.embedders.0.transformer.text_model."),
    _open_clip_g("conditioner.embedders.1.model."),
)
_REFINER = (
    _unet,
    _vae("first_stage_model."),
    _open_clip_g("conditioner.embedders.0.model."),
)
_SD3_APART = MappingProxyType(
    {
        "vae": ("vae/sd3_vae.safetensors", _vae("")),
        "text_encoder": _CLIP_L,
        "text_encoder_2": _CLIP_G,
        "text_encoder_3": (_T5, _part("text_encoder_3")),
    }
)

PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "sd1": Published("v1-5-pruned-emaonly", _SD1),
        "sd1-inpaint": Published("sd-v1-5-inpainting", _SD1),
        "sd2": Published("v2-1_512-ema-pruned", _SD2),
        "sd2-v": Published("v2-1_768-ema-pruned", _SD2),
        "sd2-inpaint": Published("512-inpainting-ema", _SD2),
        "sdxl": Published("sd_xl_base_1.0", _SDXL),
        "sdxl-inpaint": Published("sdxl-inpainting", _SDXL),
        "sdxl-refiner": Published("sd_xl_refiner_1.0", _REFINER),
        "sd3-medium": Published(
            "sd3_medium_incl_clips_t5xxlfp16",
            (
                _transformer(mmdit, _COMFY),
                _vae("first_stage_model."),
                _clip_l("text_encoders.clip_l.transformer.text_model."),
                _part("text_encoder_2", "text_encoders.clip_g.transformer."),
                _part("text_encoder_3", "text_encoders.t5xxl.transformer."),
            ),
        ),
        "sd3.5-medium": Published(
            "sd3.5_medium", (_transformer(mmdit, _COMFY), _vae("first_stage_model.")), _SD3_APART
        ),
        "sd3.5-large": Published(
            "sd3.5_large", (_transformer(mmdit, _COMFY), _vae("first_stage_model.")), _SD3_APART
        ),
        "flux-dev": Published("flux1-dev", (_transformer(bfl),), _FLUX_APART),
        "flux-schnell": Published(
            "flux1-schnell-all",
            (
                _transformer(bfl, _COMFY),
                _vae("vae."),
                _clip_l("text_encoders.clip_l.transformer.text_model."),
                _part("text_encoder_2", "text_encoders.t5xxl.transformer."),
            ),
        ),
        "flux-fill": Published("flux1-fill-dev", (_transformer(bfl),), _FLUX_APART),
        "flux-control": Published("flux1-depth-dev", (_transformer(bfl),), _FLUX_APART),
        "flux2-dev": Published(
            "flux2-dev",
            (_transformer(bfl),),
            {
                "vae": _FLUX2_VAE,
                "text_encoder": (
                    "text_encoders/mistral_3_small_flux2_bf16.safetensors",
                    _language,
                ),
            },
            ("lm_head", "model.vision", "model.multi"),
        ),
        "flux2-klein-4b": Published("flux-2-klein-4b", (_transformer(bfl),), _KLEIN_APART),
        "flux2-klein-9b": Published(
            "flux-2-klein-base-9b", (_transformer(bfl),), _KLEIN_APART, ("lm_head",)
        ),
        "z-image": Published("z_image_bf16", (_transformer(lumina),), _Z_APART),
        "z-image-turbo": Published("z_image_turbo_bf16", (_transformer(lumina, _COMFY),), _Z_APART),
        "qwen-image": Published(
            "qwen_image_bf16",
            (_transformer(_same, _COMFY),),
            {
                "vae": ("vae/qwen_image_vae.safetensors", lambda w: wan_vae(dict(w["vae"]))),
                "text_encoder": (
                    "text_encoders/qwen_2.5_vl_7b.safetensors",
                    _language,
                ),
            },
            ("model.visual",),
        ),
    }
)


@dataclass(frozen=True)
class Small:
    """A model made small, its files in a folder of models.

    Attributes:
        weights: What its networks were made of.
        tokenizers: Folders of those that cannot be shipped, by the parts' names.
    """

    folder: Path
    published: Published
    config: Path
    weights: Weights
    tokenizers: Mapping[str, Path]

    @property
    def shelf(self) -> CheckpointShelf:
        state = self.folder / "state"
        state.mkdir(exist_ok=True)
        return CheckpointShelf(
            (self.folder / "models",), HashBook(state / "hashes.json"), self.config.parent
        )

    @property
    def checkpoint(self) -> Checkpoint:
        """The only model there is."""
        (name,) = self.shelf.names()
        found = self.shelf.find(name)
        assert found.path == self.config
        return found

    @property
    def tensors(self) -> Tensors:
        """What the model's own file holds."""
        return {
            name: t for write in self.published.holds for name, t in write(self.weights).items()
        }


def make_small(name: str, folder: Path, *, alone: bool = False, **denoiser: Any) -> Small:
    """Everything of a model of that configuration but its own file.

    Args:
        alone: Whether there is nothing but its denoiser.
        denoiser: As in `write_small_config`.
    """
    published = PUBLISHED[name]
    config = write_small_config(name, folder / "configs", **denoiser)
    weights = random_weights(config, DENOISERS if alone else (), published.unread)
    (folder / "models").mkdir()
    for file, write in () if alone else published.apart.values():
        save(folder / "models" / file, write(weights))
    index = json.loads((config / "model_index.json").read_text())
    tokenizers = {
        part: _write_tokenizer(folder / "tokenizers" / part, value[1])
        for part, value in index.items()
        if part.startswith("tokenizer") and value[1] not in (None, "CLIPTokenizer")
    }
    return Small(folder, published, config, weights, tokenizers)


def _write_tokenizer(folder: Path, kind: str) -> Path:
    tokenizer: Any = words(kind) if kind.startswith("T5") else byte_tokenizer()
    tokenizer.save_pretrained(folder)
    return folder


def save(file: Path, tensors: Tensors) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    cast(Any, safetensors).save_file(whole, file)
    return file
