"""What can steer a picture: the kinds of hints, and which ControlNet reads them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from PIL import Image

from webui.errors import BadRequestError, NotFoundError
from webui.generation.annotators import Options
from webui.generation.canvas import Brought
from webui.generation.hints import Area, Hint
from webui.library.checkpoints import ModelFolder
from webui.library.controlnets import ControlNetFolder, ControlNetShelf
from webui.request import ControlChoice, ControlKind, Preprocessor, nearest


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
class Control:
    """A control unit with nothing left open.

    Attributes:
        place: Its place in the request's controls, from 0.
        picture: What the hint is made of, if not of a pose.
        start, end: Share of the steps at which it begins and ends to steer.
    """

    place: int
    hint: Hint
    picture: Image.Image | None = field(compare=False, repr=False)
    net: ControlNetFolder
    weight: float
    start: float
    end: float


@contextmanager
def about_control(place: int) -> Generator[None]:
    """Has errors name the control unit they are about."""
    try:
        yield
    except BadRequestError as error:
        raise type(error)(error.message, field=f"controls.{place}") from None


def resolve_control(
    place: int,
    choice: ControlChoice,
    model: ModelFolder,
    shelf: ControlNetShelf,
    brought: Mapping[str, Brought],
    width: int,
    height: int,
    area: Area | None = None,
) -> Control:
    """Decides what a control unit leaves open.

    Args:
        place: The unit's place in the request's controls, from 0.
        brought: The pictures brought in, by the names the unit has for them.
        width, height: Pixels of the picture to be made.
        area: The part of it that is worked on.

    Raises:
        BadRequestError: It has a preprocessor its kind has no use for, or a setting that has no
            effect, or its ControlNet is made for other models.
        NotFoundError: No ControlNet of its kind is here.
        BrokenFileError: A file of the ControlNet is damaged.
    """
    picture = None if choice.picture is None else brought[choice.picture]
    source = picture.id if picture is not None else choice.pose
    assert source is not None
    preprocessor, options = _preprocessing(choice, min(width, height))
    hint = Hint(source, preprocessor, options, choice.resize, width, height, area)
    image = None if picture is None else picture.image
    net = _net(choice, model, shelf)
    return Control(place, hint, image, net, choice.weight, choice.start, choice.end)


def _preprocessing(choice: ControlChoice, side: int) -> tuple[Preprocessor, Options | None]:
    if choice.pose is not None:
        return "none", None
    known = KINDS[choice.kind].preprocessors
    name = choice.preprocessor or known[0]
    if name not in known:
        raise BadRequestError(
            f"The preprocessor {name!r} does not draw what the kind {choice.kind!r} is about:"
            f" {nearest(name, known)}",
            field="controls",
        )
    return name, _options(choice, name, side)


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
