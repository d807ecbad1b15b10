"""Text in PNG files: written without touching the pixels, read with bounds.

The PNG specification (W3C, third edition), sections 5 and 11.3.3: chunks of length, type, data and
CRC-32; `tEXt` is Latin-1, `zTXt` the same compressed, `iTXt` UTF-8, compressed or not.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from webui.errors import BrokenFileError

XMP = "XML:com.adobe.xmp"
"""Keyword of XMP data, which are always `iTXt` (XMP specification, part 3, section 1.1.5)."""

MAX_TEXT_BYTES = 1024**2
"""Largest text that is read, after decompression."""

MAX_TEXTS = 64
"""Most texts that are read from one file."""

MAX_CHUNKS = 100_000
"""Most chunks that are walked over; encoders' chunks of 8 KiB and more make 800 MB of that."""

_MAX_KEYWORD_BYTES = 79
_MAX_EXTRA_BYTES = 1024
"""Room for keyword, language and translated keyword beside a text."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = len(_SIGNATURE) + 12 + 13
_TEXT_KINDS = (b"tEXt", b"zTXt", b"iTXt")


def insert_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """The PNG file with the texts right after its header, in their order; all else as it was.

    As PIL (and so A1111) does it: `tEXt` where Latin-1 can spell the text, else plain `iTXt`, and
    always that for `XMP`.

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


def read_text(png: bytes | BinaryIO) -> dict[str, str]:
    """All texts of a PNG file by keyword; of several with one keyword the first.

    Raises:
        BrokenFileError: Not a PNG file, truncated, a text chunk is damaged, or there is more text
            than `MAX_TEXT_BYTES` and `MAX_TEXTS` allow.
    """
    texts: dict[str, str] = {}
    for chunk in text_chunks(png):
        text = chunk.read()
        texts.setdefault(chunk.keyword, text)
    return texts


def read_size(png: bytes | BinaryIO) -> tuple[int, int]:
    """Width and height in pixels, from the header alone.

    Raises:
        BrokenFileError: Not a PNG file, or its header is damaged or tells of no pixels.
    """
    file = _opened(png)
    head = file.read(_HEADER_END - len(_SIGNATURE))
    if len(head) < _HEADER_END - len(_SIGNATURE):
        _broken("it is cut off")
    length, kind, width, height = struct.unpack_from(">I4sII", head)
    if (length, kind) != (13, b"IHDR") or zlib.crc32(head[4:21]) != _crc(head[21:]):
        _broken("its header is damaged")
    if not width or not height:
        _broken("it has no pixels")
    return width, height


@dataclass(frozen=True)
class TextChunk:
    """A text of a PNG file that stands open; only `read` reads more of it than the keyword."""

    keyword: str
    _file: BinaryIO
    _position: int
    _kind: bytes
    _length: int

    def read(self) -> str:
        """The text.

        Raises:
            BrokenFileError: It is damaged, or longer than `MAX_TEXT_BYTES`.
        """
        if self._length > MAX_TEXT_BYTES + _MAX_EXTRA_BYTES:
            _too_long()
        self._file.seek(self._position)
        data = self._file.read(self._length)
        if zlib.crc32(data, zlib.crc32(self._kind)) != _crc(self._file.read(4)):
            _broken("a text in it is damaged")
        return _parsed(self._kind, data[len(self.keyword) + 1 :])


def text_chunks(png: bytes | BinaryIO) -> Iterator[TextChunk]:
    """The texts up to IEND, as they stand in the file; everything else is skipped unread.

    Args:
        png: The file's bytes, or a seekable file, which is read from its beginning.

    Raises:
        BrokenFileError: Not a PNG file, truncated, a text without keyword, more than `MAX_TEXTS`
            texts or `MAX_CHUNKS` chunks. What stands before has been yielded.
    """
    file = _opened(png)
    count = 0
    for kind, position, length in _chunks(file):
        if kind not in _TEXT_KINDS:
            continue
        count += 1
        if count > MAX_TEXTS:
            _broken(f"it holds more than {MAX_TEXTS} texts")
        keyword, found, _ = file.read(min(length, _MAX_KEYWORD_BYTES + 1)).partition(b"\0")
        if not found or not keyword:
            _broken("a text in it has no name")
        yield TextChunk(keyword.decode("latin-1"), file, position, kind, length)


def _opened(png: bytes | BinaryIO) -> BinaryIO:
    """The file, just behind its signature."""
    file = io.BytesIO(png) if isinstance(png, bytes) else png
    file.seek(0)
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        _broken("it is not a PNG file")
    return file


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Type, position and length of each chunk's data up to IEND; the file stands at the data."""
    size = file.seek(0, io.SEEK_END)
    position = len(_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            _broken("it is cut off")
        length, kind = struct.unpack(">I4s", head)
        if position + 12 + length > size:
            _broken("it is cut off")
        if kind == b"IEND":
            return
        yield kind, position + 8, length
        position += 12 + length
    _broken(f"it has more than {MAX_CHUNKS:,} parts")


def _text_chunk(keyword: str, text: str) -> bytes:
    name = keyword.encode("latin-1")
    if not 1 <= len(name) <= 79 or b"\0" in name:
        raise ValueError(f"not a PNG keyword: {keyword!r}")
    kind, data = b"iTXt", name + b"\0\0\0\0\0" + text.encode("utf-8")
    if keyword != XMP:
        with contextlib.suppress(UnicodeEncodeError):
            kind, data = b"tEXt", name + b"\0" + text.encode("latin-1")
    crc = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def _parsed(kind: bytes, data: bytes) -> str:
    """The text of one chunk, from what stands behind its keyword."""
    if kind == b"tEXt":
        return _bounded(data).decode("latin-1")
    if kind == b"zTXt":
        return _inflated(data[:1], data[1:]).decode("latin-1")
    if len(data) < 2:
        _broken("a text in it is damaged")
    flag, method = data[0], data[1:2]
    _language, first, rest = data[2:].partition(b"\0")
    _translated, second, text = rest.partition(b"\0")
    if not first or not second or flag > 1:
        _broken("a text in it is damaged")
    text = _inflated(method, text) if flag else _bounded(text)
    return text.decode("utf-8", errors="replace")


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
        _too_long()
    return text


def _crc(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _too_long() -> NoReturn:
    _broken(f"a text in it is longer than {MAX_TEXT_BYTES:,} bytes")


def _broken(reason: str) -> NoReturn:
    raise BrokenFileError(f"The picture's text cannot be read: {reason}.")
