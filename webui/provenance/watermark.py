"""An invisible mark in the pixels that says "made by Easel" and survives re-saving and scaling.

Spread spectrum over the discrete cosine transform (Cox et al., "Secure Spread Spectrum
Watermarking for Multimedia", 1997) with the picture known to the embedder (Malvar & Florencio,
"Improved Spread Spectrum", 2003): luma is scaled to 512 x 512, and each of 64 bits is the sign of a
sum over one thin ring of frequencies, which is pushed to a margin beyond zero. Within a ring a blur
weakens all alike, so that no sign turns. The mark is public and the same in every picture and
installation; it survives saving and scaling, and it can be removed.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

ID = "easel-1"
"""Name of this mark, from which its bits and signs are drawn."""

BITS = 64
ACCEPTED_BITS = 54
"""Bits that must agree. By chance that many do in one of 12 million pictures, over all turns."""

PARTIAL_PSNR = 36.0
"""Least PSNR in dB, within the painted part, for a part to be marked."""

_SIDE = 512
_LOWEST, _HIGHEST = 24, 80
"""Radii of the band: half waves over the picture. Lower is the picture itself, higher is lost."""

_OFF_AXES = 3
"""Nearer to the axes lie horizons and walls, which outweigh a mark."""

_LIMIT = 4_000.0
"""A coefficient counts up to this divided by its radius, so that no edge outweighs its ring."""

MARGINS = (45.0, 32.0, 24.0, 18.0)
"""How far each bit's sum is pushed beyond zero: what survives most, and what changes less."""

_PARTIAL_BITS = 58
"""What a marked part must reach at first, so that something is left after a re-saving."""

_ROUNDS = 8
_NEARLY = 0.9
_LEAST_FREE = 0.1
_LEAST_STRENGTH = 0.01
_FLAT, _BUSY = 0.07, 12.0
"""Strength where nothing hides the mark, and the deviation of grey values at which it is full.

In an even surface a mark is seen first, and there it makes the picture detector see skin: with a
least strength of 0.25 it withheld 4 of 18 landscapes of the embedded model, of which it lets all
through unmarked."""

_NEIGHBOURHOOD = 4.0
"""Deviation of the Gaussian it is measured over, in pixels of 512 x 512."""


@dataclass(frozen=True)
class Reading:
    """What was found in a picture.

    Attributes:
        bits: How many of the 64 agree, in the turn and flip in which most do.
    """

    bits: int

    @property
    def present(self) -> bool:
        """Whether the picture is taken to be marked."""
        return self.bits >= ACCEPTED_BITS


@dataclass(frozen=True)
class _Pattern:
    """The rings: arrays of (64, coefficients of a ring).

    Attributes:
        rows, columns: Where the coefficients are.
        weights: Their signs, each ring of length 1.
        limits: How much each may count.
        message: The 64 bits as signs, shape (64,).
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    weights: Floats
    limits: Floats
    message: Floats


def embed(pixels: Pixels, where: Floats | None = None, *, strongest: float = MARGINS[0]) -> Pixels:
    """The picture with the mark.

    Args:
        pixels: RGB of (height, width, 3).
        where: Height x width, 0..1: how much each pixel may change, and where it is 0 it stays as
            it is; `None` lets all change. Where the part is too small to hold the mark at
            `PARTIAL_PSNR`, the picture is given back as it is.
        strongest: One of `MARGINS`; a part may only hold a weaker one.
    """
    strength = _strength(pixels)
    if where is None:
        return _driven(pixels, strength, strongest)
    strength *= where
    for margin in (margin for margin in MARGINS if margin <= strongest):
        marked = _driven(pixels, strength, margin)
        if _psnr_within(pixels, marked, where) >= PARTIAL_PSNR:
            return marked if read(marked).bits >= _PARTIAL_BITS else pixels
    return pixels


def read(pixels: Pixels) -> Reading:
    """How much of the mark is in an RGB picture of (height, width, 3), also turned or flipped."""
    spectrum = _spectrum(_grey(pixels))
    return Reading(max(int((sums > 0).sum()) for sums in _turned_sums(spectrum)))


def _driven(pixels: Pixels, strength: Floats, margin: float) -> Pixels:
    """The picture changed until each bit has its margin, or as near to it as it comes."""
    pattern = _pattern()
    change = np.zeros(pixels.shape[:2], np.float32)
    gain = strength / max(float(strength.mean()), _LEAST_STRENGTH)
    marked = pixels
    for _ in range(_ROUNDS):
        taken = _spectrum(_grey(marked))[pattern.rows, pattern.columns]
        missing = margin - _sums(taken, pattern)
        if (missing <= (1 - _NEARLY) * margin).all():
            break
        free = np.where(np.abs(taken) < pattern.limits, pattern.weights, 0)
        room = np.maximum((free * pattern.weights).sum(axis=1), _LEAST_FREE)
        push = pattern.message * np.maximum(missing, 0) / room
        added = np.zeros((_SIDE, _SIDE), np.float32)
        added[pattern.rows, pattern.columns] = free * push[:, None]
        change += gain * _scaled(_inverse(added), pixels.shape[1], pixels.shape[0])
        marked = _changed(pixels, change)
    return marked


def _changed(pixels: Pixels, change: Floats) -> Pixels:
    """The change added to each channel, and so to luma, within 0..255."""
    whole = np.rint(change).astype(np.int16)
    added: Any = cv2.add(pixels, cv2.merge([whole, whole, whole]), dtype=cv2.CV_8U)
    return np.asarray(added, np.uint8)


def _strength(pixels: Pixels) -> Floats:
    """How much a change is hidden by what is around it, `_FLAT`..1."""
    height, width = pixels.shape[:2]
    grey = _scaled(_grey(pixels).astype(np.float32), _SIDE, _SIDE)
    mean = cv2.GaussianBlur(grey, (0, 0), _NEIGHBOURHOOD)
    variance = cv2.GaussianBlur(grey * grey, (0, 0), _NEIGHBOURHOOD) - mean * mean
    deviation = np.sqrt(np.maximum(variance, 0))
    strength = _FLAT + (1 - _FLAT) * np.minimum(deviation / _BUSY, 1)
    return _scaled(strength.astype(np.float32), width, height)


def _psnr_within(before: Pixels, after: Pixels, where: Floats) -> float:
    """PSNR in dB over the pixels that may change; infinite where none does."""
    changes = (after.astype(np.float32) - before)[where > 0]
    error = float(np.square(changes).mean()) if changes.size else 0.0
    return 10 * math.log10(255**2 / error) if error else math.inf


def _turned_sums(spectrum: Floats) -> Iterator[Floats]:
    """The bits' sums, in the sign of the message, in each of the 8 turns and flips."""
    pattern = _pattern()
    odd_rows = np.where(pattern.rows % 2, np.float32(-1), np.float32(1))
    odd_columns = np.where(pattern.columns % 2, np.float32(-1), np.float32(1))
    for lying in (spectrum, spectrum.T):
        taken = lying[pattern.rows, pattern.columns]
        for flip in (1, odd_rows, odd_columns, odd_rows * odd_columns):
            yield _sums(taken * flip, pattern)


def _sums(taken: Floats, pattern: _Pattern) -> Floats:
    bounded = np.clip(taken, -pattern.limits, pattern.limits)
    return pattern.message * (bounded * pattern.weights).sum(axis=1)


def _grey(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _spectrum(grey: Pixels) -> Floats:
    square = _scaled(grey.astype(np.float32), _SIDE, _SIDE)
    return np.asarray(cv2.dct(square), np.float32)


def _inverse(spectrum: Floats) -> Floats:
    return np.asarray(cv2.dct(spectrum, flags=cv2.DCT_INVERSE), np.float32)


def _scaled(picture: Floats, width: int, height: int) -> Floats:
    shrinks = width * height < picture.shape[0] * picture.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.float32)


@functools.cache
def _pattern() -> _Pattern:
    """Drawn from SHAKE-256, whose output no version of any library changes."""
    rows, columns = np.mgrid[0 : _HIGHEST + 1, 0 : _HIGHEST + 1].reshape(2, -1)
    squares = rows**2 + columns**2
    inside = (squares >= _LOWEST**2) & (squares < _HIGHEST**2)
    band = np.flatnonzero(inside & (np.minimum(rows, columns) >= _OFF_AXES))
    count = len(band) // BITS
    rings = band[np.argsort(squares[band], kind="stable")][: count * BITS].reshape(BITS, count)
    signs = _drawn_signs("signs", BITS * count).reshape(BITS, count)
    return _Pattern(
        rows=rows[rings],
        columns=columns[rings],
        weights=(signs / math.sqrt(count)).astype(np.float32),
        limits=(_LIMIT / np.sqrt(squares[rings])).astype(np.float32),
        message=_drawn_signs("message", BITS),
    )


def _drawn_signs(name: str, count: int) -> Floats:
    drawn = hashlib.shake_256(f"{ID} {name}".encode()).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8))[:count]
    return (bits.astype(np.float32) * 2 - 1).astype(np.float32)
