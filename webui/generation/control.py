"""What can steer a picture: the kinds of hints, what makes them, and how one is made."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from webui.clearance import Region
from webui.errors import BadRequestError, NotFoundError
from webui.generation.annotators import NETWORKS, Options, Picture, annotate
from webui.generation.poses import draw_pose
from webui.library.checkpoints import ModelFolder
from webui.library.controlnets import ControlNetFolder, ControlNetShelf
from webui.poses import Pose
from webui.request import ControlChoice, ControlKind, ControlResize, Preprocessor, nearest


@dataclass(frozen=True)
class Kind:
    """One row: what a hint of that kind shows.

    Attributes:
        preprocessors: What makes it of a picture, the usual one first.
        words: A ControlNet with one of them in its name is of that kind.
    """

    preprocessors: tuple[Preprocessor, ...]
    words: tuple[str, ...]


KINDS: Mapping[ControlKind, Kind] = MappingProxyType(
    {
        "pose": Kind(("openpose", "openpose full", "none"), ("openpose", "pose")),
        "canny": Kind(("canny", "none"), ("canny",)),
        "soft edge": Kind(("hed", "none"), ("softedge", "soft_edge", "soft-edge", "hed")),
        "line art": Kind(("line art", "canny", "none"), ("lineart", "line_art", "line-art")),
        "scribble": Kind(("scribble hed", "none"), ("scribble",)),
        "depth": Kind(("depth", "none"), ("depth",)),
        "normal": Kind(("normal bae", "normal depth", "none"), ("normal",)),
        "lines": Kind(("mlsd", "none"), ("mlsd",)),
        "segment": Kind(("segment", "none"), ("seg",)),
        "other": Kind(("none",), ()),
    }
)


@dataclass(frozen=True)
class Thresholds:
    """A preprocessor's two thresholds: where they usually are, and the highest."""

    low: float
    high: float
    most: float


THRESHOLDS: Mapping[Preprocessor, Thresholds] = MappingProxyType(
    {"canny": Thresholds(100, 200, 255), "mlsd": Thresholds(0.1, 0.1, 20)}
)


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


@dataclass(frozen=True)
class Control:
    """A control unit with nothing left open.

    Attributes:
        start, end: Share of the steps at which it begins and ends to steer.
    """

    hint: Hint
    net: ControlNetFolder
    weight: float
    start: float
    end: float


def resolve_control(
    choice: ControlChoice,
    model: ModelFolder,
    shelf: ControlNetShelf,
    width: int,
    height: int,
    area: Area | None = None,
) -> Control:
    """Decides what a control unit leaves open.

    Args:
        width, height: Pixels of the picture to be made.
        area: The part of it that is worked on.

    Raises:
        BadRequestError: It has a preprocessor its kind has no use for, or a setting that has no
            effect, or its ControlNet is made for other models.
        NotFoundError: No ControlNet of its kind is here.
        BrokenFileError: A file of the ControlNet is damaged.
    """
    hint = replace(_hint(choice, width, height), area=area)
    net = _net(choice, model, shelf)
    return Control(hint, net, choice.weight, choice.start, choice.end)


def _hint(choice: ControlChoice, width: int, height: int) -> Hint:
    if choice.pose is not None:
        return Hint(choice.pose, "none", None, choice.resize, width, height)
    known = KINDS[choice.kind].preprocessors
    name = choice.preprocessor or known[0]
    if name not in known:
        raise BadRequestError(
            f"The preprocessor {name!r} does not draw what the kind {choice.kind!r} is about:"
            f" {nearest(name, known)}",
            field="controls",
        )
    options = _options(choice, name, min(width, height))
    assert choice.picture is not None
    return Hint(choice.picture, name, options, choice.resize, width, height)


def _options(choice: ControlChoice, name: Preprocessor, side: int) -> Options | None:
    bounds = THRESHOLDS.get(name)
    if bounds is None and (choice.low is not None or choice.high is not None):
        raise BadRequestError(
            f"The preprocessor {name!r} has no thresholds: remove low and high.", field="controls"
        )
    if name == "none":
        if choice.resolution is not None:
            raise BadRequestError(
                "Without a preprocessor a resolution has no effect: remove it.", field="controls"
            )
        return None
    if bounds is None:
        return Options(choice.resolution or side, 0.0, 0.0)
    low = bounds.low if choice.low is None else choice.low
    high = bounds.high if choice.high is None else choice.high
    if max(low, high) > bounds.most:
        raise BadRequestError(
            f"The thresholds of {name!r} go to {bounds.most:g}.", field="controls"
        )
    return Options(choice.resolution or side, low, high)


def _net(choice: ControlChoice, model: ModelFolder, shelf: ControlNetShelf) -> ControlNetFolder:
    """The ControlNet the unit names, or the first of its kind that fits the model."""
    unet = model.config("unet")
    if choice.model is not None:
        folder = shelf.folder(choice.model)
        _check_fits(folder, unet, model)
        return shelf.find(choice.model)
    if choice.kind == "other":
        raise BadRequestError("A control of the kind 'other' needs a model.", field="controls")
    of_kind = [net for net in map(shelf.folder, shelf.names()) if is_of_kind(net, choice.kind)]
    fitting = [net.name for net in of_kind if fits(net, unet)]
    if not fitting:
        others = f" ({of_kind[0].name} is made for other models)" if of_kind else ""
        raise NotFoundError(
            f"There is no ControlNet of the kind {choice.kind!r} for {model.name!r}{others}: put"
            f" one into {shelf.place}.",
            field="controls",
        )
    return shelf.find(fitting[0])


def is_of_kind(net: ControlNetFolder, kind: ControlKind) -> bool:
    """Whether the ControlNet reads hints of that kind, by what it says or is called."""
    if net.kind:
        return net.kind == kind
    return any(word in net.name.casefold() for word in KINDS[kind].words)


_SHAPE = ("block_out_channels", "cross_attention_dim", "layers_per_block", "in_channels")


def fits(net: ControlNetFolder, unet: Mapping[str, Any]) -> bool:
    """Whether the ControlNet steers a UNet of that configuration."""
    # A UNet for inpainting takes more channels, of which the first are the latents.
    return all(
        net.config.get(name) == unet.get(name) for name in _SHAPE if name != "in_channels"
    ) and int(net.config.get("in_channels", 4)) <= int(unet.get("in_channels", 4))


def _check_fits(net: ControlNetFolder, unet: Mapping[str, Any], model: ModelFolder) -> None:
    if net.class_name != "ControlNetModel":
        raise BadRequestError(
            f"{net.name!r} is a {net.class_name}; served is: ControlNetModel.", field="controls"
        )
    if not fits(net, unet):
        raise BadRequestError(
            f"The ControlNet {net.name!r} is made for other models than {model.name!r}.",
            field="controls",
        )


def make_hint(
    hint: Hint, read: Callable[[str], bytes], folders: tuple[Path, ...], device: str
) -> torch.Tensor:
    """The hint as bytes of RGB, 3 x height x width of what the model works on.

    Args:
        read: Gives the PNG file of a picture by its content hash.
        folders: Where the preprocessors' weights lie.

    Raises:
        NotFoundError: The picture, or what draws it, is not here.
        BrokenFileError: The preprocessor's weights are damaged.
    """
    if isinstance(hint.source, Pose):
        drawn = np.asarray(_posed(hint.source, hint))
    else:
        drawn = _worked(_preprocessed(hint, read(hint.source), folders, device), hint.area)
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


def _preprocessed(hint: Hint, data: bytes, folders: tuple[Path, ...], device: str) -> Picture:
    """The picture at its new size, drawn by the preprocessor; black where it does not reach."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
        picture = opened.convert("RGB")
    width, height = _scaled_size(*picture.size, hint)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
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
    return _canny(picture, hint.options)


def _canny(picture: Picture, options: Options) -> Picture:
    """White edges on black (Canny 1986), found at the asked resolution."""
    height, width = picture.shape[:2]
    scale = options.resolution / min(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    looked_at = cv2.resize(picture, size, interpolation=method) if scale != 1 else picture
    edges = cv2.Canny(looked_at, options.low, options.high)
    edges = cv2.resize(edges, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.stack([edges] * 3, axis=-1), np.uint8)


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
