"""Looks at a picture from several sides and reports the worst that was seen."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webui.clearance import Region
from webui.errors import BrokenFileError
from webui.safety.classifiers import Classifiers
from webui.safety.detector import LABELS, SIDE, Detector, Views
from webui.safety.policy import Scores

Picture = NDArray[np.uint8]
"""Height x width x 3, RGB, 0..255."""

FaceFinder = Callable[[Views], list[list[Region]]]
"""Tells where the faces are in each view, in its pixels."""

MAX_SIDE = 4096
TILED_ABOVE = 640
"""A picture longer than this is also looked at in tiles: reduced to one view, a small figure
in it would be lost."""

FINE = 512
"""Longest side in pixels of what classifiers are given; the largest of them reads 448."""

_TILE_OVERLAP = 0.25
_AROUND_FACE = 0.25
"""Share of a face's size that is shown on each side of it, as in the pictures of FairFace."""

_LEAST_REGION = SIDE // 2
"""Pixels of a region's side; a smaller one, enlarged more than twice, would be judged by its blur:
of 28 repainted shirts of 256-pixel mannequins 6 were refused at 64 pixels, none of 24 at 160."""

MOSAIC = 12
_ORIENTATION = 0x0112
_GENITALIA = ("FEMALE_GENITALIA_EXPOSED", "MALE_GENITALIA_EXPOSED")
_ANUS = ("ANUS_EXPOSED",)
_BUST_OR_BUTTOCKS = ("FEMALE_BREAST_EXPOSED", "BUTTOCKS_EXPOSED")


def decode(data: bytes) -> Picture:
    """The pixels a viewer will show for these bytes.

    Raises:
        BrokenFileError: Not one still, opaque, upright RGB picture as PNG or JPEG of at most
            `MAX_SIDE` pixels a side; anything else could show more than what is checked.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            if not _shows_only_its_pixels(picture):
                raise ValueError(f"{picture.mode} {picture.size}")
            return np.asarray(picture.convert("RGB"))
    except Exception as error:
        # Decoders raise a dozen unrelated types on damaged files, SyntaxError among them.
        raise BrokenFileError("The picture is damaged, or no plain RGB picture.") from error


def _shows_only_its_pixels(picture: Image.Image) -> bool:
    plain = picture.mode in ("RGB", "L") and "transparency" not in picture.info
    still = getattr(picture, "n_frames", 1) == 1
    upright = picture.getexif().get(_ORIENTATION, 1) == 1
    return plain and still and upright and max(picture.size) <= MAX_SIDE


class Part(NamedTuple):
    """A part of a picture, in its own size.

    Attributes:
        every_way: Whether it is also looked at turned, inverted and with other colours.
    """

    pixels: Picture
    every_way: bool


@dataclass(frozen=True)
class PictureViews:
    """What is looked at of a picture."""

    parts: tuple[Part, ...]

    def squares(self) -> Views:
        """For the detector: each view reduced or enlarged to fill a square one way."""
        return np.stack([_padded(view) for view in self._seen(_fitted, tinted=True)])

    def pieces(self) -> list[Picture]:
        """For classifiers: each view in its shape, reduced to `FINE` pixels a side at most."""
        return list(self._seen(_reduced, tinted=True))

    def portraits(self, find: FaceFinder) -> list[Picture]:
        """For an estimator of age: the views in the picture's own colours, and each face found
        in them with some of what is around it."""
        views = list(self._seen(_unchanged, tinted=False))
        found = find(np.stack([_padded(_fitted(view)) for view in views]))
        faces = (
            _face(view, region)
            for view, regions in zip(views, found, strict=True)
            for region in regions
        )
        return [_reduced(each) for each in (*views, *faces)]

    def _seen(self, sized: Callable[[Picture], Picture], *, tinted: bool) -> Iterator[Picture]:
        for pixels, every_way in self.parts:
            view = sized(pixels)
            yield view
            if every_way:
                yield view[::-1, ::-1]
            if every_way and tinted:
                yield 255 - view
                yield view[..., ::-1]


def worst_scores(detector: Detector, classifiers: Classifiers, views: PictureViews) -> Scores:
    """The worst of each kind over all views. A score that no working guard gives is 1."""
    squares = views.squares()
    found = np.asarray(detector.scores(squares), dtype=np.float64)
    if found.shape != (len(squares), len(LABELS)):
        found = np.ones((1, len(LABELS)))
    sound = np.where((found >= 0) & (found <= 1), found, 1.0).max(axis=0)
    worst = dict(zip(LABELS, sound.tolist(), strict=True))
    seen = classifiers.see(views)
    return Scores(
        genitalia=max(worst[label] for label in _GENITALIA),
        anus=max(worst[label] for label in _ANUS),
        bust_or_buttocks=max(worst[label] for label in _BUST_OR_BUTTOCKS),
        explicit=seen.explicit,
        suggestive=seen.suggestive,
        nudity=seen.nudity,
        young=seen.young,
    )


def all_views(picture: Picture) -> PictureViews:
    """The whole picture as it is, turned by 180 degrees, inverted and with red and blue
    swapped, then the tiles of a large one."""
    tiles = (Part(tile, every_way=False) for tile in _tiles(picture))
    return PictureViews((Part(picture, every_way=True), *tiles))


def views_of(region: Region) -> Callable[[Picture], PictureViews]:
    """What `all_views` gives of the region as a picture of its own."""
    return lambda picture: all_views(_crop(picture, region))


def views_with(region: Region) -> Callable[[Picture], PictureViews]:
    """What `all_views` gives, and the same of the region as a picture of its own."""
    own = views_of(region)
    return lambda picture: PictureViews((*all_views(picture).parts, *own(picture).parts))


def whole_view(picture: Picture) -> PictureViews:
    """The whole picture as the only view, for small frames."""
    return PictureViews((Part(picture, every_way=False),))


def mosaic(picture: Picture) -> Picture:
    """The picture as 12 x 12 squares of one colour each, in its own size."""
    height, width = picture.shape[:2]
    coarse = cv2.resize(picture, (MOSAIC, MOSAIC), interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8
    )


def encode_jpeg(picture: Picture) -> bytes:
    """The picture as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def _crop(picture: Picture, region: Region) -> Picture:
    """The region, with what lies around it where it is too small to show anything."""
    height, width = picture.shape[:2]
    left, right = _at_least(_LEAST_REGION, region.left, region.right, width)
    top, bottom = _at_least(_LEAST_REGION, region.top, region.bottom, height)
    return picture[top:bottom, left:right]


def _at_least(least: int, start: int, end: int, length: int) -> tuple[int, int]:
    """Start and end within the length, moved apart to the least distance where there is room."""
    start, end = max(0, min(start, length - 1)), max(1, min(end, length))
    missing = max(0, least - (end - start))
    start = max(0, min(start - missing // 2, length - least))
    return start, min(length, max(end, start + least))


def _tiles(picture: Picture) -> Iterator[Picture]:
    """Overlapping squares that cover the picture, the last of a row flush with its end."""
    height, width = picture.shape[:2]
    if max(height, width) <= TILED_ABOVE:
        return
    side = max(SIDE, min(height, width, TILED_ABOVE))
    for top in _offsets(height, side):
        for left in _offsets(width, side):
            yield picture[top : top + side, left : left + side]


def _offsets(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    count = 1 + math.ceil((length - side) / (side * (1 - _TILE_OVERLAP)))
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _fitted(picture: Picture) -> Picture:
    """The picture so that its longer side is `SIDE`."""
    return _scaled(picture, SIDE / max(picture.shape[:2]))


def _face(view: Picture, region: Region) -> Picture:
    """A face found in the square of a view, in the view's own size."""
    height, width = view.shape[:2]
    scale = max(height, width) / SIDE
    margin = _AROUND_FACE * max(region.right - region.left, region.bottom - region.top)
    left, top = (max(0, round(scale * (edge - margin))) for edge in (region.left, region.top))
    right, bottom = (round(scale * (edge + margin)) for edge in (region.right, region.bottom))
    return view[min(top, height - 1) : max(bottom, 1), min(left, width - 1) : max(right, 1)]


def _unchanged(picture: Picture) -> Picture:
    return picture


def _reduced(picture: Picture) -> Picture:
    return _scaled(picture, min(1.0, FINE / max(picture.shape[:2])))


def _scaled(picture: Picture, scale: float) -> Picture:
    """The picture in another size. Shrinking averages: no pixel is skipped."""
    height, width = picture.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # Turned views are no arrays that it reads.
    picture = np.ascontiguousarray(picture)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size, interpolation=method), dtype=np.uint8)


def _padded(view: Picture) -> Picture:
    """A view on a black square, at its top left as the detector's package does."""
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    square[: view.shape[0], : view.shape[1]] = view
    return square
