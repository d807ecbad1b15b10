"""What a model's files will take in memory, by their headers: as loading keeps what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import Any, NamedTuple

import diffusers
import torch
import transformers

from webui.generation import four_bits
from webui.generation.companions import Companions
from webui.generation.file_parts import NOT_DENOISER, modules_in_fp32, stays_packed
from webui.generation.language_models import PromptReader
from webui.generation.part_names import DENOISERS, prefix_of
from webui.generation.placement import kind_of, vae_dtype
from webui.generation.sizes import Kind, Sizes, sizes_of
from webui.generation.weights import NOT_WEIGHTS, SCALES, WeightFile
from webui.library.checkpoints import INDEX, Checkpoint, read_json
from webui.library.controlnets import ControlNetFolder
from webui.library.headers import Header, read_header
from webui.library.pipeline_folders import part_files, parts_of
from webui.library.vaes import Vae

_NO_FRACTIONS = frozenset({"U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL", "F4"})
"""Types of safetensors that no loading converts."""

_FP8 = frozenset({"F8_E4M3", "F8_E5M2"})
_PLAIN_GGUF = frozenset({"F32", "F16"})


class _Source(NamedTuple):
    """What a file holds of a part.

    Attributes:
        cls: The part's class, of diffusers or transformers; None where that does not matter.
        keeps: Whether the part computes with weights that are packed, or in fp8, and keeps them so.
    """

    part: str
    cls: Any
    header: Header
    names: Iterable[str]
    keeps: bool = False


def sizes_for(checkpoint: Checkpoint, family: str, dtype: torch.dtype) -> Sizes:
    """Sizes of the checkpoint's parts, wherever they come from; what is nowhere takes nothing.

    Args:
        family: As `webui.library.recognition` names it.
        dtype: The format computed in.

    Raises:
        BrokenFileError: A file is truncated or damaged.
    """
    parts: dict[Kind, dict[str, int]] = {"denoiser": {}, "text": {}, "vae": {}}
    of_vae = vae_dtype(checkpoint.config("vae"), dtype)
    packed = 0
    for source in _sources(checkpoint):
        kind = kind_of(source.part)
        if kind is None:
            continue
        for name in source.names:
            # The part tells text encoders with the same names apart.
            parts[kind][f"{source.part}/{name}"] = _bytes(
                source, name, of_vae if kind == "vae" else dtype
            )
            if kind == "denoiser" and source.keeps and _is_packed(source.header, name):
                packed += source.header.sizes[name]
    return sizes_of(
        family,
        parts,
        itemsize=dtype.itemsize,
        vae_itemsize=of_vae.itemsize,
        packed=packed,
    )


def vae_bytes(vae: Vae, checkpoint: Checkpoint, dtype: torch.dtype) -> int:
    """Bytes of a VAE that is used in place of the checkpoint's own.

    Raises:
        BrokenFileError: The file is truncated or damaged.
    """
    config = checkpoint.config("vae")
    named = ("diffusers", str(config.get("_class_name", "AutoencoderKL")))
    source = _in_file("vae", named, WeightFile(vae.path), checkpoint)
    return sum(_bytes(source, name, vae_dtype(config, dtype)) for name in source.names)


def net_sizes(net: ControlNetFolder, dtype: torch.dtype) -> Sizes:
    """Sizes of a ControlNet.

    Raises:
        BrokenFileError: A file is truncated or damaged.
    """
    file = WeightFile(net.weights)
    source = _Source("controlnet", None, file.header, file.names(net.prefix))
    tensors = {name: _bytes(source, name, dtype) for name in source.names}
    return sizes_of("", {"denoiser": tensors}, itemsize=dtype.itemsize)


def _sources(checkpoint: Checkpoint) -> Iterator[_Source]:
    index = read_json(checkpoint.path / INDEX, model=checkpoint.name)
    companions = Companions(checkpoint)
    for part, named in parts_of(index).items():
        place = companions.place(part) if kind_of(part) is not None else None
        if place is not None and place.is_file():
            yield _in_file(part, named, WeightFile(place), checkpoint)
        elif place is not None:
            reader = PromptReader(named[1], checkpoint.config(part), checkpoint.pipeline)
            for one in part_files(place):
                header = read_header(one)
                yield _Source(part, _class_of(named), header, [*filter(reader.runs, header.shapes)])


def _in_file(
    part: str, named: tuple[str, str], file: WeightFile, checkpoint: Checkpoint
) -> _Source:
    # Text encoders as GGUF have names of their own, and nothing else is with them.
    apart = file.path != checkpoint.file
    prefix = prefix_of(part, named[1], file.header, checkpoint, apart=apart) or ""
    reader = PromptReader(named[1], checkpoint.config(part), checkpoint.pipeline)
    names = file.names(prefix, NOT_DENOISER if part in DENOISERS else (), reader.runs)
    keeps = stays_packed(part) if file.header.is_gguf else part in DENOISERS
    return _Source(part, _class_of(named), file.header, names, keeps)


def _class_of(named: tuple[str, str]) -> Any:
    library, kind = named
    return getattr(diffusers if library == "diffusers" else transformers, kind)


def _bytes(source: _Source, name: str, dtype: torch.dtype) -> int:
    """Bytes of a tensor once it is loaded."""
    header = source.header
    unpacked = four_bits.bytes_unpacked(header.shapes, name, dtype.itemsize)
    if unpacked is not None:
        return unpacked
    if name.endswith(NOT_WEIGHTS):
        return 0
    if header.dtypes[name] in _NO_FRACTIONS or (source.keeps and _is_packed(header, name)):
        return header.sizes[name]
    wide = modules_in_fp32(source.cls, dtype).intersection(name.split("."))
    return prod(header.shapes[name]) * (4 if wide else dtype.itemsize)


def _is_packed(header: Header, name: str) -> bool:
    """Whether a network that can computes with the weight as it is stored.

    The fp8 ones are those of `weights.layers_in_fp8`, as far as a header tells.
    """
    if header.is_gguf:
        return header.dtypes[name] not in _PLAIN_GGUF
    if header.dtypes[name] not in _FP8 or len(header.shapes[name]) not in (2, 4):
        return False
    layer, _, end = name.rpartition(".")
    return end == "weight" and not any(f"{layer}{scale}" in header.shapes for scale in SCALES)
