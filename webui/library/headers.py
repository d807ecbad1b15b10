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
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]
    data_start: int


def read_header(path: Path) -> Header:
    """The header of a safetensors file, after checking that the file is whole.

    Raises:
        BrokenFileError: Truncated, no safetensors at all, or offsets outside the file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            if len(prefix) < 8:
                raise BrokenFileError(f"{path.name} is truncated: fetch it again.")
            (length,) = struct.unpack("<Q", prefix)
            if length > min(MAX_HEADER_BYTES, size - 8):
                raise BrokenFileError(
                    f"{path.name} is truncated or not a safetensors file: fetch it again."
                )
            entries = _entries(path, file.read(length))
    except OSError as error:
        raise BrokenFileError(f"{path.name} cannot be read: {error.strerror}.") from None
    metadata = entries.pop("__metadata__", {})
    shapes: dict[str, tuple[int, ...]] = {}
    end = 0
    for name, entry in entries.items():
        try:
            shapes[name] = tuple(map(int, entry["shape"]))
            stop = int(entry["data_offsets"][1])
        except (KeyError, TypeError, ValueError, IndexError):
            raise BrokenFileError(f"{path.name} is damaged at tensor {name!r}.") from None
        if stop > end:
            end = stop
    missing = 8 + length + end - size
    if missing > 0:
        raise BrokenFileError(
            f"{path.name} is truncated, the last {missing:,} bytes are missing: fetch it again."
        )
    texts = {str(k): str(v) for k, v in metadata.items()}
    return Header(shapes, texts, 8 + length)


def _entries(path: Path, text: bytes) -> dict[str, dict[str, Any]]:
    try:
        parsed: Any = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    entries = cast(dict[str, Any], parsed) if isinstance(parsed, dict) else {}
    if not entries or not all(isinstance(entry, dict) for entry in entries.values()):
        raise BrokenFileError(f"{path.name} has a damaged header: fetch it again.")
    return entries
