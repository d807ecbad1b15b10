"""Small copies of pictures, made once and kept as WebP files."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from webui.errors import BrokenFileError, StorageError
from webui.library.files import PREFIX, write_atomically
from webui.library.picture_files import shown

SIDE = 320
"""Longer side in pixels."""

MAX_BYTES = 160_000_000
"""Most memory that decoding one picture may take: 40 megapixels of a PNG."""

_BYTES_PER_PIXEL = MappingProxyType({"PNG": 4, "JPEG": 4, "WEBP": 16})
"""The formats that are read, and what was measured; libwebp keeps canvases of its own."""

_MAX_BESIDE_BYTES = 8 * 1024**2
"""Most that a PNG file may hold beside its pixels: Pillow keeps it all, several times over."""

_MAX_FILE_BYTES = 64 * 1024**2
"""Largest file of the other formats, in which a picture of `MAX_BYTES` takes less."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PART_BYTES = 12
"""What a part takes beside its data."""

_LARGE_PIXELS = 8_000_000
"""Pictures above this are decoded one at a time."""

_AT_ONCE = 2
_QUALITY = 80
_METHOD = 2
"""WebP's effort, 0-6: half the time of the usual 4 for files a few per cent larger."""

_RESIZED_AS_THEY_ARE = frozenset({"L", "LA", "RGB", "RGBA", "CMYK", "YCbCr"})
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, zlib.error)
"""What Pillow raises about files that are not as they should be."""


class Thumbnails:
    """A folder of thumbnails by name; the names must differ for different contents.

    Threads: any number may ask. Each thumbnail is made by one of them, and few at a time, since
    every one takes a whole decoded picture.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Two names may share a lock; that costs them a wait, and nothing has to be cleared away.
        self._locks = tuple(threading.Lock() for _ in range(64))
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._large = threading.Lock()

    def get(self, name: str, source: Path) -> bytes:
        """A picture's thumbnail, a WebP file; one that cannot be kept is made each time.

        Raises:
            BrokenFileError: The picture is damaged, truncated, or larger than `MAX_BYTES`.
        """
        kept = self._path(name)
        with self._locks[zlib.crc32(name.encode()) % len(self._locks)]:
            if self._is_ours():
                with contextlib.suppress(OSError):
                    return kept.read_bytes()
            data = self._make(source)
            if self._is_ours():
                with contextlib.suppress(StorageError):
                    write_atomically(kept, data)
            return data

    def remove(self, name: str) -> None:
        """Removes a picture's thumbnail, if there is one."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def tidy(self, names: Callable[[], set[str]]) -> None:
        """Removes the thumbnails of all but these names, which are asked for after looking."""
        if not self._is_ours():
            return
        try:
            kept = [file for file in os.listdir(self._folder) if file.endswith(".webp")]
        except OSError:
            return
        wanted = names()
        for file in kept:
            name = file.removesuffix(".webp")
            if name not in wanted and not file.startswith(PREFIX):
                self.remove(name)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.webp"

    def _is_ours(self) -> bool:
        return not self._folder.is_symlink()

    def _make(self, source: Path) -> bytes:
        try:
            with self._slots, source.open("rb") as file:
                _refuse_ballast(file, source)
                picture = Image.open(file, formats=tuple(_BYTES_PER_PIXEL))
                pixels = picture.width * picture.height
                if pixels * _BYTES_PER_PIXEL[str(picture.format)] > MAX_BYTES:
                    raise BrokenFileError(_too_large(source))
                with self._large if pixels > _LARGE_PIXELS else contextlib.nullcontext():
                    return _shrunk(picture)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise BrokenFileError(_too_large(source)) from None
        except UnidentifiedImageError:
            raise BrokenFileError(f"{shown(source.name)} is not a picture.") from None
        except _DAMAGE:
            sentence = f"{shown(source.name)} is damaged: it cannot be shown."
            raise BrokenFileError(sentence) from None


def _refuse_ballast(file: BinaryIO, source: Path) -> None:
    """Passes a file of which Pillow would not keep much more than the pixels."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(len(_PNG)) != _PNG:
        too_much = size > _MAX_FILE_BYTES
    else:
        too_much = _beside_pixels(file, size) > _MAX_BESIDE_BYTES
    if too_much:
        raise BrokenFileError(f"{shown(source.name)} holds too much to be shown small.")
    file.seek(0)


def _beside_pixels(file: BinaryIO, size: int) -> int:
    """Bytes of a PNG file, which stands behind its signature, that are no pixels."""
    beside, position = 0, len(_PNG)
    while position < size and beside <= _MAX_BESIDE_BYTES:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        there = min(_PNG_PART_BYTES + length, size - position)
        beside += min(_PNG_PART_BYTES, there) if kind == b"IDAT" else there
        position += _PNG_PART_BYTES + length
    return beside


def _shrunk(picture: Image.Image) -> bytes:
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    if picture.width * picture.height > _LARGE_PIXELS:
        # Without a second copy in full size, which smooth resizing makes of transparent pictures.
        picture.thumbnail((4 * SIDE, 4 * SIDE), Image.Resampling.NEAREST)
    if picture.mode.startswith("I"):
        picture = picture.point(lambda value: value / 256).convert("L")
    elif picture.mode not in _RESIZED_AS_THEY_ARE:
        picture = picture.convert(mode)
    picture.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    small = ImageOps.exif_transpose(picture).convert(mode)
    # Camera data and recipes stay behind.
    small.info.clear()
    file = io.BytesIO()
    small.save(file, "WEBP", quality=_QUALITY, method=_METHOD)
    return file.getvalue()


def _too_large(source: Path) -> str:
    return f"{shown(source.name)} has too many pixels to be shown small."
