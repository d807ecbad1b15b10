"""Safetensors headers: is the file whole, and what is in it, without reading a tensor.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from webui.errors import BrokenFileError

MAX_HEADER_BYTES = 100_000_000
"""The bound the safetensors library sets itself."""


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself.

    Attributes:
        shapes: Tensor name to shape.
        metadata: The `__metadata__` strings; empty when the file has none.
        data_start: Offset in bytes at which the tensors begin.
        data_end: Offset in bytes at which they end: the size of a file with nothing behind them.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]
    data_start: int
    data_end: int


def read_header(path: Path) -> Header:
    """The header of a safetensors file, after checking that the file is whole.

    Raises:
        BrokenFileError: Truncated, no safetensors at all, or offsets outside the file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = header_length(file.read(8), size=size, file=path.name)
            text = file.read(length)
    except OSError as error:
        raise BrokenFileError(f"{path.name} cannot be read: {error.strerror}.") from None
    return header_in(text, size=size, file=path.name)


def header_length(begin: bytes, *, size: int, file: str) -> int:
    """How many bytes the header has, by the file's first eight.

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


def header_in(text: bytes, *, size: int, file: str) -> Header:
    """The header, by its text: the file's bytes from the ninth to the header's end.

    Raises:
        BrokenFileError: Damaged, or the file is not as long as it says.
    """
    entries = _entries(file, text)
    metadata = entries.pop("__metadata__", {})
    shapes: dict[str, tuple[int, ...]] = {}
    end = 0
    for name, entry in entries.items():
        try:
            shapes[name] = tuple(map(int, entry["shape"]))
            stop = int(entry["data_offsets"][1])
        except (KeyError, TypeError, ValueError, IndexError):
            raise BrokenFileError(f"{file} is damaged at tensor {name!r}.") from None
        if stop > end:
            end = stop
    missing = 8 + len(text) + end - size
    if missing > 0:
        raise BrokenFileError(
            f"{file} is truncated, the last {missing:,} bytes are missing: fetch it again."
        )
    texts = {str(k): str(v) for k, v in metadata.items()}
    return Header(shapes, texts, 8 + len(text), 8 + len(text) + end)


def _entries(file: str, text: bytes) -> dict[str, dict[str, Any]]:
    try:
        parsed: Any = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    entries = cast(dict[str, Any], parsed) if isinstance(parsed, dict) else {}
    if not entries or not all(isinstance(entry, dict) for entry in entries.values()):
        raise BrokenFileError(f"{file} has a damaged header: fetch it again.")
    return entries
