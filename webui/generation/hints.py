"""Hints: what a ControlNet is shown, made of a pose or a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import torch
from PIL import Image

from webui.clearance import Region
from webui.generation.annotators import NETWORKS, Options, Picture, annotate
from webui.generation.poses import draw_pose
from webui.poses import Pose
from webui.request import ControlResize, Preprocessor


@dataclass(frozen=True)
class Area:
    """A part of a picture, and the width and height in pixels it is worked on at."""

    part: Region
    width: int
    height: int


@dataclass(frozen=True)
class Hint:
    """Everything a hint depends on.

    Attributes:
        source: Content hash of a picture, or a pose.
        options: What the preprocessor is to do; `None` for a pose and for "none".
        width, height: Pixels of the picture to be made.
        area: The part of it the model works on, and the size in pixels it works at; `None` where
            that is all of it as it is.
    """

    source: str | Pose
    preprocessor: Preprocessor
    options: Options | None
    resize: ControlResize
    width: int
    height: int
    area: Area | None = None


def make_hint(
    hint: Hint, picture: Image.Image | None, folders: tuple[Path, ...], device: str
) -> torch.Tensor:
    """The hint as bytes of RGB, 3 x height x width of what the model works on.

    Args:
        picture: The one whose content hash the hint names, if it names one.
        folders: Where the preprocessors' weights lie.

    Raises:
        NotFoundError: The picture, or what draws it, is not here.
        BrokenFileError: The preprocessor's weights are damaged.
    """
    if isinstance(hint.source, Pose):
        drawn = np.asarray(_posed(hint.source, hint))
    else:
        assert picture is not None
        drawn = _worked(_preprocessed(hint, picture, folders, device), hint.area)
    return torch.tensor(np.ascontiguousarray(drawn.transpose(2, 0, 1)))


def _posed(pose: Pose, hint: Hint) -> Image.Image:
    """The pose drawn at the size it comes to, on black."""
    width, height = _scaled_size(pose.width, pose.height, hint)
    across, down = pose.width / width, pose.height / height
    left, top = (hint.width - width) / 2, (hint.height - height) / 2
    people = tuple(
        tuple((x / across + left, y / down + top, seen) for x, y, seen in person)
        for person in pose.people
    )
    area = hint.area or Area(Region(0, 0, hint.width, hint.height), hint.width, hint.height)
    part = area.part
    people = tuple(
        tuple((x - part.left, y - part.top, seen) for x, y, seen in person) for person in people
    )
    placed = Pose.model_construct(
        width=part.right - part.left, height=part.bottom - part.top, people=people
    )
    return draw_pose(placed, area.width, area.height)


def _worked(drawn: Picture, area: Area | None) -> Picture:
    if area is None:
        return drawn
    part = drawn[area.part.top : area.part.bottom, area.part.left : area.part.right]
    return np.asarray(cv2.resize(part, (area.width, area.height)), np.uint8)


def _preprocessed(
    hint: Hint, picture: Image.Image, folders: tuple[Path, ...], device: str
) -> Picture:
    """The picture at its new size, drawn by the preprocessor; black where it does not reach."""
    width, height = _scaled_size(*picture.size, hint)
    picture = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - hint.width) // 2, (height - hint.height) // 2
    seen = (
        max(0, left),
        max(0, top),
        max(0, left) + min(width, hint.width),
        max(0, top) + min(height, hint.height),
    )
    drawn = _drawn(np.array(picture.crop(seen)), hint, folders, device)
    whole = np.zeros((hint.height, hint.width, 3), np.uint8)
    row, column = max(0, -top), max(0, -left)
    whole[row : row + drawn.shape[0], column : column + drawn.shape[1]] = drawn
    return whole


def _drawn(picture: Picture, hint: Hint, folders: tuple[Path, ...], device: str) -> Picture:
    if hint.options is None:
        return picture
    if hint.preprocessor in NETWORKS:
        return annotate(hint.preprocessor, picture, hint.options, folders, device)
    return _looked_at(picture, hint.options, _DRAWERS[hint.preprocessor])


def _looked_at(
    picture: Picture, options: Options, draw: Callable[[Picture, Options], Picture]
) -> Picture:
    """What is drawn of the picture at the asked resolution, at its own size."""
    height, width = picture.shape[:2]
    scale = options.resolution / min(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    seen = cv2.resize(picture, size, interpolation=method) if scale != 1 else picture
    drawn = cv2.resize(
        draw(np.asarray(seen, np.uint8), options), (width, height), interpolation=cv2.INTER_LINEAR
    )
    return np.asarray(np.stack([drawn] * 3, axis=-1) if drawn.ndim == 2 else drawn, np.uint8)


def _canny(picture: Picture, options: Options) -> Picture:
    """White edges on black (Canny 1986)."""
    return np.asarray(cv2.Canny(picture, options.low, options.high), np.uint8)


def _blurred(picture: Picture, _: Options) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (_BLUR, _BLUR), 0), np.uint8)


_BLUR = 51
"""Pixels of the kernel, as Stability blurs for Stable Diffusion 3.5."""


def _grey(picture: Picture, _: Options) -> Picture:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


_DRAWERS: Mapping[Preprocessor, Callable[[Picture, Options], Picture]] = MappingProxyType(
    {"canny": _canny, "blur": _blurred, "gray": _grey}
)
"""Those that are no networks."""


def _scaled_size(width: int, height: int, hint: Hint) -> tuple[int, int]:
    """Width and height (pixels) that the hint's source is scaled to."""
    across, down = hint.width / width, hint.height / height
    match hint.resize:
        case "stretch":
            return hint.width, hint.height
        case "crop":
            scale = max(across, down)
        case "fill":
            scale = min(across, down)
    return max(1, round(width * scale)), max(1, round(height * scale))
