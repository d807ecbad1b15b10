"""From a folder or a single file to diffusers' components, without a question to any network."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import diffusers
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from webui.errors import BrokenFileError, NotFoundError, WebuiError
from webui.generation.companions import TEXT_ENCODERS, VAES, find_part, find_tokenizer
from webui.generation.file_parts import (
    DENOISERS,
    LOADED_OTHERWISE,
    is_tokenizer,
    load_part,
    prefix_of,
)
from webui.generation.weights import WeightFile
from webui.library.checkpoints import INDEX, Checkpoint, read_json

_LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")
"""Parts that are never loaded: the page has a content filter of its own."""

_DISPENSABLE = ("text_encoder_3", "tokenizer_3")
"""Stable Diffusion 3 works without its T5 encoder."""


_KNOWN_FAILURES = (OSError, ValueError, RuntimeError, KeyError, IndexError, TypeError)
"""What reading and converting a file that does not fit raises, besides our own errors."""

_WORDS = MappingProxyType(
    {
        "CLIPTextModel": "a CLIP text encoder",
        "CLIPTextModelWithProjection": "a CLIP text encoder",
        "T5EncoderModel": "the T5 text encoder (t5xxl)",
        "Qwen3Model": "the Qwen3 text encoder",
        "Qwen3ForCausalLM": "the Qwen3 text encoder",
        "Qwen2_5_VLForConditionalGeneration": "the Qwen2.5-VL text encoder",
        "Mistral3ForConditionalGeneration": "the Mistral Small text encoder",
        "T5TokenizerFast": "the T5 tokenizer",
        "Qwen2Tokenizer": "the Qwen tokenizer",
        "Qwen2TokenizerFast": "the Qwen tokenizer",
        "PixtralProcessor": "the Mistral tokenizer",
    }
)
"""Parts by their classes, in words; every other one is called a VAE."""


def load_pipe(
    checkpoint: Checkpoint,
    pipeline: str,
    dtype: torch.dtype,
    *,
    others: Mapping[str, Path] = MappingProxyType({}),
) -> DiffusionPipeline:
    """The model as a diffusers pipeline on the CPU, its weights views of the mapped files.

    Weights in fp8 without scales stay in it, converted layer by layer as they are used; GGUF stays
    packed. All others are in `dtype`.

    Args:
        pipeline: Class of diffusers.
        others: Files or folders to take parts from instead, by the parts' names; a tokenizer's
            folder likewise.

    Raises:
        BrokenFileError: A file is damaged, incomplete, or stored in a way that is not read.
        NotFoundError: A part is neither in the file nor anywhere else on disk; says where to put
            it.
    """
    try:
        if checkpoint.file is None:
            return _from_folder(checkpoint, pipeline, dtype, others)
        return _from_file(checkpoint, checkpoint.file, pipeline, dtype, others)
    except WebuiError:
        raise
    except _KNOWN_FAILURES as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no reason"
        raise BrokenFileError(
            f"The model {checkpoint.name!r} could not be loaded: {reason}", field="model"
        ) from error


def _from_folder(
    checkpoint: Checkpoint, pipeline: str, dtype: torch.dtype, others: Mapping[str, Path]
) -> DiffusionPipeline:
    index = read_json(checkpoint.path / INDEX, model=checkpoint.name)
    parts = _parts_of(index)
    _check_packed(checkpoint, parts)
    own = {
        part: load_part(path, parts[part], checkpoint, part, dtype)
        for part, path in others.items()
        if part in parts
    }
    # diffusers wants to be told about those that a pipeline can do without only at a price, and to
    # know the class of what it is given.
    left_out = {name: None for name, named in index.items() if named == [None, None]}
    apart = {
        part: load_part(others.get(part, checkpoint.path / part), named, checkpoint, part, dtype)
        for part, named in parts.items()
        if named[1] in LOADED_OTHERWISE
    }
    # diffusers declares neither its classes' keyword arguments nor what they give back.
    kind: Any = getattr(diffusers, pipeline)
    pipe = kind.from_pretrained(
        checkpoint.path,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        **(left_out | own | dict.fromkeys(apart) | _without_filter(kind)),
    )
    pipe.register_modules(**apart)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _without_filter(pipeline: Any) -> dict[str, Any]:
    """Arguments by which a pipeline leaves out its own content filter, where it has one."""
    expected, _ = pipeline._get_signature_keys(pipeline)
    has = "safety_checker" in expected
    return {"safety_checker": None, "requires_safety_checker": False} if has else {}


def _check_packed(checkpoint: Checkpoint, parts: Mapping[str, tuple[str, str]]) -> None:
    """Raises for a folder that bitsandbytes has packed, where that is not installed."""
    if importlib.util.find_spec("bitsandbytes") is not None:
        return
    for part in parts:
        file = checkpoint.path / part / "config.json"
        config = read_json(file, model=checkpoint.name) if file.exists() else {}
        packed = config.get("quantization_config")
        method = cast(dict[str, Any], packed).get("quant_method") if packed else None
        if method == "bitsandbytes":
            raise BrokenFileError(
                f"The model {checkpoint.name!r} is packed by bitsandbytes: install that package"
                " (`pip install bitsandbytes`) into the environment, or take another version.",
                field="model",
            )


def _parts_of(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Library and class of each part that a pipeline has."""
    named = {part: cast(list[str], v) for part, v in index.items() if isinstance(v, list)}
    return {
        part: (value[0], value[1])
        for part, value in named.items()
        if len(value) == 2 and value[0] is not None and part not in _LEFT_OUT  # pyright: ignore[reportUnnecessaryComparison]
    }


def _from_file(
    checkpoint: Checkpoint,
    path: Path,
    pipeline: str,
    dtype: torch.dtype,
    others: Mapping[str, Path],
) -> DiffusionPipeline:
    index = read_json(checkpoint.path / INDEX, model=checkpoint.name)
    parts = _parts_of(index)
    file = WeightFile(path)
    places = {
        part: others.get(part) or _place_of(part, kind, file, checkpoint)
        for part, (_, kind) in parts.items()
    }
    # All that is missing is known before the first tensor is read.
    _check_found(places, parts, path)
    kind: Any = getattr(diffusers, pipeline)
    expected, options = kind._get_signature_keys(kind)
    made: dict[str, Any] = dict.fromkeys(expected)
    made |= {key: value for key, value in index.items() if key in options}
    if "is_distilled" in options and checkpoint.facts is not None:
        made["is_distilled"] = checkpoint.facts.distilled is not None
    for part, place in places.items():
        made[part] = (
            None if place is None else load_part(place, parts[part], checkpoint, part, dtype, file)
        )
    made |= _without_filter(kind)
    pipe = kind(**made)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _place_of(part: str, kind: str, file: WeightFile, checkpoint: Checkpoint) -> Path | None:
    """Where a part is: in the file, in the shipped configuration, or elsewhere on disk."""
    if part == "scheduler" or kind == "CLIPTokenizer":
        return checkpoint.path
    if is_tokenizer(part):
        return find_tokenizer(file.path, kind)
    if part in DENOISERS or prefix_of(part, kind, file, checkpoint) is not None:
        return file.path
    return find_part(file.path, checkpoint.path, part, kind)


def _check_found(
    places: Mapping[str, Path | None],
    parts: Mapping[str, tuple[str, str]],
    path: Path,
) -> None:
    missing = [p for p, place in places.items() if place is None and p not in _DISPENSABLE]
    if not missing:
        return
    words = [_WORDS.get(parts[part][1], "a VAE") for part in missing]
    folder = path.parent
    advice: list[str] = []
    if any(not is_tokenizer(part) for part in missing):
        files = {VAES if part == VAES else TEXT_ENCODERS for part in missing if part in parts}
        wanted = sorted(files if not all(map(is_tokenizer, missing)) else {TEXT_ENCODERS})
        advice.append("files into " + " and ".join(str(folder / name) for name in wanted))
    if any(map(is_tokenizer, missing)):
        advice.append(
            "the folder " + ", ".join(p for p in missing if is_tokenizer(p)) + " of the model's"
            f" repository into {folder / TEXT_ENCODERS}"
        )
    raise NotFoundError(
        f"The file {path.name} needs {_listed(words)} beside it: put {_listed(advice)}.",
        field="model",
    )


def _listed(words: Iterable[str]) -> str:
    *others, last = dict.fromkeys(words)
    return f"{', '.join(others)} and {last}" if others else last
