"""Headers of weight files: is the file whole, and what is in it, without reading a tensor.

Formats: https://github.com/huggingface/safetensors#format and, in `gguf.py`, GGUF.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from pydantic_core import from_json

from webui.errors import BrokenFileError
from webui.library import gguf

MAX_HEADER_BYTES = 100_000_000
"""The bound the safetensors library sets itself."""

GGUF_SUFFIX = ".gguf"
_SAFETENSORS = ".safetensors"
SAFETENSORS_SUFFIXES = (_SAFETENSORS, ".sft")
WEIGHT_SUFFIXES = frozenset({*SAFETENSORS_SUFFIXES, GGUF_SUFFIX})
"""How the names of files end whose headers are read, in lower case."""

PICKLE_SUFFIXES = frozenset({".ckpt", ".pt", ".pth", ".bin"})
"""How the names of files end that can hold programs, which are never opened."""

_BITS = MappingProxyType(
    {
        "F4": 4,
        "F6_E2M3": 6,
        "F6_E3M2": 6,
        **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
        **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
        **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
        **dict.fromkeys(("I32", "U32", "F32"), 32),
        **dict.fromkeys(("C64", "F64", "I64", "U64"), 64),
    }
)
"""Bits of a number of each type of safetensors."""

_MOST = 2**48
"""No dimension and no offset is as large."""

_MOST_DIMENSIONS = 64
"""The bound torch sets itself."""


@dataclass(frozen=True)
class Header:
    """What a weight file says of itself.

    Attributes:
        shapes: Tensor name to shape, as torch has it.
        metadata: The `__metadata__` strings, of GGUF the texts and numbers; empty when there are
            none.
        data_start: Offset in bytes at which the tensors begin.
        dtypes: Tensor name to type: "F16", "BF16", "F8_E4M3"; of GGUF "Q4_K", "Q8_0".
        sizes: Tensor name to bytes.
        is_gguf: Whether it is a GGUF file; otherwise safetensors.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]
    data_start: int
    dtypes: dict[str, str] = field(default_factory=dict[str, str])
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    is_gguf: bool = False

    @property
    def data_end(self) -> int:
        """Offset in bytes at which the tensors of a safetensors file, and so itself, end."""
        return self.data_start + sum(self.sizes.values())


def is_safetensors(name: str) -> bool:
    """Whether a file of that name is one, as far as names tell."""
    return name.casefold().endswith(SAFETENSORS_SUFFIXES)


def read_header(path: Path) -> Header:
    """The header of a safetensors or GGUF file, after checking that the file is whole.

    Raises:
        BrokenFileError: Truncated, of another format, or with offsets that lie outside the file,
            overlap or do not fit the shapes.
    """
    try:
        if path.suffix.casefold() == GGUF_SUFFIX:
            return _read_gguf(path)
        return _read_safetensors(path)
    except OSError as error:
        raise BrokenFileError(f"{path.name} cannot be read: {error.strerror}.") from None


def pickle_problem(path: Path) -> str:
    """Why a pickle is not read, and what to do, in a sentence that ends in a command."""
    name, told = path.name, ""
    if not _PLAIN_NAME.fullmatch(name):
        # Nobody is given a name to paste into a terminal that does more there than name a file.
        name = f"old{path.suffix}"
        told = f" after renaming it to {name}"
    converted = f"{Path(name).stem}{_SAFETENSORS}"
    return (
        f"{path.name} is a pickle, which can hold programs and is never opened: take the same as"
        f" safetensors, or convert it with Easel's Python in its folder{told}:"
        f" {_CONVERT_FILE.format(old=name, new=converted)}"
    )


def folder_of_pickles_problem(name: str) -> str:
    """The same of a folder in the diffusers layout."""
    return (
        f"{name} holds weights as pickles, which can hold programs and are never opened: take the"
        f" same as safetensors, or convert it with Easel's Python in that folder: {_CONVERT_FOLDER}"
    )


_PLAIN_NAME = re.compile(r"[\w .,()+@=-]+")

# Files share tensors and keep views of others, and checkpoints and embeddings are wrapped.
_CONVERT_FILE = (
    "python -c \"import torch, safetensors.torch as s; w = torch.load('{old}', map_location='cpu',"
    " weights_only=True); w = w.get('state_dict', w.get('string_to_param', w)); s.save_file("
    "{{k: v.contiguous().clone() for k, v in w.items() if torch.is_tensor(v)}}, '{new}')\""
)
_CONVERT_FOLDER = (
    'python -c "from diffusers import DiffusionPipeline as P;'
    " P.from_pretrained('.', use_safetensors=False, safety_checker=None, feature_extractor=None)"
    ".save_pretrained('.')\""
)


def _read_safetensors(path: Path) -> Header:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        length = header_length(file.read(8), size=size, file=path.name)
        text = file.read(length)
    return header_in(text, size=size, file=path.name)


def header_length(begin: bytes, *, size: int, file: str) -> int:
    """How many bytes the header of a safetensors file has, by the file's first eight.

    Args:
        size: The whole file's, in bytes.
        file: Its name, for the sentence about what is wrong.

    Raises:
        BrokenFileError: Truncated, or no safetensors at all.
    """
    if len(begin) < 8:
        raise BrokenFileError(f"{file} is truncated: fetch it again.")
    (length,) = struct.unpack("<Q", begin)
    if length > min(MAX_HEADER_BYTES, size - 8):
        raise BrokenFileError(f"{file} is truncated or not a safetensors file: fetch it again.")
    return length


def header_in(text: bytes, *, size: int | None, file: str) -> Header:
    """The header of a safetensors file by its text, from the ninth byte on.

    Args:
        size: The whole file's, in bytes; `None`: whatever the header says.

    Raises:
        BrokenFileError: Damaged, or the file is not as long as its header says.
    """
    entries = _entries(file, text)
    metadata = entries.pop("__metadata__", {})
    try:
        header = _header(entries, metadata, 8 + len(text))
    except (KeyError, TypeError, ValueError):
        raise BrokenFileError(f"{file} has a damaged header: fetch it again.") from None
    if size is not None:
        check_end(file, sum(header.sizes.values()), size - header.data_start)
    return header


def _entries(file: str, text: bytes) -> dict[str, dict[str, Any]]:
    try:
        parsed: Any = from_json(text)
    except ValueError:
        parsed = None
    entries = cast(dict[str, Any], parsed) if isinstance(parsed, dict) else {}
    if not entries or not {dict}.issuperset(map(type, entries.values())):
        raise BrokenFileError(f"{file} has a damaged header: fetch it again.")
    return entries


def _header(entries: dict[str, dict[str, Any]], texts: dict[str, Any], start: int) -> Header:
    """The header of tensors that lie end to end, as the safetensors library wants them.

    Everything is done for all tensors at once, since a model has thousands.

    Raises:
        KeyError, TypeError, ValueError: An entry makes no sense.
    """
    dtypes: list[str] = [entry["dtype"] for entry in entries.values()]
    shapes: list[list[int]] = [entry["shape"] for entry in entries.values()]
    spans: list[list[int]] = [entry["data_offsets"] for entry in entries.values()]
    numbers = list(chain.from_iterable(chain(shapes, spans)))
    if not (
        {list}.issuperset(map(type, chain(shapes, spans)))
        and {int}.issuperset(map(type, numbers))
        and {str}.issuperset(map(type, texts.values()))
        and {2}.issuperset(map(len, spans))
        and max(map(len, shapes), default=0) <= _MOST_DIMENSIONS
        and 0 <= min(numbers, default=0) <= max(numbers, default=0) < _MOST
    ):
        raise ValueError
    sizes = [end - begin for begin, end in spans]
    bits = [math.prod(shape) * _BITS[kind] for shape, kind in zip(shapes, dtypes, strict=True)]
    if bits != [size * 8 for size in sizes]:
        raise ValueError
    spans.sort()
    if [begin for begin, _ in spans] != [0, *[end for _, end in spans]][: len(spans)]:
        raise ValueError
    return Header(
        dict(zip(entries, map(tuple, shapes), strict=True)),
        texts,
        start,
        dict(zip(entries, dtypes, strict=True)),
        dict(zip(entries, sizes, strict=True)),
    )


def check_end(file: str, end: int, size: int) -> None:
    """Passes tensors that end where the file does.

    Args:
        end, size: Bytes that the tensors have, and that there are for them.

    Raises:
        BrokenFileError: The file is shorter or longer.
    """
    if end > size:
        raise BrokenFileError(
            f"{file} is truncated, the last {end - size:,} bytes are missing: fetch it again."
        )
    if end < size:
        raise BrokenFileError(
            f"{file} is damaged: {size - end:,} bytes follow its last tensor; fetch it again."
        )


def _read_gguf(path: Path) -> Header:
    with path.open("rb") as file:
        try:
            said = gguf.read(file)
        except ValueError as error:
            raise BrokenFileError(f"{path.name} {error}: fetch it again.") from None
        missing = said.end - file.seek(0, 2)
    if missing > 0:
        raise BrokenFileError(
            f"{path.name} is truncated, the last {missing:,} bytes are missing: fetch it again."
        )
    return Header(
        {tensor.name: tensor.shape for tensor in said.tensors},
        dict(said.metadata),
        said.data_start,
        {tensor.name: tensor.dtype for tensor in said.tensors},
        {tensor.name: tensor.size for tensor in said.tensors},
        is_gguf=True,
    )
