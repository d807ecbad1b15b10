"""What a control unit of a request leaves open, decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

from webui.errors import BadRequestError, NotFoundError
from webui.generation.annotators import Options
from webui.generation.canvas import Brought
from webui.generation.control_kinds import (
    HINTED_GUIDANCE,
    KINDS,
    THRESHOLDS,
    check_fits,
    fitting_nets,
    is_of_kind,
    is_told,
    sees_mask,
    union_type,
)
from webui.generation.facts import denoiser_config
from webui.generation.families import family_of
from webui.generation.hints import Area, Hint
from webui.library.checkpoints import Model
from webui.library.controlnet_files import CONTROL_LORA
from webui.library.controlnets import ControlNetFolder, ControlNetShelf
from webui.request import ControlChoice, ControlKind, Preprocessor, nearest


@dataclass(frozen=True)
class Control:
    """A control unit with nothing left open.

    Attributes:
        place: Its place in the request's controls, from 0.
        picture: What the hint is made of, if not of a pose.
        net: What reads the hint; None where the model does so itself.
        union_type: What the hint is to a union model; None for a ControlNet of one kind.
        start, end: Share of the steps at which it begins and ends to steer.
        kind: What the hint shows.
    """

    place: int
    hint: Hint
    picture: Image.Image | None = field(compare=False, repr=False)
    net: ControlNetFolder | None
    union_type: int | None
    weight: float
    start: float
    end: float
    kind: ControlKind = "other"

    @property
    def controlnet(self) -> ControlNetFolder | None:
        """The network that is asked beside the model; None where that reads the hint itself."""
        return None if self.is_lora else self.net

    @property
    def is_lora(self) -> bool:
        """Whether it is a LoRA that has the model read the hint."""
        return self.net is not None and self.net.class_name == CONTROL_LORA

    @property
    def inpaints(self) -> bool:
        """Whether its picture is shown without what is painted anew, and where that is."""
        return self.kind == "inpaint" or self.sees_mask

    @property
    def sees_mask(self) -> bool:
        """Whether its ControlNet has channels of its own for where that is."""
        return self.net is not None and sees_mask(self.net)

    @property
    def guidance(self) -> float | None:
        """The distilled guidance it was made for, where it has the model read the hint."""
        return HINTED_GUIDANCE.get(self.kind) if self.is_lora or self.net is None else None


def resolve_control(
    place: int,
    choice: ControlChoice,
    model: Model,
    shelf: ControlNetShelf,
    brought: Mapping[str, Brought],
    width: int,
    height: int,
    area: Area | None = None,
    *,
    masked: bool = False,
) -> Control:
    """Decides what a control unit leaves open.

    Args:
        place: The unit's place in the request's controls, from 0.
        brought: The pictures brought in, by the names the unit has for them.
        width, height: Pixels of the picture to be made.
        area: The part of it that is worked on.
        masked: Whether a part of it alone is painted anew.

    Raises:
        BadRequestError: It has a preprocessor its kind has no use for, or a setting that has no
            effect, or its ControlNet is made for other models, or needs a mask that is not there.
        NotFoundError: No ControlNet of its kind is here.
        BrokenFileError: A file of the ControlNet is damaged.
    """
    picture = None if choice.picture is None else brought[choice.picture]
    source = picture.id if picture is not None else choice.pose
    assert source is not None
    preprocessor, options = _preprocessing(choice, min(width, height))
    hint = Hint(source, preprocessor, options, choice.resize, width, height, area)
    image = None if picture is None else picture.image
    if family_of(model).hinted:
        net = number = None
    else:
        net = _net(choice, model, shelf)
        number = _union_type(net, choice)
    control = Control(
        place, hint, image, net, number, choice.weight, choice.start, choice.end, choice.kind
    )
    if control.inpaints and not masked:
        raise BadRequestError(
            "A control for inpainting is shown where a picture is painted anew: bring in a picture"
            " and cover that part with a mask, or remove the control.",
            field="controls",
        )
    return control


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


def _net(choice: ControlChoice, model: Model, shelf: ControlNetShelf) -> ControlNetFolder:
    """The ControlNet the unit names, or the first of its kind that fits the model."""
    denoiser = denoiser_config(model)
    if choice.model is not None:
        folder = shelf.folder(choice.model)
        check_fits(folder, denoiser, model)
        return shelf.find(choice.model)
    if choice.kind == "other":
        raise BadRequestError("A control of the kind 'other' needs a model.", field="controls")
    whole = [net for net in shelf.read_all().values() if isinstance(net, ControlNetFolder)]
    of_kind = [net for net in whole if is_of_kind(net, choice.kind)]
    fitting = fitting_nets(of_kind, choice.kind, denoiser)
    if not fitting:
        others = f" ({of_kind[0].name} is made for other models)" if of_kind else ""
        raise NotFoundError(
            f"There is no ControlNet of the kind {choice.kind!r} for {model.name!r}{others}: put"
            f" one into {shelf.place}.",
            field="controls",
        )
    return shelf.find(fitting[0].name)


def _union_type(net: ControlNetFolder, choice: ControlChoice) -> int | None:
    if not is_told(net):
        return None
    found = union_type(net, choice.kind)
    if found is None:
        raise BadRequestError(
            f"The ControlNet {net.name!r} reads no hints of the kind {choice.kind!r}.",
            field="controls",
        )
    return found
