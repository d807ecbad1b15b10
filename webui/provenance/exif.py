"""Texts in the EXIF data of JPEG and WebP files.

EXIF is a TIFF (TIFF 6.0, section 2; CIPA DC-008, section 4.6): directories of 12-byte entries. Two
are looked at, the first and EXIF's own, each once, so that no pointer leads in circles.
"""

from __future__ import annotations

import struct
from typing import Literal

from webui.errors import BrokenFileError

MAKE, MODEL = 0x010F, 0x0110
MAKER_NOTE, USER_COMMENT = 0x927C, 0x9286

_EXIF_DIRECTORY = 0x8769
_TEXTS = frozenset({MAKE, MODEL, MAKER_NOTE, USER_COMMENT})
_BYTE_TYPES = frozenset({1, 2, 7})
"""BYTE, ASCII and UNDEFINED: one byte each."""

_LONG = 4

_Order = Literal["<", ">"]


def read_tags(exif: bytes) -> dict[int, str]:
    """The texts of the tags named above, as far as they are there.

    Raises:
        BrokenFileError: This is no EXIF data, or a part of it lies outside.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order: _Order = "<" if tiff[:2] == b"II" else ">"
    try:
        magic, first = struct.unpack_from(f"{order}HI", tiff, 2)
        if tiff[:2] not in (b"II", b"MM") or magic != 42:
            raise _damaged()
        texts, own = _directory(tiff, first, order)
        if own is not None:
            texts |= _directory(tiff, own, order)[0]
    except struct.error:
        raise _damaged() from None
    return {
        tag: _comment(raw, order) if tag == USER_COMMENT else _plain(raw)
        for tag, raw in texts.items()
    }


def _directory(tiff: bytes, position: int, order: _Order) -> tuple[dict[int, bytes], int | None]:
    """The texts of one directory, and where EXIF's own directory is if it says so."""
    (count,) = struct.unpack_from(f"{order}H", tiff, position)
    texts: dict[int, bytes] = {}
    own: int | None = None
    for entry in range(position + 2, position + 2 + 12 * count, 12):
        tag, kind, size, value = struct.unpack_from(f"{order}HHII", tiff, entry)
        if tag == _EXIF_DIRECTORY and kind == _LONG:
            own = value
        if tag in _TEXTS and kind in _BYTE_TYPES:
            start = entry + 8 if size <= 4 else value
            if start + size > len(tiff):
                raise _damaged()
            texts[tag] = tiff[start : start + size]
    return texts, own


def _comment(raw: bytes, order: _Order) -> str:
    """A UserComment, whose first eight bytes name its encoding, or do not."""
    prefix, text = raw[:8], raw[8:]
    if prefix == b"UNICODE\0":
        return text.decode(_utf16(text, order), errors="replace").strip("\0\ufeff")
    if prefix in (b"ASCII\0\0\0", b"\0" * 8):
        return _plain(text)
    return _plain(raw)


def _utf16(text: bytes, order: _Order) -> str:
    """Which UTF-16 it is: EXIF means the order of the file, but piexif (A1111) writes big-endian.

    The fields' names are ASCII, so the zeros tell.
    """
    if text[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return "utf-16"
    big, little = text[::2].count(0), text[1::2].count(0)
    if big == little:
        return "utf-16-le" if order == "<" else "utf-16-be"
    return "utf-16-be" if big > little else "utf-16-le"


def _plain(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace").strip("\0")


def _damaged() -> BrokenFileError:
    return BrokenFileError("The picture's text cannot be read: its EXIF data are damaged.")
