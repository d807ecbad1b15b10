"""What a model's files will take in memory, by their headers."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

from webui.generation.memory import Kind, Sizes, sizes_of
from webui.generation.placement import kind_of
from webui.library.checkpoints import Checkpoint
from webui.library.headers import Header, read_header
from webui.library.weight_files import weights_in

_BLOCKY = frozenset({"U8", "I8", "F4"})
"""Types of safetensors whose numbers are packed, or belong to a quantised weight."""

_IN_FILES: tuple[tuple[str, Kind], ...] = (
    ("model.diffusion_model.", "denoiser"),
    ("first_stage_model.", "vae"),
    ("vae.", "vae"),
    ("cond_stage_model.", "text"),
    ("conditioner.", "text"),
    ("text_encoders.", "text"),
    ("text_encoder", "text"),
)
"""How names in a single file begin; what begins otherwise is of the denoiser."""


def sizes_for(checkpoint: Checkpoint, family: str, *, itemsize: int) -> Sizes:
    """Sizes of the checkpoint's parts, each number loaded in `itemsize` bytes.

    Raises:
        BrokenFileError: A file is truncated or damaged.
    """
    parts: dict[Kind, dict[str, int]] = {"denoiser": {}, "text": {}, "vae": {}}
    for file, kind in _files(checkpoint):
        header = read_header(file)
        for name in header.shapes:
            where = kind or _kind_in_file(name)
            # The folder tells text encoders with the same names apart.
            parts[where][f"{file.parent.name}/{name}"] = _bytes(header, name, itemsize)
    return sizes_of(family, parts, itemsize=itemsize)


def _files(checkpoint: Checkpoint) -> Iterator[tuple[Path, Kind | None]]:
    """Files with weights, and what they hold; None: the names of the tensors tell."""
    if checkpoint.file is not None:
        yield checkpoint.file, None
        return
    for file in weights_in(checkpoint.path):
        if (kind := kind_of(file.parent.name)) is not None:
            yield file, kind


def _kind_in_file(name: str) -> Kind:
    for prefix, kind in _IN_FILES:
        if name.startswith(prefix):
            return kind
    return "denoiser"


def _bytes(header: Header, name: str, itemsize: int) -> int:
    """Bytes of a tensor once loaded; what is quantised stays as it is."""
    if header.is_gguf or header.dtypes[name] in _BLOCKY:
        return header.sizes[name]
    return prod(header.shapes[name]) * itemsize
