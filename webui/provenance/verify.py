"""What a picture's file says about how it was made, and what of that is certain.

Looks at every layer there is: signed credentials, the watermark, XMP, the recipe and other tools'
texts. Only credentials of this installation and the watermark are certain; nothing is fetched.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image

from webui.errors import BadRequestError, BrokenFileError, NotFoundError
from webui.provenance import c2pa, watermark
from webui.provenance.c2pa import Credentials
from webui.provenance.certificate import Trust
from webui.provenance.lineage import AI_TYPES
from webui.provenance.pngtext import XMP
from webui.provenance.recover import OtherToolError, Recovered, recover
from webui.provenance.xmp import read_source_type

MAX_BYTES = 128 * 1024**2
"""Largest file that is looked at."""

MAX_PIXELS = 40_000_000
"""Most pixels that are decoded for the watermark."""

Kind = Literal["PNG", "JPEG", "WEBP"]
Verdict = Literal["whole", "own", "marked", "changed", "other", "claimed", "unknown"]
"""In falling order of certainty: of this installation and complete; of it, but with a layer amiss;
with Easel's watermark; credentials that do not fit; those of somebody who is not known here;
unsigned texts that name a tool or AI; nothing was found."""

_KINDS = MappingProxyType({"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"})

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError)
"""What Pillow raises about files that are not as they should be."""


@dataclass(frozen=True)
class Verification:
    """The layers that were found.

    Attributes:
        sha256: Hex digest of the file.
        width, height: In pixels.
        watermark: `None` where the pixels cannot be decoded.
        source_type: Digital source type that the XMP states, unsigned.
        recipe: The recipe it carries, unsigned.
        tool: Another tool whose recipe it carries, unsigned.
        troubles: What cannot be read, a sentence each.
    """

    sha256: str
    kind: Kind
    width: int
    height: int
    credentials: Credentials
    watermark: watermark.Reading | None
    source_type: str | None
    recipe: Recovered | None
    tool: str | None
    troubles: tuple[str, ...]

    @property
    def is_marked(self) -> bool:
        """Whether the watermark is there."""
        return self.watermark is not None and self.watermark.present

    @property
    def is_whole(self) -> bool:
        """Whether this installation made it, no byte has changed, and no layer is missing."""
        own = self.credentials.lineage is not None
        recipe = self.recipe is not None and self.recipe.source == "easel"
        marked = self.is_marked or self._may_be_unmarked
        return own and marked and recipe and self.source_type in AI_TYPES and not self.troubles

    @property
    def verdict(self) -> Verdict:
        """The most that is certain."""
        if self.credentials.state == "own":
            return "whole" if self.is_whole else "own"
        if self.is_marked:
            return "marked"
        if self.credentials.state in ("changed", "unreadable"):
            return "changed"
        if self.credentials.state in ("other", "elsewhere"):
            return "other"
        says_something = self.tool or self.recipe or self.source_type in AI_TYPES
        return "claimed" if says_something else "unknown"

    @property
    def _may_be_unmarked(self) -> bool:
        """Whether it is signed that only a part was painted, which may be too small for a mark."""
        lineage = self.credentials.lineage or {}
        return lineage.get("watermark", {}).get("partial") is True


def verify(data: bytes, trust: Trust | None) -> Verification:
    """Looks at a picture's file.

    Args:
        trust: Whose signatures are known; `None`: nobody's.

    Raises:
        BrokenFileError: It is no PNG, JPEG or WebP file, or too large.
    """
    if len(data) > MAX_BYTES:
        raise BrokenFileError(f"The file is larger than {MAX_BYTES // 1024**2} MiB.")
    troubles: list[str] = []
    try:
        with warnings.catch_warnings():
            # Sizes are bounded below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=tuple(_KINDS))
    except (*_DAMAGE, Image.DecompressionBombError):
        raise BrokenFileError("The file is no picture that can be read: PNG, JPEG, WebP.") from None
    kind = _kind_of(picture)
    recipe, tool = _recipe_in(data, troubles)
    return Verification(
        sha256=hashlib.sha256(data).hexdigest(),
        kind=kind,
        width=picture.width,
        height=picture.height,
        credentials=c2pa.read(data, _KINDS[kind], trust),
        watermark=_watermark_in(picture, troubles),
        source_type=read_source_type(_xmp_in(picture)),
        recipe=recipe,
        tool=tool,
        troubles=tuple(troubles),
    )


def verify_file(path: Path, trust: Trust | None) -> Verification:
    """Looks at a picture; see `verify`.

    Raises:
        BrokenFileError: As `verify`.
        BadRequestError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return verify(file.read(MAX_BYTES + 1), trust)
    except OSError as error:
        raise BadRequestError(f"It cannot be read: {error.strerror}.") from None


def _kind_of(picture: Image.Image) -> Kind:
    # Phones write several JPEGs in one, which Pillow calls MPO.
    return "PNG" if picture.format == "PNG" else "WEBP" if picture.format == "WEBP" else "JPEG"


def _recipe_in(data: bytes, troubles: list[str]) -> tuple[Recovered | None, str | None]:
    """The recipe, and the tool whose recipe it is if that is another's."""
    try:
        return recover(data), None
    except OtherToolError as error:
        return None, error.tool
    except NotFoundError:
        return None, None
    except BadRequestError as error:
        troubles.append(error.message)
        return None, None


def _watermark_in(picture: Image.Image, troubles: list[str]) -> watermark.Reading | None:
    if picture.width * picture.height > MAX_PIXELS:
        troubles.append(
            f"It has more than {MAX_PIXELS // 10**6} megapixels: no mark was looked for."
        )
        return None
    try:
        return watermark.read(np.asarray(picture.convert("RGB")))
    except _DAMAGE:
        troubles.append("Its pixels are damaged: no mark was looked for.")
        return None


def _xmp_in(picture: Image.Image) -> str:
    packet = picture.info.get("xmp") or picture.info.get(XMP) or ""
    return packet.decode("utf-8", errors="replace") if isinstance(packet, bytes) else str(packet)
