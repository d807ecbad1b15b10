"""Files of other tools, put together by hand."""

from __future__ import annotations

import io
import struct
from typing import Literal

from PIL import Image

UNICODE = b"UNICODE\0"


def picture(kind: Literal["PNG", "JPEG", "WEBP"], *, lossless: bool = False) -> bytes:
    """A grey picture, 24 x 16 pixels."""
    buffer = io.BytesIO()
    options = {"lossless": True} if lossless else {}
    Image.new("RGB", (24, 16), "grey").save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(
    own: dict[int, bytes], first: dict[int, bytes] | None = None, *, order: Literal["<", ">"] = ">"
) -> bytes:
    """EXIF data with texts (type UNDEFINED) in EXIF's own directory, and in the first one."""
    begin = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)
    texts = first or {}
    own_at = 8 + 2 + 12 * (len(texts) + 1) + 4
    values_at = own_at + 2 + 12 * len(own) + 4
    entries = [*texts.items(), *own.items()]
    packed: list[bytes] = []
    values = b""
    for tag, value in entries:
        where = struct.pack(f"{order}I", values_at + len(values))
        packed.append(
            struct.pack(f"{order}HHI", tag, 7, len(value))
            + (value.ljust(4, b"\0") if len(value) <= 4 else where)
        )
        values += b"" if len(value) <= 4 else value
    pointer = struct.pack(f"{order}HHII", 0x8769, 4, 1, own_at)
    return (
        begin
        + struct.pack(f"{order}H", len(texts) + 1)
        + b"".join(packed[: len(texts)])
        + pointer
        + b"\0" * 4
        + struct.pack(f"{order}H", len(own))
        + b"".join(packed[len(texts) :])
        + b"\0" * 4
        + values
    )


def jpeg_with(exif: bytes) -> bytes:
    """A JPEG file with EXIF data."""
    jpeg = picture("JPEG")
    segment = b"Exif\0\0" + exif
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def webp_with(exif: bytes, *, lossless: bool = False) -> bytes:
    """A WebP file in the extended format, with EXIF data behind the picture."""
    inner = picture("WEBP", lossless=lossless)[12:]
    extended = struct.pack("<4sIB3x", b"VP8X", 10, 0x08) + b"\x17\0\0\x0f\0\0"
    chunk = struct.pack("<4sI", b"EXIF", len(exif)) + exif + b"\0" * (len(exif) % 2)
    body = b"WEBP" + extended + inner + chunk
    return b"RIFF" + struct.pack("<I", len(body)) + body
