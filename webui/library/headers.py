"""Headers of weight files: is the file whole, and what is in it, without reading a tensor.

Formats: https://github.com/huggingface/safetensors#format and, in `gguf.py`, GGUF.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from pydantic_core import from_json

from webui.errors import BrokenFileError
from webui.library import gguf

MAX_HEADER_BYTES = 100_000_000
"""The bound the safetensors library sets itself."""

GGUF_SUFFIX = ".gguf"
WEIGHT_SUFFIXES = frozenset({".safetensors", ".sft", GGUF_SUFFIX})
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

_MOST_IN_A_DIMENSION = 2**48
_WHOLE_NUMBERS = frozenset({int})


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
    header = Header({}, {str(k): str(v) for k, v in metadata.items()}, 8 + len(text))
    spans: list[tuple[int, int]] = []
    for name, entry in entries.items():
        try:
            spans.append(_add(header, name, entry))
        except (KeyError, TypeError, ValueError):
            raise BrokenFileError(f"{file} is damaged at tensor {name[:200]!r}.") from None
    _check_cover(file, spans, None if size is None else size - header.data_start)
    return header


def _entries(file: str, text: bytes) -> dict[str, dict[str, Any]]:
    try:
        parsed: Any = from_json(text)
    except ValueError:
        parsed = None
    entries = cast(dict[str, Any], parsed) if isinstance(parsed, dict) else {}
    if not entries or not all(isinstance(entry, dict) for entry in entries.values()):
        raise BrokenFileError(f"{file} has a damaged header: fetch it again.")
    return entries


def _add(header: Header, name: str, entry: dict[str, Any]) -> tuple[int, int]:
    """Adds a tensor to the header; where in the file it begins and ends.

    Raises:
        KeyError, TypeError, ValueError: The entry makes no sense.
    """
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list):
        raise TypeError
    numbers = cast(list[int], shape)
    if not _WHOLE_NUMBERS.issuperset(map(type, (*numbers, begin, end))):
        raise TypeError
    size = end - begin
    if begin < 0 or math.prod(numbers) * _BITS[dtype] != size * 8:
        raise ValueError
    if numbers and not 0 <= min(numbers) <= max(numbers) < _MOST_IN_A_DIMENSION:
        raise ValueError
    header.shapes[name] = tuple(numbers)
    header.dtypes[name] = dtype
    header.sizes[name] = size
    return begin, end


def _check_cover(file: str, spans: Iterable[tuple[int, int]], size: int | None) -> None:
    """Passes tensors that lie end to end and fill the file, as the safetensors library wants it."""
    last = 0
    for begin, end in sorted(spans):
        if begin != last:
            raise BrokenFileError(
                f"{file} is damaged: its tensors overlap or leave gaps; fetch it again."
            )
        last = end
    if size is None:
        return
    if last > size:
        raise BrokenFileError(
            f"{file} is truncated, the last {last - size:,} bytes are missing: fetch it again."
        )
    if last < size:
        raise BrokenFileError(
            f"{file} is damaged: {size - last:,} bytes follow its last tensor; fetch it again."
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
