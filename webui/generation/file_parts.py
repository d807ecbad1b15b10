"""A part of a pipeline, made from a file or folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
import transformers
from diffusers.quantizers.quantization_config import GGUFQuantizationConfig
from torch import nn

from webui.errors import BrokenFileError
from webui.generation.clip_tokenizers import END, PAD_ZERO, clip_tokenizer
from webui.generation.conversions import (
    convert_network,
    convert_text_encoder,
    fitted,
    fitted_config,
)
from webui.generation.devices import is_out_of_memory
from webui.generation.fp8 import FP8, compute_fp8_in, weights_for_fp8
from webui.generation.gguf_text_encoders import read_text_encoder
from webui.generation.language_models import PromptReader, is_language_model
from webui.generation.part_names import DENOISERS, VAE_PREFIXES, is_tokenizer, prefix_of
from webui.generation.stored_tokenizers import is_stored, read_stored_tokenizer
from webui.generation.weights import (
    Tensors,
    WeightFile,
    assign,
    build,
    incomplete,
    layers_in_fp8,
    take_folder,
)
from webui.generation.widening import compute_packed_in, is_packed, unpacked
from webui.library.checkpoints import Checkpoint, read_json
from webui.library.packed_folders import packed_by, packed_problem
from webui.library.pipeline_folders import variant_in

NOT_DENOISER = (
    *VAE_PREFIXES,
    *("cond_stage_model.", "conditioner.", "text_encoders.", "text_encoder", "model_ema."),
)
"""How names begin in a single file that are of another part than the denoiser."""


LOADED_OTHERWISE = ("PixtralProcessor",)
"""Classes of parts that diffusers cannot load here: a processor of pictures wants torchvision."""


def load_part(
    place: Path,
    named: tuple[str, str],
    checkpoint: Checkpoint,
    part: str,
    dtype: torch.dtype,
    file: WeightFile | None = None,
    *,
    layout: torch.memory_format = torch.contiguous_format,
    in_fp8: bool = False,
) -> Any:
    """A part from where it was found.

    Args:
        layout: As in `assign`.
        in_fp8: Whether a denoiser's weights that bear it are read as fp8.
    """
    library, kind = named
    source: Any = diffusers if library == "diffusers" else transformers
    cls: Any = None if kind in LOADED_OTHERWISE else getattr(source, kind)
    if part == "scheduler":
        return cls.from_config(checkpoint.config(part))
    if kind == "CLIPTokenizer" and place == checkpoint.path:
        return clip_tokenizer(_pad_of(checkpoint, part))
    if is_tokenizer(part):
        return _tokenizer(cls, place)
    if place.is_dir() and is_language_model(kind):
        return load_folder(place, named, checkpoint, dtype)
    if place.is_dir():
        weights = {"dtype": dtype, "use_safetensors": True, "variant": variant_in(place)}
        return cls.from_pretrained(place, local_files_only=True, **weights)
    if file is None or file.path != place:
        file = WeightFile(place)
    if library == "diffusers":
        return _network(cls, file, checkpoint, part, dtype, layout, in_fp8=in_fp8)
    return _text_encoder(cls, file, checkpoint, part, dtype)


def _tokenizer(cls: Any, place: Path) -> Any:
    """A tokenizer from its folder, or from the file of a text encoder.

    Args:
        cls: Its class; None for that of a processor, of which only the tokenizer is wanted: there
            are no pictures in prompts here.
    """
    if not is_stored(place):
        folders: Any = cls or transformers.AutoTokenizer
        return folders.from_pretrained(place, local_files_only=True)
    stored = read_stored_tokenizer(place)
    objects: Any = cls or transformers.PreTrainedTokenizerFast
    return objects(tokenizer_object=stored.backend, **stored.options)


def load_folder(
    place: Path,
    named: tuple[str, str],
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    *,
    in_fp8: bool = False,
) -> nn.Module:
    """A network from its folder, unpacked where bitsandbytes has packed the weights; of a language
    model what is run.

    Args:
        in_fp8: As in `load_part`.

    Raises:
        BrokenFileError: A file is damaged or packed by another program, or the weights do not fit
            the configuration.
    """
    library, kind = named
    source: Any = diffusers if library == "diffusers" else transformers
    cls: Any = getattr(source, kind)
    is_denoiser = place.name in DENOISERS
    what = f"The {place.name} of the model {checkpoint.name!r}"
    problem = packed_problem(packed_by(place))
    if problem is not None:
        raise BrokenFileError(f"{what} {problem}.", field="model")
    said = read_json(place / "config.json", model=checkpoint.name)
    said = {key: value for key, value in said.items() if key != "quantization_config"}
    reader = PromptReader(kind, said, checkpoint.pipeline)
    tensors = take_folder(place, dtype, reader.runs)
    if library == "diffusers":
        model: Any = build(lambda: cls.from_config(said))
    else:
        model = reader.build(cls)
        tensors = convert_text_encoder(tensors, model)
    keep = _kept(cls, model, tensors, dtype, in_fp8=in_fp8) if is_denoiser else _fp32_of(cls, dtype)
    assign(model, tensors, dtype, what=what, keep=keep)
    if is_denoiser:
        compute_fp8_in(model, dtype)
    return model


def _pad_of(checkpoint: Checkpoint, tokenizer: str) -> str:
    """What prompts are filled up with; OpenCLIP's text encoders are those with a plain GELU."""
    encoder = checkpoint.config(tokenizer.replace("tokenizer", "text_encoder"))
    return PAD_ZERO if encoder.get("hidden_act") == "gelu" else END


def _prefix(part: str, cls: Any, file: WeightFile, checkpoint: Checkpoint) -> str | None:
    apart = file.path != checkpoint.file
    return prefix_of(part, cls.__name__, file.header, checkpoint, apart=apart)


def _words_of(part: str, file: WeightFile) -> str:
    return f"The {part} in {file.path.name}"


def _network(
    cls: Any,
    file: WeightFile,
    checkpoint: Checkpoint,
    part: str,
    dtype: torch.dtype,
    layout: torch.memory_format,
    *,
    in_fp8: bool,
) -> nn.Module:
    prefix = _prefix(part, cls, file, checkpoint)
    if prefix is None:
        raise BrokenFileError(f"{file.path.name} holds no {part}.", field="model")
    packed = file.header.is_gguf and stays_packed(part)
    left_out = NOT_DENOISER if part in DENOISERS else ()
    tensors = file.take(prefix, dtype, but=left_out, packed=packed)
    try:
        config = fitted_config(cls.__name__, checkpoint.config(part), tensors)
        model: Any = build(lambda: cls.from_config(config))
        tensors = convert_network(tensors, cls.__name__, config, model.state_dict())
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise BrokenFileError(
            f"{_words_of(part, file)} is incomplete or of another kind: {str(error)[:120]}.",
            field="model",
        ) from error
    if packed:
        missing = [name for name, _ in model.named_parameters() if name not in tensors]
        if missing:
            raise incomplete(_words_of(part, file), missing)
        tensors = fitted(_packed_layers(model, tensors), model.state_dict())
        try:
            return _packed_network(cls, tensors, checkpoint, part, dtype)
        except ValueError as error:
            raise BrokenFileError(
                f"{_words_of(part, file)} does not fit its configuration: {str(error)[:120]}.",
                field="model",
            ) from error
    tensors = fitted(tensors, model.state_dict())
    keep = _kept(cls, model, tensors, dtype, in_fp8=in_fp8 and part in DENOISERS)
    assign(model, tensors, dtype, what=_words_of(part, file), layout=layout, keep=keep)
    compute_fp8_in(model, dtype)
    return model


def stays_packed(part: str) -> bool:
    """Whether a part from a GGUF file keeps its weights packed, which diffusers unpacks in linear
    layers alone: of a UNet most others are packed too."""
    return part == "transformer"


def _packed_layers(model: nn.Module, tensors: Tensors) -> Tensors:
    """The tensors by the names of a network, unpacked but for the weights of its linear layers."""
    modules = cast(Iterator[tuple[str, nn.Module]], model.named_modules())
    layers = {f"{name}.weight" for name, module in modules if isinstance(module, nn.Linear)}
    others = {
        name: unpacked(tensor)
        for name, tensor in tensors.items()
        if name not in layers and is_packed(tensor)
    }
    return tensors | others


def _packed_network(
    cls: Any, tensors: Tensors, checkpoint: Checkpoint, part: str, dtype: torch.dtype
) -> nn.Module:
    """A denoiser that stays packed as in its GGUF file; diffusers unpacks each layer in use."""
    model: nn.Module = cls.from_single_file(
        tensors,
        config=str(checkpoint.path),
        subfolder=part,
        local_files_only=True,
        quantization_config=GGUFQuantizationConfig(compute_dtype=dtype),
        dtype=dtype,
    )
    compute_packed_in(model, dtype)
    return model


def _kept(
    cls: Any, model: nn.Module, tensors: Tensors, dtype: torch.dtype, *, in_fp8: bool
) -> Callable[[str, torch.Tensor], torch.dtype | None]:
    """The format of a network's weights that shall have another than `dtype`, for `assign`."""
    stored = layers_in_fp8(model, tensors)
    rounded = weights_for_fp8(model) if in_fp8 else frozenset[str]()
    in_fp32 = _fp32_of(cls, dtype)

    def keep(name: str, tensor: torch.Tensor) -> torch.dtype | None:
        if name in stored:
            return tensor.dtype
        return FP8[0] if name in rounded else in_fp32(name, tensor)

    return keep


def modules_in_fp32(cls: Any, dtype: torch.dtype) -> frozenset[str]:
    """Names of a class's modules that must not be computed in the format, which fp16 alone has."""
    names = getattr(cls, "_keep_in_fp32_modules", None) if dtype is torch.float16 else None
    return frozenset[str](names or ())


def _fp32_of(cls: Any, dtype: torch.dtype) -> Callable[[str, torch.Tensor], torch.dtype | None]:
    """The format of the weights of `modules_in_fp32`, for `assign`."""
    kept = modules_in_fp32(cls, dtype)
    return lambda name, _: torch.float32 if kept.intersection(name.split(".")) else None


def _text_encoder(
    cls: Any, file: WeightFile, checkpoint: Checkpoint, part: str, dtype: torch.dtype
) -> nn.Module:
    # A text encoder's own file has llama.cpp's names; with a model's other parts it has theirs.
    is_gguf = file.header.is_gguf and file.path != checkpoint.file
    prefix = "" if is_gguf else _prefix(part, cls, file, checkpoint)
    if prefix is None:
        raise BrokenFileError(f"{file.path.name} holds no {part}.", field="model")
    reader = PromptReader(cls.__name__, checkpoint.config(part), checkpoint.pipeline)
    model = reader.build(cls)
    read = (
        read_text_encoder(file.path, dtype, reader.runs)
        if is_gguf
        else file.take(prefix, dtype, wanted=reader.runs)
    )
    tensors = convert_text_encoder(read, model)
    if "text_projection.weight" in model.state_dict() and part == "text_encoder":
        # Stable Diffusion 3 takes what CLIP-L gives before its projection.
        tensors["text_projection.weight"] = torch.eye(model.config.hidden_size)
    assign(
        model,
        tensors,
        dtype,
        what=_words_of(part, file),
        keep=_fp32_of(cls, dtype),
    )
    return model
