"""Pictures brought in: read with limits, made plain, kept for a while by content hash."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from webui.errors import BrokenFileError, NotFoundError
from webui.library.files import write_atomically
from webui.library.origins import OUTSIDE, Judge, Origin, Origins
from webui.request import MAX_SIDE

Kind = Literal["picture", "mask"]
"""What is brought in: a picture becomes RGB, a mask grey (white = repaint)."""

MAX_FILE_BYTES = 25_000_000
"""Largest file that is read."""

MAX_PIXELS = 40_000_000
"""Most pixels that are decoded."""

MAX_KEPT_BYTES = 1024**3
MAX_AGE_SECONDS = 30 * 24 * 3600.0
"""How long a picture is kept after it was last used."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_SEVERAL_IN_ONE = "MPO"
"""JPEG as many phones write it: behind the picture lie its thumbnail, depth or brightness."""

_ID = re.compile(r"[0-9a-f]{64}")
_PNG_COMPRESSION = 3
_AT_ONCE = 2
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, zlib.error)
"""What Pillow raises about files that are not as they should be."""

_DEEP = MappingProxyType({"I;16": 257, "I;16B": 257, "I;16L": 257, "I;16N": 257, "I": 257})
"""Grey of 16 bits by Pillow's name of it, and what its values are divided by."""

_MODES = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
)
"""Pillow's names of the other kinds of colour that are read."""

_READ_BY_PROFILE = frozenset({"L", "RGB", "CMYK"})


@dataclass(frozen=True)
class Upload:
    """A picture on the shelf.

    Attributes:
        id: Hex SHA-256 of `path`'s bytes.
        path: A PNG file, RGB or grey, upright, in sRGB, without any text.
        width, height: In pixels.
    """

    id: str
    path: Path
    width: int
    height: int


class Uploads:
    """A folder of pictures that were brought in. Safe to use from several threads and processes.

    A picture larger than any that can be made is shrunk to that size.
    """

    def __init__(
        self,
        folder: Path,
        *,
        in_use: Callable[[], Collection[str]] = tuple,
        judge: Judge = lambda _: OUTSIDE,
        max_bytes: int = MAX_KEPT_BYTES,
        max_age: float = MAX_AGE_SECONDS,
    ) -> None:
        """A shelf.

        Args:
            in_use: Names pictures that stay, such as those of jobs that wait.
            judge: Tells from a picture's file where it comes from.
        """
        self._folder = folder
        self._judge = judge
        self._origins = Origins(folder)
        self._in_use = in_use
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._slots = threading.BoundedSemaphore(_AT_ONCE)

    def take(self, data: bytes, *, kind: Kind = "picture") -> Upload:
        """Puts a picture's file on the shelf; the SHA-256 of `data` names it, too.

        Where a picture comes from is judged by `data`. A mask is never this installation's own:
        its shape, and more so its greys, come through in what is painted.

        Raises:
            BrokenFileError: Not one still picture of a format that is read, damaged, or larger
                than `MAX_FILE_BYTES` and `MAX_PIXELS` allow.
            StorageError: Disk full or folder not writable.
        """
        with self._slots:
            plain = _opened(data, kind)
            file = io.BytesIO()
            plain.save(file, "PNG", compress_level=_PNG_COMPRESSION)
            origin = self._judge(data) if kind == "picture" else OUTSIDE
        png = file.getvalue()
        name = hashlib.sha256(png).hexdigest()
        path = self._path(name)
        if not _touched(path):
            write_atomically(path, png)
        self._origins.keep(name, origin, data)
        original = hashlib.sha256(data).hexdigest()
        if kind == "picture" and original != name:
            write_atomically(self._other_name(original), name.encode())
        self._tidy(keep=name)
        return Upload(name, path, *plain.size)

    def find(self, name: str) -> Upload:
        """The picture of that id, or of the file with that SHA-256 it was taken from.

        Raises:
            NotFoundError: It is no id, or the picture is not here, or not any more.
        """
        name = self._resolved(name)
        path = self._path(name)
        if not _touched(path):
            raise NotFoundError(_GONE)
        try:
            with Image.open(path, formats=("PNG",)) as picture:
                return Upload(name, path, *picture.size)
        except OSError:
            raise NotFoundError(_GONE) from None

    def read(self, name: str) -> bytes:
        """The bytes of that picture's PNG file.

        Raises:
            NotFoundError: As `find`; or the file is not the one that was taken in.
        """
        found = self.find(name)
        try:
            data = found.path.read_bytes()
        except OSError:
            raise NotFoundError(_GONE) from None
        if hashlib.sha256(data).hexdigest() != found.id:
            raise NotFoundError(_GONE)
        return data

    def origin(self, name: str) -> Origin:
        """Where that picture comes from; of one that is not here nothing good is known."""
        try:
            return self._origins.of(self._resolved(name))
        except NotFoundError:
            return OUTSIDE

    def original(self, name: str) -> bytes:
        """The file that picture was taken from where it has credentials, else its PNG file.

        Raises:
            NotFoundError: As `read`.
        """
        plain = self.read(name)
        return self._origins.original(hashlib.sha256(plain).hexdigest()) or plain

    def _resolved(self, name: str) -> str:
        """The id that a name stands for."""
        if not _ID.fullmatch(name):
            raise NotFoundError(_NO_ID)
        try:
            known = self._other_name(name).read_text(encoding="ascii")
        except (OSError, ValueError):
            return name
        return known if _ID.fullmatch(known) else name

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.png"

    def _other_name(self, name: str) -> Path:
        return self._folder / f"{name}.id"

    def _tidy(self, *, keep: str) -> None:
        """Removes what is too old or too much, what was longest not used first."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return
        used = {keep, *(self._resolved(name) for name in self._in_use() if _ID.fullmatch(name))}
        known = [_Kept.of(self._folder / name) for name in names]
        newest_first = sorted((each for each in known if each is not None), reverse=True)
        total, oldest = 0, time.time() - self._max_age
        for kept in newest_first:
            total += kept.size
            gone = kept.used_at < oldest or total > self._max_bytes
            if gone and kept.path.stem not in used:
                total -= kept.size
                with contextlib.suppress(OSError):
                    kept.path.unlink()


_GONE = "The picture is not here any more: bring it in again."
_NO_ID = "A picture is named by its id, 64 hexadecimal digits: bring it in first."


@dataclass(frozen=True, order=True)
class _Kept:
    used_at: float
    size: int
    path: Path

    @staticmethod
    def of(path: Path) -> _Kept | None:
        try:
            stat = path.stat()
        except OSError:
            return None
        return _Kept(stat.st_mtime, stat.st_size, path)


def _touched(path: Path) -> bool:
    """Whether the file is there; if so it counts as just used."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:
        # On a read-only folder it only grows older.
        return path.is_file()
    return True


def _opened(data: bytes, kind: Kind) -> Image.Image:
    """The plain picture in a file."""
    if len(data) > MAX_FILE_BYTES:
        raise BrokenFileError(
            f"The picture's file is larger than {MAX_FILE_BYTES // 10**6} MB: save it smaller."
        )
    try:
        with warnings.catch_warnings():
            # A size between its limit and twice that is one of ours already.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                _check(picture)
                return _fitting(_plain(picture, kind))
    except Image.DecompressionBombError:
        raise BrokenFileError(_TOO_LARGE) from None
    except UnidentifiedImageError:
        raise BrokenFileError(
            "This is no picture that can be read: bring a PNG, JPEG, WebP, BMP or TIFF file."
        ) from None
    except _DAMAGE:
        raise BrokenFileError("The picture is damaged: it cannot be read to its end.") from None


_TOO_LARGE = f"The picture has more than {MAX_PIXELS // 10**6} megapixels: make it smaller first."


def _check(picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise BrokenFileError(_TOO_LARGE)
    if picture.format != _SEVERAL_IN_ONE and getattr(picture, "n_frames", 1) > 1:
        raise BrokenFileError(
            "The picture is animated or has several pages: bring in a single picture."
        )
    if picture.mode not in _MODES and picture.mode not in _DEEP:
        raise BrokenFileError(
            f"The picture's colours ({picture.mode}) are of a kind that is not read: save it as"
            " an RGB picture."
        )


def _plain(picture: Image.Image, kind: Kind) -> Image.Image:
    """Upright, of 8 bits, RGB over white, or the grey of a mask."""
    upright = ImageOps.exif_transpose(picture)
    profile = picture.info.get("icc_profile")
    if upright.mode in _DEEP:
        divisor = _DEEP[upright.mode]
        upright = upright.convert("I").point(lambda value: value / divisor).convert("L")
        profile = None
    if upright.has_transparency_data:
        colours = upright.convert("RGBA")
        alpha = colours.getchannel("A")
        if kind == "mask" and alpha.getextrema() != (255, 255):
            return alpha
        plain = Image.new("RGB", colours.size, "white")
        plain.paste(_in_srgb(colours.convert("RGB"), profile), mask=alpha)
    else:
        plain = _in_srgb(upright, profile)
    return _bare(plain.convert("L" if kind == "mask" else "RGB"))


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture in RGB, by its colour profile where that can be read and is for its kind."""
    if picture.mode in ("1", "P"):
        picture = picture.convert("RGB")
    if profile and picture.mode in _READ_BY_PROFILE:
        with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target: Any = cast(Any, ImageCms).createProfile("sRGB")
            turned = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
            if turned is not None:
                return turned
    return picture.convert("RGB")


def _fitting(picture: Image.Image) -> Image.Image:
    longest = max(picture.size)
    if longest <= MAX_SIDE:
        return picture
    width, height = (max(1, round(side * MAX_SIDE / longest)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _bare(picture: Image.Image) -> Image.Image:
    """The pixels alone: camera data, recipes and colour profile stay behind."""
    picture.info.clear()
    return picture
