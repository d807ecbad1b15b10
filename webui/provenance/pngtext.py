"""Text in PNG files: written without touching the pixels, read with bounds.

The PNG specification (W3C, third edition), sections 5 and 11.3.3: chunks of length, type, data and
CRC-32; `tEXt` is Latin-1, `zTXt` the same compressed, `iTXt` UTF-8, compressed or not.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NoReturn

from webui.errors import BrokenFileError

MAX_TEXT_BYTES = 1024**2
"""Largest text that is read, after decompression."""

MAX_TEXTS = 64
"""Most texts that are read from one file."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = len(_SIGNATURE) + 12 + 13
_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")


def insert_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """The PNG file with the texts right after its header, in their order; all else as it was.

    As PIL (and so A1111) does it: `tEXt` where Latin-1 can spell the text, else plain `iTXt`.

    Args:
        png: A whole PNG file.
        texts: By keyword, 1-79 Latin-1 characters.

    Raises:
        BrokenFileError: `png` is not a PNG file.
    """
    if png[:8] != _SIGNATURE or png[12:16] != b"IHDR" or len(png) < _HEADER_END:
        _broken("it is not a PNG file")
    chunks = b"".join(_text_chunk(keyword, text) for keyword, text in texts.items())
    return png[:_HEADER_END] + chunks + png[_HEADER_END:]


def read_text(png: bytes) -> dict[str, str]:
    """All texts of a PNG file by keyword; of several with one keyword the first.

    Raises:
        BrokenFileError: Not a PNG file, truncated, a text chunk is damaged, or there is more text
            than `MAX_TEXT_BYTES` and `MAX_TEXTS` allow.
    """
    texts: dict[str, str] = {}
    count = 0
    for kind, data in _chunks(png):
        if kind in _TEXT_KINDS:
            count += 1
            if count > MAX_TEXTS:
                _broken(f"it holds more than {MAX_TEXTS} texts")
            keyword, text = _parsed(kind, data)
            texts.setdefault(keyword, text)
    return texts


def _text_chunk(keyword: str, text: str) -> bytes:
    name = keyword.encode("latin-1")
    if not 1 <= len(name) <= 79 or b"\0" in name:
        raise ValueError(f"not a PNG keyword: {keyword!r}")
    try:
        kind, data = b"tEXt", name + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        kind, data = b"iTXt", name + b"\0\0\0\0\0" + text.encode("utf-8")
    crc = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and data of each chunk up to IEND; data of text chunks only, and that checked."""
    if png[:8] != _SIGNATURE:
        _broken("it is not a PNG file")
    position = len(_SIGNATURE)
    while True:
        head = png[position : position + 8]
        if len(head) < 8:
            _broken("it is cut off")
        length, kind = struct.unpack(">I4s", head)
        end = position + 12 + length
        if end > len(png):
            _broken("it is cut off")
        if kind == b"IEND":
            return
        data = b""
        if kind in _TEXT_KINDS:
            data = png[position + 8 : end - 4]
            if zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(png[end - 4 : end], "big"):
                _broken("a text in it is damaged")
        yield kind, data
        position = end


def _parsed(kind: bytes, data: bytes) -> tuple[str, str]:
    """Keyword and text of one text chunk."""
    name, found, rest = data.partition(b"\0")
    if not found or not name:
        _broken("a text in it has no name")
    keyword = name.decode("latin-1")
    if kind == b"tEXt":
        return keyword, _bounded(rest).decode("latin-1")
    if kind == b"zTXt":
        return keyword, _inflated(rest[:1], rest[1:]).decode("latin-1")
    if len(rest) < 2:
        _broken("a text in it is damaged")
    flag, method = rest[0], rest[1:2]
    _language, first, rest = rest[2:].partition(b"\0")
    _translated, second, text = rest.partition(b"\0")
    if not first or not second or flag > 1:
        _broken("a text in it is damaged")
    text = _inflated(method, text) if flag else _bounded(text)
    return keyword, text.decode("utf-8", errors="replace")


def _inflated(method: bytes, data: bytes) -> bytes:
    if method != b"\0":
        _broken("a text in it is compressed in an unknown way")
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, MAX_TEXT_BYTES + 1)
    except zlib.error:
        _broken("a text in it is damaged")
    if not stream.eof and len(text) <= MAX_TEXT_BYTES:
        _broken("a text in it is damaged")
    return _bounded(text)


def _bounded(text: bytes) -> bytes:
    if len(text) > MAX_TEXT_BYTES:
        _broken(f"a text in it is longer than {MAX_TEXT_BYTES:,} bytes")
    return text


def _broken(reason: str) -> NoReturn:
    raise BrokenFileError(f"The picture's text cannot be read: {reason}.")
