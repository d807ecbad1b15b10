"""Headers of GGUF files, read without the gguf package and with a bound on everything.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO

MAGIC = b"GGUF"
VERSIONS = (2, 3)

MAX_BYTES = 64 * 1024**2
"""Most bytes that metadata and tensor descriptions may take; a vocabulary takes some 10 MB."""

MAX_TENSORS = 100_000
MAX_KEYS = 100_000
_MAX_DIMENSIONS = 8
_MAX_ALIGNMENT = 1024**2
_MAX_TEXT = 65536
"""Longest text that is kept of the metadata, in characters; templates of chats take thousands."""

_TOKENIZER = "tokenizer."

_MOST_IN_A_DIMENSION = 2**48

_NUMBERS = MappingProxyType(
    {
        0: struct.Struct("<B"),
        1: struct.Struct("<b"),
        2: struct.Struct("<H"),
        3: struct.Struct("<h"),
        4: struct.Struct("<I"),
        5: struct.Struct("<i"),
        6: struct.Struct("<f"),
        7: struct.Struct("<?"),
        10: struct.Struct("<Q"),
        11: struct.Struct("<q"),
        12: struct.Struct("<d"),
    }
)
"""Number types of metadata."""

_TEXT, _LIST = 8, 9
_COUNT, _LENGTH = 4, 10
"""Number types that the format itself uses."""

_FRACTIONS = (6, 12)
_READ_AT_ONCE = 256 * 1024

_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
"""Before a tensor's name: the shape of one that was stored flatter than it is."""

_TYPES: Mapping[int, tuple[str, int, int]] = MappingProxyType(
    {
        0: ("F32", 1, 4),
        1: ("F16", 1, 2),
        2: ("Q4_0", 32, 18),
        3: ("Q4_1", 32, 20),
        6: ("Q5_0", 32, 22),
        7: ("Q5_1", 32, 24),
        8: ("Q8_0", 32, 34),
        9: ("Q8_1", 32, 40),
        10: ("Q2_K", 256, 84),
        11: ("Q3_K", 256, 110),
        12: ("Q4_K", 256, 144),
        13: ("Q5_K", 256, 176),
        14: ("Q6_K", 256, 210),
        15: ("Q8_K", 256, 292),
        16: ("IQ2_XXS", 256, 66),
        17: ("IQ2_XS", 256, 74),
        18: ("IQ3_XXS", 256, 98),
        19: ("IQ1_S", 256, 50),
        20: ("IQ4_NL", 32, 18),
        21: ("IQ3_S", 256, 110),
        22: ("IQ2_S", 256, 82),
        23: ("IQ4_XS", 256, 136),
        24: ("I8", 1, 1),
        25: ("I16", 1, 2),
        26: ("I32", 1, 4),
        27: ("I64", 1, 8),
        28: ("F64", 1, 8),
        29: ("IQ1_M", 256, 56),
        30: ("BF16", 1, 2),
        34: ("TQ1_0", 256, 54),
        35: ("TQ2_0", 256, 66),
        39: ("MXFP4", 32, 17),
    }
)
"""Number of a type to its name, the numbers in a block and the bytes of a block."""


@dataclass(frozen=True)
class GgufTensor:
    """A tensor's description; `shape` as torch has it, `size` in bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int


@dataclass(frozen=True)
class Gguf:
    """What a GGUF file says of itself.

    Attributes:
        metadata: Texts as they stand, numbers as text; lists are left out.
        data_start: Offset in bytes at which the tensors begin.
        end: Offset at which the last tensor ends.
    """

    tensors: tuple[GgufTensor, ...]
    metadata: Mapping[str, str]
    data_start: int
    end: int


def read(file: BinaryIO) -> Gguf:
    """Reads a GGUF file's header from its begin.

    Raises:
        ValueError: With the rest of a sentence that begins with the file's name.
    """
    source = _Source(file)
    count, keys = _begin(source)
    metadata: dict[str, str] = {}
    originals: dict[str, tuple[int, ...]] = {}
    for _ in range(keys):
        key = source.text()
        value = source.value(source.number(_COUNT), keep=key.startswith(_ORIGINAL_SHAPE))
        if isinstance(value, str):
            metadata[key] = value
        else:
            originals[key.removeprefix(_ORIGINAL_SHAPE)] = value
    tensors, begins = _tensors(source, count, originals)
    start = _aligned(source.position, _alignment(metadata))
    ends = (start + begin + one.size for begin, one in zip(begins, tensors, strict=True))
    return Gguf(tensors, metadata, start, max(ends, default=start))


def read_tokenizer(file: BinaryIO) -> dict[str, Any]:
    """What a GGUF file says of its tokenizer, vocabulary and all, by the keys without "tokenizer.".

    Texts, numbers, and lists of them. Takes some tenths of a second, unlike `read`.

    Raises:
        ValueError: As in `read`.
    """
    source = _Source(file)
    _, keys = _begin(source)
    said: dict[str, Any] = {}
    for _ in range(keys):
        key, kind = source.text(), source.number(_COUNT)
        if key.startswith(_TOKENIZER):
            said[key.removeprefix(_TOKENIZER)] = source.whole(kind)
        else:
            source.value(kind, keep=False)
    return said


def _begin(source: _Source) -> tuple[int, int]:
    """How many tensors and keys follow."""
    if source.take(4) != MAGIC:
        raise ValueError("is not a GGUF file")
    version = source.number(_COUNT)
    if version not in VERSIONS:
        raise ValueError(f"is of GGUF version {version}, and {VERSIONS} are read")
    count, keys = source.number(_LENGTH), source.number(_LENGTH)
    if count > MAX_TENSORS or keys > MAX_KEYS:
        raise ValueError("has a damaged header")
    return count, keys


def _tensors(
    source: _Source, count: int, originals: Mapping[str, tuple[int, ...]]
) -> tuple[tuple[GgufTensor, ...], list[int]]:
    tensors: list[GgufTensor] = []
    begins: list[int] = []
    for _ in range(count):
        name = source.text()
        dimensions = source.number(_COUNT)
        if dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"is damaged at tensor {name[:200]!r}")
        # The innermost dimension comes first.
        shape = tuple(reversed([source.number(_LENGTH) for _ in range(dimensions)]))
        kind, begin = source.number(_COUNT), source.number(_LENGTH)
        if kind not in _TYPES:
            raise ValueError(f"holds the tensor {name[:200]!r} of the unknown type {kind}")
        dtype, block, block_bytes = _TYPES[kind]
        total = math.prod(shape)
        if total % block or max(shape, default=0) > _MOST_IN_A_DIMENSION:
            raise ValueError(f"is damaged at tensor {name[:200]!r}")
        original = originals.get(name, ())
        as_it_is = original if math.prod(original) == total else shape
        tensors.append(GgufTensor(name, as_it_is, dtype, total // block * block_bytes))
        begins.append(begin)
    _check_apart(tensors, begins)
    return tuple(tensors), begins


def _check_apart(tensors: list[GgufTensor], begins: list[int]) -> None:
    last = 0
    for begin, tensor in sorted(zip(begins, tensors, strict=True), key=lambda one: one[0]):
        if begin < last:
            raise ValueError("is damaged: its tensors overlap")
        last = begin + tensor.size


def _alignment(metadata: Mapping[str, str]) -> int:
    said = metadata.get("general.alignment", "32")
    alignment = int(said) if said.isdecimal() else 0
    if not 0 < alignment <= _MAX_ALIGNMENT:
        raise ValueError("has a damaged header")
    return alignment


def _aligned(position: int, alignment: int) -> int:
    return (position + alignment - 1) // alignment * alignment


class _Source:
    """The bytes of a header, taken one after the other, of which there is a most."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._data = b""
        self.position = 0

    def take(self, count: int) -> bytes:
        begin = self.position
        self.position += count
        self._reach(self.position)
        return self._data[begin : self.position]

    def number(self, kind: int) -> int:
        layout = _NUMBERS[kind]
        return layout.unpack(self.take(layout.size))[0]

    def text(self) -> str:
        return self.take(self.number(_LENGTH)).decode("utf-8", "replace")

    def value(self, kind: int, *, keep: bool) -> str | tuple[int, ...]:
        """A value of the metadata; of a list its whole numbers, where they are to be kept."""
        if kind == _TEXT:
            return self.text()[:_MAX_TEXT]
        if kind != _LIST:
            return str(self.number(_known(kind)))
        of, count = self.number(_COUNT), self.number(_LENGTH)
        if of == _TEXT:
            self._skip_texts(count)
            return ()
        layout = _NUMBERS[_known(of)]
        data = self.take(count * layout.size)
        if not keep or count > _MAX_DIMENSIONS or of in _FRACTIONS:
            return ()
        return tuple(number for (number,) in layout.iter_unpack(data))

    def whole(self, kind: int) -> Any:
        """A value of the metadata as it is."""
        if kind == _TEXT:
            return self.text()
        if kind != _LIST:
            return self.number(_known(kind))
        of, count = self.number(_COUNT), self.number(_LENGTH)
        if of == _TEXT:
            return [self.text() for _ in range(count)]
        layout = _NUMBERS[_known(of)]
        return [number for (number,) in layout.iter_unpack(self.take(count * layout.size))]

    def _skip_texts(self, count: int) -> None:
        """A vocabulary has hundreds of thousands, which is why this takes no slices."""
        length = _NUMBERS[_LENGTH].unpack_from
        position = self.position
        while count:
            self._reach(position + 8)
            data, last = self._data, len(self._data) - 8
            while count and position <= last:
                position += 8 + length(data, position)[0]
                count -= 1
        self._reach(position)
        self.position = position

    def _reach(self, end: int) -> None:
        """Reads on until the first `end` bytes are here."""
        if end > MAX_BYTES:
            raise ValueError("has a header that is far too long")
        if end > len(self._data):
            wanted = max(end, 2 * len(self._data), _READ_AT_ONCE)
            self._data += self._file.read(wanted - len(self._data))
        if end > len(self._data):
            raise ValueError("is truncated")


def _known(kind: int) -> int:
    if kind not in _NUMBERS:
        raise ValueError("has a damaged header")
    return kind
