"""The pixels a picture is started from, and where they may change.

The init picture is fitted to the size asked for and continued by its margins; the mask is made to
lie over it. What is painted is pasted back here: outside the mask, beyond its blur, every pixel
stays as it was, exactly.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.clearance import Region
from webui.errors import BadRequestError
from webui.generation.fills import FILLS, from_surroundings
from webui.request import MAX_SIDE, GenerationRequest, InpaintFill

Pixels = NDArray[np.uint8]
Shares = NDArray[np.float32]
"""Height x width, 0..1."""

_STEP = 8
"""Sides are multiples of it: the VAE's latent pixels are that large."""

_LEAST_SIDE = 64
_WIDEST = 2.0
"""An area more oblong than this is widened, since models know no such pictures."""

_SAME_SHAPE = 0.02
_FULL_FROM = 0.25
"""A soft mask lets the painted picture through in full from this grey on."""


@dataclass(frozen=True)
class Brought:
    """A picture brought in: hex SHA-256 of its file, and its pixels in RGB or grey."""

    id: str
    image: Image.Image

    @staticmethod
    def of(data: bytes) -> Brought:
        """The picture in a file as the shelf of pictures brought in keeps it."""
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        image.load()
        return Brought(hashlib.sha256(data).hexdigest(), image)


@dataclass(frozen=True)
class Source:
    """What the fitted picture and the part of it that is painted depend on.

    Attributes:
        init: Content hash.
        width, height: Of the picture, margins included.
        margins: Pixels to the left, top, right and bottom.
        area: The part that is painted.
        paint_width, paint_height: Size it is painted at.
    """

    init: str
    width: int
    height: int
    margins: tuple[int, int, int, int]
    area: Region
    paint_width: int
    paint_height: int


@dataclass(frozen=True)
class Cover:
    """What a mask depends on; `blur` is 0 where it does not shape what is denoised."""

    mask: str | None
    grow: int
    soft: bool
    blur: int


@dataclass(frozen=True)
class Canvas:
    """A picture to start from.

    Attributes:
        picture: RGB of (height, width, 3): what stays outside the mask.
        start: The same with the mask filled as asked.
        mask: 1 = repaint, between: share of the strength; `None` where all is painted anew.
        alpha: How much of the painted picture is seen; `None` like `mask`.
        notices: What was changed to make it fit, a sentence each.
    """

    source: Source
    cover: Cover | None
    fill: InpaintFill
    picture: Pixels
    start: Pixels
    mask: Shares | None
    alpha: Shares | None
    notices: tuple[str, ...]

    @property
    def changed(self) -> Region | None:
        """The smallest part that holds every pixel that may change; `None` where all may."""
        return None if self.alpha is None else _bounds(self.alpha)

    def worked(self, picture: Pixels) -> Pixels:
        """A picture or grey map of the canvas's size as the model sees it: the area, at the size
        it is painted at."""
        return _scaled(
            _cut(picture, self.source.area), self.source.paint_width, self.source.paint_height
        )

    def worked_mask(self) -> Shares:
        """The mask as `worked`; ones where there is none."""
        if self.mask is None:
            return np.ones((self.source.paint_height, self.source.paint_width), np.float32)
        area = _cut(self.mask, self.source.area)
        size = self.source.paint_width, self.source.paint_height
        return np.asarray(cv2.resize(area, size, interpolation=cv2.INTER_LINEAR), np.float32)

    def finished(self, painted: Pixels) -> Pixels:
        """The whole picture, from what was painted of its area."""
        area = self.source.area
        fitted = _scaled(painted, area.right - area.left, area.bottom - area.top)
        whole = self.picture.copy()
        old = _cut(whole, area)
        if self.alpha is None:
            old[:] = fitted
            return whole
        alpha = _cut(self.alpha, area)[..., None]
        mixed = old + (fitted.astype(np.float32) - old) * alpha
        old[:] = np.where(alpha > 0, np.rint(mixed), old).astype(np.uint8)
        return whole


def lay_out(
    request: GenerationRequest, brought: Mapping[str, Brought], trained: int, step: int = _STEP
) -> Canvas:
    """The canvas of a request that names an init picture.

    Args:
        brought: The pictures by the names the request has for them.
        trained: Side in pixels of the pictures the model was trained on.
        step: Pixels that the sides of what it paints are multiples of.

    Raises:
        BadRequestError: A size does not fit, or the mask is empty or not of the picture's shape.
    """
    init = brought[str(request.init)]
    mask = None if request.mask is None else brought[request.mask]
    width, height = _inner_size(request, init.image.size)
    inner = _covering(init.image.convert("RGB"), width, height)
    picture, margin = _with_margins(np.asarray(inner), request.outpaint)
    cover = mask is not None or any(request.outpaint)
    shares = _mask(request, init, mask, (width, height), margin) if cover else None
    alpha = None if shares is None else _alpha(shares, request, margin)
    area, paint_size = _area(request, shares, trained, picture.shape)
    picture = from_surroundings(picture, margin)
    start = picture
    if shares is not None and request.inpaint_fill in FILLS:
        filled = FILLS[request.inpaint_fill](picture, (shares > 0).astype(np.float32))
        start = np.rint(picture + (filled.astype(np.float32) - picture) * shares[..., None])
    return Canvas(
        source=Source(
            init=init.id,
            width=picture.shape[1],
            height=picture.shape[0],
            margins=request.outpaint,
            area=area,
            paint_width=-(-paint_size[0] // step) * step,
            paint_height=-(-paint_size[1] // step) * step,
        ),
        cover=None
        if shares is None
        else Cover(
            mask=None if mask is None else mask.id,
            grow=request.mask_grow,
            soft=request.soft_mask,
            blur=request.mask_blur if request.soft_mask else 0,
        ),
        fill=request.inpaint_fill if shares is not None else "original",
        picture=picture,
        start=start.astype(np.uint8),
        mask=shares,
        alpha=alpha,
        notices=_notices(init.image.size, (width, height)),
    )


def _inner_size(request: GenerationRequest, given: tuple[int, int]) -> tuple[int, int]:
    """Size of the init picture within the picture, in multiples of 8."""
    left, top, right, bottom = request.outpaint
    room = MAX_SIDE - left - right, MAX_SIDE - top - bottom
    width = None if request.width is None else request.width - left - right
    height = None if request.height is None else request.height - top - bottom
    if width is None and height is None:
        scale = min(1.0, room[0] / given[0], room[1] / given[1])
        width, height = (_rounded(side * scale) for side in given)
    elif width is None and height is not None:
        width = _rounded(given[0] * height / given[1])
    elif height is None and width is not None:
        height = _rounded(given[1] * width / given[0])
    size = int(width or 0), int(height or 0)
    if min(size) < _LEAST_SIDE or size[0] > room[0] or size[1] > room[1]:
        field = "outpaint" if any(request.outpaint) else "init"
        raise BadRequestError(
            f"The init picture would be {size[0]}x{size[1]} pixels: its sides must be at least"
            f" {_LEAST_SIDE}, and with its margins at most {MAX_SIDE}.",
            field=field,
        )
    return size


def _rounded(side: float) -> int:
    return round(side / _STEP) * _STEP


def _covering(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The picture at that size, cut on two sides where its shape is another."""
    if picture.size == (width, height):
        return picture
    scale = max(width / picture.width, height / picture.height)
    across, down = width / scale, height / scale
    left, top = (picture.width - across) / 2, (picture.height - down) / 2
    box = (max(0.0, left), max(0.0, top), left + across, top + down)
    box = (*box[:2], min(box[2], picture.width), min(box[3], picture.height))
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=box)


def _with_margins(inner: Pixels, margins: tuple[int, int, int, int]) -> tuple[Pixels, Shares]:
    """The picture within its margins, and a map that is 1 in these."""
    left, top, right, bottom = margins
    picture = np.pad(inner, ((top, bottom), (left, right), (0, 0)))
    margin = np.pad(
        np.zeros(inner.shape[:2], np.float32), ((top, bottom), (left, right)), constant_values=1
    )
    return picture, margin


def _mask(
    request: GenerationRequest,
    init: Brought,
    mask: Brought | None,
    size: tuple[int, int],
    margin: Shares,
) -> Shares:
    left, top, _, _ = request.outpaint
    shares = np.zeros_like(margin)
    if mask is not None:
        _check_shape(mask.image.size, init.image.size)
        grey = mask.image.convert("L").resize(init.image.size, Image.Resampling.BILINEAR)
        inner = np.asarray(_covering(grey, *size), np.float32) / 255
        shares[top : top + size[1], left : left + size[0]] = inner
    shares = np.maximum(shares, margin)
    if not request.soft_mask:
        shares = (shares >= 0.5).astype(np.float32)
    shares = _grown(shares, request.mask_grow)
    if request.soft_mask:
        shares = _blurred(shares, request.mask_blur)
    shares = np.maximum(shares, margin)
    if not shares.any():
        raise BadRequestError(
            "The mask is empty: paint it white where the picture is to be made anew"
            + (", or shrink it less." if request.mask_grow < 0 else "."),
            field="mask",
        )
    return shares


def _check_shape(mask: tuple[int, int], init: tuple[int, int]) -> None:
    ratio = mask[0] * init[1] / (mask[1] * init[0])
    if abs(math.log(ratio)) > _SAME_SHAPE:
        raise BadRequestError(
            f"The mask is {mask[0]}x{mask[1]} and the init picture {init[0]}x{init[1]}: they must"
            " have the same shape.",
            field="mask",
        )


def _grown(shares: Shares, pixels: int) -> Shares:
    if not pixels:
        return shares
    side = 2 * abs(pixels) + 1
    disk: Any = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    change = cv2.dilate if pixels > 0 else cv2.erode
    return np.asarray(change(shares, disk), np.float32)


def _blurred(shares: Shares, deviation: int) -> Shares:
    """A Gaussian blur that reaches 2.5 deviations far, as A1111's."""
    if not deviation:
        return shares
    side = 2 * _reach(deviation) + 1
    blurred = cv2.GaussianBlur(shares, (side, side), deviation, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.float32)


def _reach(deviation: int) -> int:
    return int(2.5 * deviation + 0.5)


def _alpha(shares: Shares, request: GenerationRequest, margin: Shares) -> Shares:
    if request.soft_mask:
        return np.minimum(shares / _FULL_FROM, 1).astype(np.float32)
    return np.maximum(_blurred(shares, request.mask_blur), margin)


def _area(
    request: GenerationRequest, shares: Shares | None, trained: int, shape: tuple[int, ...]
) -> tuple[Region, tuple[int, int]]:
    """The part that is painted, and the size it is painted at."""
    height, width = shape[:2]
    if shares is None or request.inpaint_area == "whole":
        return Region(0, 0, width, height), (width, height)
    bounds = _bounds(shares)
    padding = max(request.inpaint_padding, _reach(request.mask_blur))
    across, down = (
        _spread(low, high, padding, length)
        for low, high, length in (
            (bounds.left, bounds.right, width),
            (bounds.top, bounds.bottom, height),
        )
    )
    across = _at_least(across, (down[1] - down[0]) / _WIDEST, width)
    down = _at_least(down, (across[1] - across[0]) / _WIDEST, height)
    area = Region(across[0], down[0], across[1], down[1])
    sides = area.right - area.left, area.bottom - area.top
    scale = max(1.0, trained / math.sqrt(sides[0] * sides[1]))
    paint = [max(_LEAST_SIDE, min(MAX_SIDE, _rounded(side * scale))) for side in sides]
    return area, (paint[0], paint[1])


def _spread(low: int, high: int, padding: int, length: int) -> tuple[int, int]:
    """From `low` to `high` with padding, in multiples of 8 like the length they lie within."""
    start = max(0, low - padding) // _STEP * _STEP
    return start, min(length, -(-(high + padding) // _STEP) * _STEP)


def _at_least(span: tuple[int, int], least: float, length: int) -> tuple[int, int]:
    missing = max(0, math.ceil(least) - (span[1] - span[0]))
    start = max(0, min(span[0] - missing // 2, length - missing - (span[1] - span[0])))
    return _spread(start, min(length, start + span[1] - span[0] + missing), 0, length)


def _bounds(shares: Shares) -> Region:
    rows, columns = np.flatnonzero(shares.any(axis=1)), np.flatnonzero(shares.any(axis=0))
    return Region(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _cut(pixels: NDArray[Any], area: Region) -> NDArray[Any]:
    return pixels[area.top : area.bottom, area.left : area.right]


def _scaled(pixels: Pixels, width: int, height: int) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = width * height < pixels.shape[0] * pixels.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), np.uint8)


def _notices(given: tuple[int, int], made: tuple[int, int]) -> tuple[str, ...]:
    if given == made:
        return ()
    return (
        f"The init picture of {given[0]}x{given[1]} pixels was fitted to {made[0]}x{made[1]}:"
        f" sides are multiples of {_STEP}.",
    )
