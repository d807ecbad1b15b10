"""How a pipeline's parts are called, and by what names files keep their tensors."""

from __future__ import annotations

from collections.abc import Iterable

from webui.library.architectures import read_denoiser
from webui.library.checkpoints import Model
from webui.library.headers import Header
from webui.library.parts import LANGUAGE_MODELS

DENOISERS = ("unet", "transformer")
"""What the denoiser is called among a pipeline's parts."""

VAE = "vae"
"""What the VAE is called."""

VAE_PREFIXES = ("first_stage_model.", "vae.")
_CLIP_L = (
    *("cond_stage_model.transformer.", "conditioner.embedders.0.transformer."),
    *("text_encoders.clip_l.transformer.", "text_encoders.clip_l.", "text_encoder."),
)
_OPEN_CLIP = (
    *(
        "cond_stage_model.model.",
        "conditioner.embedders.1.model.",
        "conditioner.embedders.0.model.",
    ),
    *("text_encoders.clip_h.transformer.", "text_encoders.clip_g.transformer."),
    *("text_encoders.clip_g.", "text_encoder_2."),
)
_LANGUAGE = tuple(
    f"text_encoders.{name}{rest}"
    for name in ("t5xxl", "qwen3_4b", "qwen3_8b", "qwen25_7b", "mistral3_24b")
    for rest in (".transformer.", ".")
)


def is_tokenizer(part: str) -> bool:
    """Whether a part of that name is a tokenizer."""
    return part.startswith("tokenizer")


def prefix_of(
    part: str, kind: str, header: Header, model: Model, *, apart: bool = False
) -> str | None:
    """What the names of a part's tensors begin with; None where it is not in the file.

    Args:
        kind: The part's class.
        header: The file's.
        apart: Whether the file holds that part and nothing else.
    """
    if part in DENOISERS:
        known = read_denoiser(header)
        return "" if known is None else known.prefix
    if part == VAE:
        marks = ("decoder.conv_in.weight", "decoder.conv1.weight")
        prefixes = (*VAE_PREFIXES, "") if apart else VAE_PREFIXES
    elif kind.startswith("CLIP"):
        marks = ("text_model.embeddings.position_embedding.weight", "positional_embedding")
        marks += ("embeddings.position_embedding.weight",)
        is_open = model.config(part).get("hidden_act") == "gelu"
        prefixes = _OPEN_CLIP + _CLIP_L if is_open else _CLIP_L + _OPEN_CLIP
        prefixes = (*prefixes, "transformer.", "") if apart else prefixes
        return _clip_prefix(prefixes, marks, header, model.config(part)["hidden_size"])
    else:
        # Not the norm at a language model's end, which some files have no use for.
        marks = tuple(f"{model}.layers.0.input_layernorm.weight" for model in LANGUAGE_MODELS)
        marks += ("encoder.final_layer_norm.weight",)
        prefixes = (*_LANGUAGE, "") if apart else _LANGUAGE
    return next((p for p in prefixes if any(p + mark in header.shapes for mark in marks)), None)


def _clip_prefix(
    prefixes: Iterable[str], marks: Iterable[str], header: Header, width: int
) -> str | None:
    for prefix in prefixes:
        for mark in marks:
            if header.shapes.get(prefix + mark, (0,))[-1] == width:
                return prefix
    return None
