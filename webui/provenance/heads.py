"""The heads of JPEG and WebP files: size and EXIF data, without a look at the pixels.

JPEG: ITU-T T.81, annex B (markers and segments). WebP: RFC 9649, section 2 (RIFF chunks).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from webui.errors import BrokenFileError

MAX_EXIF_BYTES = 4 * 1024**2
"""Largest EXIF data that are read; JPEG has room for 64 KiB."""

MAX_PARTS = 10_000
"""Most segments or chunks that are walked over."""

_START_OF_SCAN, _END_OF_IMAGE, _APP1 = 0xDA, 0xD9, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start of frame: all but Huffman tables, the reserved one and arithmetic conditioning."""


@dataclass(frozen=True)
class Head:
    """What a file says of itself before its pixels.

    Attributes:
        width: In pixels.
        height: In pixels.
        exif: EXIF data, empty where there are none.
    """

    width: int
    height: int
    exif: bytes


def jpeg_head(file: BinaryIO) -> Head:
    """The head of a JPEG file, which is read from its beginning.

    Raises:
        BrokenFileError: It is cut off, damaged, or tells of no pixels.
    """
    file.seek(2)
    width = height = 0
    exif = b""
    for _ in range(MAX_PARTS):
        marker = _marker(file)
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            return _checked(width, height, exif)
        (length,) = struct.unpack(">H", _exactly(file, 2))
        if length < 2:
            raise _broken("it is damaged")
        if marker in _FRAMES or marker == _APP1:
            segment = _exactly(file, length - 2)
            if marker == _APP1:
                exif = exif or (segment if segment.startswith(b"Exif\0\0") else b"")
            elif len(segment) >= 5:
                height, width = struct.unpack_from(">HH", segment, 1)
        else:
            file.seek(length - 2, 1)
    raise _broken(f"it has more than {MAX_PARTS:,} parts")


def webp_head(file: BinaryIO) -> Head:
    """The head of a WebP file, which is read from its beginning.

    Raises:
        BrokenFileError: It is cut off, damaged, or tells of no pixels.
    """
    file.seek(4)
    (riff,) = struct.unpack("<I", _exactly(file, 4))
    position, end = 12, 8 + riff
    width = height = 0
    exif = b""
    for _ in range(MAX_PARTS):
        if position >= end or (exif and width):
            return _checked(width, height, exif)
        file.seek(position)
        kind, length = struct.unpack("<4sI", _exactly(file, 8))
        if kind == b"EXIF":
            if length > MAX_EXIF_BYTES:
                raise _broken(f"its EXIF data are longer than {MAX_EXIF_BYTES:,} bytes")
            exif = _exactly(file, length)
        elif kind in (b"VP8X", b"VP8 ", b"VP8L") and not width:
            width, height = _webp_size(kind, file.read(min(length, 10)))
        position += 8 + length + length % 2
    raise _broken(f"it has more than {MAX_PARTS:,} parts")


def _webp_size(kind: bytes, data: bytes) -> tuple[int, int]:
    """Width and height from the first bytes of the chunk that has them."""
    if len(data) < (5 if kind == b"VP8L" else 10):
        raise _broken("it is cut off")
    if kind == b"VP8X":
        return int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 6)
        return width & 0x3FFF, height & 0x3FFF
    bits = int.from_bytes(data[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _marker(file: BinaryIO) -> int:
    """The next marker's second byte, behind any fill bytes."""
    first, second = _exactly(file, 2)
    for _ in range(MAX_PARTS):
        if first != 0xFF or second != 0xFF:
            break
        (second,) = _exactly(file, 1)
    if first != 0xFF or second in (0, 0xFF):
        raise _broken("it is damaged")
    return second


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise _broken("it is cut off")
    return data


def _checked(width: int, height: int, exif: bytes) -> Head:
    if not width or not height:
        raise _broken("it has no pixels")
    return Head(width, height, exif)


def _broken(reason: str) -> BrokenFileError:
    return BrokenFileError(f"The picture's text cannot be read: {reason}.")
