"""What is known of a model before it is loaded, from its configurations alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

from webui.errors import BadRequestError, BrokenFileError
from webui.generation.families import Family, family_of
from webui.library.checkpoints import INDEX, Model, read_json
from webui.library.distilled import Distilled
from webui.request import nearest, parse_request

OWN_FACTS = "facts.json"
"""What a model may say of itself beside its configurations: the lowest and highest that are worth
it, as in `{"cfg": [1, 2], "steps": [4, 8]}`; either may be left out."""

SOURCES = (
    INDEX,
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "text_encoder_2/config.json",
    "scheduler/scheduler_config.json",
    OWN_FACTS,
)
"""The files in a model's folder that `read_facts` reads."""

_BANDS = ("cfg", "steps")
_LARGEST_SIDE = 8192


@dataclass(frozen=True)
class ModelFacts:
    """What a request to a model should be like.

    Attributes:
        width, height: Pixels of the pictures it was trained on.
        useful_cfg, useful_steps: Lowest and highest that are worth it.
        text_layers: Layers of its text encoder, the bound of clip skip; None where it has none.
        scheduler: Its scheduler's configuration, which tells how it was trained.
        distilled: For how few steps it was made, if it was.
    """

    name: str
    family: Family
    width: int
    height: int
    useful_cfg: tuple[float, float]
    useful_steps: tuple[int, int]
    text_layers: int | None
    scheduler: Mapping[str, Any] = field(hash=False)
    distilled: Distilled | None = None

    @property
    def unused(self) -> tuple[str, ...]:
        """Request fields that the model has no use for."""
        return tuple(self.family.unused)


def read_facts(model: Model) -> ModelFacts:
    """The model's facts.

    Raises:
        BadRequestError: The model is of a kind that is not served.
        BrokenFileError: A configuration, or the model's own facts, cannot be made sense of.
    """
    family = family_of(model)
    side = trained_size(model)
    own = _own_bands(model)
    return ModelFacts(
        name=model.name,
        family=family,
        width=side,
        height=side,
        useful_cfg=own.get("cfg", family.useful_cfg),
        useful_steps=own.get("steps", family.useful_steps),
        text_layers=None if "clip_skip" in family.refused else _text_layers(model),
        scheduler=MappingProxyType(model.config("scheduler")),
        distilled=None if model.facts is None else model.facts.distilled,
    )


def trained_size(model: Model) -> int:
    """Side in pixels of the pictures the model was trained on.

    Raises:
        BadRequestError: The model is of a kind that is not served.
        BrokenFileError: The configurations of its UNet and VAE do not say it.
    """
    own = family_of(model).side
    if own is not None:
        return own
    try:
        levels = len(model.config("vae")["block_out_channels"])
        side = int(model.config("unet")["sample_size"]) << (levels - 1)
    except (KeyError, TypeError, ValueError, OverflowError):
        side = 0
    if not 8 <= side <= _LARGEST_SIDE:
        raise BrokenFileError(
            f"The model {model.name!r} does not say its size: mend unet/config.json and"
            " vae/config.json.",
            field="model",
        )
    return side


def denoiser_config(model: Model) -> dict[str, Any]:
    """The configuration of what predicts the noise.

    Raises:
        BadRequestError: The model is of a kind that is not served.
        BrokenFileError: The configuration is missing or damaged.
    """
    return model.config("transformer" if family_of(model).flow else "unet")


def check_clip_skip(clip_skip: int, layers: int | None) -> None:
    """Passes what a text encoder of so many layers can do.

    Raises:
        BadRequestError: `clip_skip` reaches past the encoder's first layer.
    """
    if layers is not None and not 1 <= clip_skip <= layers:
        raise BadRequestError(
            f"Clip skip is {clip_skip}: this model's text encoder has {layers} layers.",
            field="clip_skip",
        )


def _text_layers(model: Model) -> int:
    part = "text_encoder" if (model.path / "text_encoder").is_dir() else "text_encoder_2"
    layers: Any = model.config(part).get("num_hidden_layers")
    if not isinstance(layers, int) or layers < 1:
        raise BrokenFileError(
            f"The model {model.name!r} does not say how many layers its text encoder has: mend"
            f" {part}/config.json.",
            field="model",
        )
    return layers


def _own_bands(model: Model) -> dict[str, tuple[Any, Any]]:
    """Each band that the model brings itself, its ends in the type of the request's field."""
    if not (model.path / OWN_FACTS).exists():
        return {}
    try:
        said = read_json(model.path / OWN_FACTS, model=model.name)
        return {name: _band(name, ends) for name, ends in said.items()}
    except BadRequestError as error:
        raise BrokenFileError(
            f"The model {model.name!r} has a damaged {OWN_FACTS}: remove or mend it."
            + ("" if isinstance(error, BrokenFileError) else f" {error.message}"),
            field="model",
        ) from None


def _band(name: str, ends: object) -> tuple[Any, Any]:
    if name not in _BANDS:
        raise BadRequestError(f"Unknown key {name[:40]!r}: {nearest(name, _BANDS)}")
    values = cast(list[Any], ends) if isinstance(ends, list) else []
    low, *others = (getattr(parse_request({name: value}), name) for value in values or [None])
    if len(others) != 1 or low > others[0]:
        raise BadRequestError(f"{name} must be the lowest and the highest, such as [4, 8].")
    return low, others[0]
