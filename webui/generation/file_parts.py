"""A part of a pipeline, made from a file or folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.quantizers.quantization_config import GGUFQuantizationConfig
from torch import nn

from webui.errors import BrokenFileError
from webui.generation.clip_tokenizers import END, PAD_ZERO, clip_tokenizer
from webui.generation.companions import VAES
from webui.generation.conversions import convert_network, convert_text_encoder, without_unused
from webui.generation.fp8 import compute_fp8_in
from webui.generation.weights import Tensors, WeightFile, assign, build, layers_in_fp8
from webui.library.architectures import read_denoiser
from webui.library.checkpoints import Checkpoint

DENOISERS = ("unet", "transformer")
"""What the denoiser is called among a pipeline's parts."""

_VAE_PREFIXES = ("first_stage_model.", "vae.")
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
_NOT_DENOISER = (
    *_VAE_PREFIXES,
    *("cond_stage_model.", "conditioner.", "text_encoders.", "text_encoder", "model_ema."),
)


def is_tokenizer(part: str) -> bool:
    """Whether a part of that name is a tokenizer."""
    return part.startswith("tokenizer")


def load_part(
    place: Path,
    named: tuple[str, str],
    checkpoint: Checkpoint,
    part: str,
    dtype: torch.dtype,
    file: WeightFile | None = None,
) -> Any:
    """A part from where it was found."""
    library, kind = named
    source: Any = diffusers if library == "diffusers" else transformers
    cls: Any = getattr(source, kind)
    if part == "scheduler":
        return cls.from_config(checkpoint.config(part))
    if kind == "CLIPTokenizer" and place == checkpoint.path:
        return clip_tokenizer(_pad_of(checkpoint, part))
    if place.is_dir():
        options = {} if is_tokenizer(part) else {"dtype": dtype, "use_safetensors": True}
        return cls.from_pretrained(place, local_files_only=True, **options)
    if file is None or file.path != place:
        file = WeightFile(place)
    if library == "diffusers":
        return _network(cls, file, checkpoint, part, dtype)
    return _text_encoder(cls, file, checkpoint, part, dtype)


def _pad_of(checkpoint: Checkpoint, tokenizer: str) -> str:
    """What prompts are filled up with; OpenCLIP's text encoders are those with a plain GELU."""
    encoder = checkpoint.config(tokenizer.replace("tokenizer", "text_encoder"))
    return PAD_ZERO if encoder.get("hidden_act") == "gelu" else END


def prefix_of(part: str, kind: str, file: WeightFile, checkpoint: Checkpoint) -> str | None:
    """What the names of a part's tensors begin with; None where it is not in the file."""
    if part in DENOISERS:
        known = read_denoiser(file.header)
        return "" if known is None else known.prefix
    is_own = file.path != checkpoint.file
    if part == VAES:
        marks = ("decoder.conv_in.weight", "decoder.conv1.weight")
        prefixes = (*_VAE_PREFIXES, "") if is_own else _VAE_PREFIXES
    elif kind.startswith("CLIP"):
        marks = ("text_model.embeddings.position_embedding.weight", "positional_embedding")
        marks += ("embeddings.position_embedding.weight",)
        is_open = checkpoint.config(part).get("hidden_act") == "gelu"
        prefixes = _OPEN_CLIP + _CLIP_L if is_open else _CLIP_L + _OPEN_CLIP
        prefixes = (*prefixes, "transformer.", "") if is_own else prefixes
        return _clip_prefix(prefixes, marks, file, checkpoint.config(part)["hidden_size"])
    else:
        marks = ("encoder.final_layer_norm.weight", "model.norm.weight")
        marks += ("language_model.model.norm.weight", "model.language_model.norm.weight")
        prefixes = (*_LANGUAGE, "") if is_own else _LANGUAGE
    return next((p for p in prefixes if any(file.has(p + mark) for mark in marks)), None)


def _clip_prefix(
    prefixes: Iterable[str], marks: Iterable[str], file: WeightFile, width: int
) -> str | None:
    shapes = file.header.shapes
    for prefix in prefixes:
        for mark in marks:
            if shapes.get(prefix + mark, (0,))[-1] == width:
                return prefix
    return None


def _words_of(part: str, file: WeightFile) -> str:
    return f"The {part} in {file.path.name}"


def _network(
    cls: Any, file: WeightFile, checkpoint: Checkpoint, part: str, dtype: torch.dtype
) -> nn.Module:
    config = checkpoint.config(part)
    prefix = prefix_of(part, cls.__name__, file, checkpoint)
    if prefix is None:
        raise BrokenFileError(f"{file.path.name} holds no {part}.", field="model")
    tensors = file.take(prefix, dtype, but=_NOT_DENOISER if part in DENOISERS else ())
    if file.header.is_gguf:
        return _packed_network(cls, tensors, checkpoint, part, dtype)
    model: Any = build(lambda: cls.from_config(config))
    try:
        tensors = convert_network(tensors, cls.__name__, config, model.state_dict())
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise BrokenFileError(
            f"{_words_of(part, file)} is incomplete or of another kind: {str(error)[:120]}.",
            field="model",
        ) from error
    stored = layers_in_fp8(model, tensors)
    keeps = _fp32_modules(cls, dtype)

    def keep(name: str, tensor: torch.Tensor) -> torch.dtype | None:
        if name in stored:
            return tensor.dtype
        return torch.float32 if keeps.intersection(name.split(".")) else None

    assign(model, tensors, dtype, what=_words_of(part, file), keep=keep)
    compute_fp8_in(model, dtype)
    return model


def _packed_network(
    cls: Any, tensors: Tensors, checkpoint: Checkpoint, part: str, dtype: torch.dtype
) -> nn.Module:
    """A denoiser that stays packed as in its GGUF file; diffusers unpacks each layer in use."""
    return cls.from_single_file(
        tensors,
        config=str(checkpoint.path),
        subfolder=part,
        local_files_only=True,
        quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
        dtype=dtype,
    )


def _fp32_modules(cls: Any, dtype: torch.dtype) -> frozenset[str]:
    """Names of modules that must not be computed in fp16."""
    names = getattr(cls, "_keep_in_fp32_modules", None) if dtype is torch.float16 else None
    return frozenset(names or ())


def _text_encoder(
    cls: Any, file: WeightFile, checkpoint: Checkpoint, part: str, dtype: torch.dtype
) -> nn.Module:
    if file.header.is_gguf:
        raise BrokenFileError(
            f"{file.path.name} is a text encoder as GGUF, which is not read: take a safetensors"
            " version of it.",
            field="model",
        )
    prefix = prefix_of(part, cls.__name__, file, checkpoint)
    if prefix is None:
        raise BrokenFileError(f"{file.path.name} holds no {part}.", field="model")
    config = cls.config_class.from_dict(checkpoint.config(part))
    model = build(lambda: cls(config))
    tensors = convert_text_encoder(file.take(prefix, dtype), model)
    if "text_projection.weight" in model.state_dict() and part == "text_encoder":
        # Stable Diffusion 3 takes what CLIP-L gives before its projection.
        tensors["text_projection.weight"] = torch.eye(config.hidden_size)
    without_unused(model, tensors)
    keeps = _fp32_modules(cls, dtype)
    assign(
        model,
        tensors,
        dtype,
        what=_words_of(part, file),
        keep=lambda name, _: torch.float32 if keeps.intersection(name.split(".")) else None,
    )
    return model
