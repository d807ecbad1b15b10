"""What is known of a model before it is loaded, from its configurations alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, cast

from webui.errors import BadRequestError, BrokenFileError
from webui.generation.control_kinds import HINTED_GUIDANCE, own_kinds
from webui.generation.families import Family, family_of
from webui.generation.few_steps import FewSteps, few_step_loras, few_steps, first_suited
from webui.generation.sampling import OPEN, Sampling, sampling_of
from webui.library.checkpoints import INDEX, Model, read_json
from webui.library.distilled import Distilled
from webui.library.loras import LoraShelf
from webui.request import GenerationRequest, nearest, parse_request

OWN_FACTS = "facts.json"
"""What a model may say of itself beside its configurations: the lowest and highest that are worth
it, and what it is to be run with, as in `{"cfg": [1, 2], "steps": [4, 8], "own": {"steps": 6}}`;
anything may be left out."""

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
_OWN = "own"
_LARGEST_SIDE = 8192


@dataclass(frozen=True)
class ModelFacts:
    """What a request to a model should be like.

    Attributes:
        width, height: Pixels of the pictures it was trained on.
        own: What it is run with where a request leaves it open.
        useful_cfg, useful_steps: Lowest and highest that are worth it.
        text_layers: Layers of its text encoder, the bound of clip skip; None where it has none.
        scheduler: Its scheduler's configuration, which tells how it was trained.
        distilled: For how few steps it was made, if it was.
    """

    name: str
    family: Family
    width: int
    height: int
    own: Sampling
    useful_cfg: tuple[float, float]
    useful_steps: tuple[int, int]
    text_layers: int | None
    scheduler: Mapping[str, Any] = field(hash=False)
    distilled: Distilled | None = None

    @property
    def unused(self) -> tuple[str, ...]:
        """Request fields that the model has no use for."""
        return tuple(self.family.unused)


@dataclass(frozen=True)
class Own:
    """What a request is run with where it leaves it open.

    Attributes:
        made_for: Name of the model or LoRA that was made for few steps; None where none was.
        suited: How that one is run.
    """

    sampling: Sampling
    made_for: str | None = None
    suited: FewSteps | None = None

    @property
    def shift(self) -> float | None:
        """The shift of the noise levels in place of the model's own, if any."""
        return None if self.suited is None else self.suited.shift


def read_facts(model: Model) -> ModelFacts:
    """The model's facts.

    Raises:
        BadRequestError: The model is of a kind that is not served.
        BrokenFileError: A configuration, or the model's own facts, cannot be made sense of.
    """
    family = family_of(model)
    side = trained_size(model)
    said = _own_facts(model)
    return ModelFacts(
        name=model.name,
        family=family,
        width=side,
        height=side,
        own=_own(model, family, said),
        useful_cfg=said.get("cfg", family.useful_cfg),
        useful_steps=said.get("steps", family.useful_steps),
        text_layers=None if "clip_skip" in family.refused else _text_layers(model),
        scheduler=MappingProxyType(model.config("scheduler")),
        distilled=None if model.facts is None else model.facts.distilled,
    )


def own_of(facts: ModelFacts, loras: Mapping[str, Distilled] = MappingProxyType({})) -> Own:
    """What a request to the model is run with where it leaves it open.

    Args:
        loras: Those of the request that were made for few steps, by name.
    """
    name, suited = first_suited(loras, facts.family, facts.scheduler)
    if suited is not None:
        return Own(suited.sampling, name, suited)
    if facts.distilled is not None:
        suited = few_steps(facts.distilled, facts.family, facts.scheduler)
    return Own(facts.own, None if suited is None else facts.name, suited)


def find_own(request: GenerationRequest, model: Model, loras: LoraShelf) -> Own:
    """What the request is run with where it leaves it open: as its LoRAs or the model need it.

    Raises:
        BadRequestError: The model is of a kind that is not served.
        BrokenFileError: A configuration, or the model's own facts, cannot be made sense of.
    """
    return own_of(read_facts(model), few_step_loras(request, loras))


def find_sampling(request: GenerationRequest, model: Model, loras: LoraShelf) -> Sampling:
    """How the request's noise is removed: as it says, otherwise as `find_own`."""
    return sampling_of(request, find_own(request, model, loras).sampling)


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


def _own(model: Model, family: Family, said: Mapping[str, Any]) -> Sampling:
    """By what the model says itself, then by its name, then by its family."""
    distilled = None if model.facts is None else model.facts.distilled
    trained = model.config("scheduler")
    suited = None if distilled is None else few_steps(distilled, family, trained)
    own = family.own if suited is None else suited.sampling
    if family.hinted:
        own = replace(own, guidance=HINTED_GUIDANCE[own_kinds(model)[0]])
    bands: dict[str, tuple[Any, Any]] = {name: said[name] for name in _BANDS if name in said}
    for name, (low, high) in bands.items():
        own = replace(own, **{name: min(max(getattr(own, name), low), high)})
    return sampling_of(said.get(_OWN, GenerationRequest()), own)


def _own_facts(model: Model) -> dict[str, Any]:
    """What the model says itself: each band in the type of the request's field, and a request."""
    if not (model.path / OWN_FACTS).exists():
        return {}
    try:
        said = read_json(model.path / OWN_FACTS, model=model.name)
        return {
            name: _own_request(value) if name == _OWN else _band(name, value)
            for name, value in said.items()
        }
    except BadRequestError as error:
        raise BrokenFileError(
            f"The model {model.name!r} has a damaged {OWN_FACTS}: remove or mend it."
            + ("" if isinstance(error, BrokenFileError) else f" {error.message}"),
            field="model",
        ) from None


def _own_request(said: object) -> GenerationRequest:
    if not isinstance(said, dict):
        raise BadRequestError(f"{_OWN} must name fields and values, such as {{'steps': 8}}.")
    values = cast(dict[str, Any], said)
    for name in values:
        if name not in OPEN:
            raise BadRequestError(f"Unknown key {name[:40]!r} in {_OWN}: {nearest(name, OPEN)}")
    return parse_request(values)


def _band(name: str, ends: object) -> tuple[Any, Any]:
    if name not in _BANDS:
        known = (*_BANDS, _OWN)
        raise BadRequestError(f"Unknown key {name[:40]!r}: {nearest(name, known)}")
    values = cast(list[Any], ends) if isinstance(ends, list) else []
    read = [getattr(parse_request({name: value}), name) for value in values]
    if len(read) != 2 or None in read or read[0] > read[1]:
        raise BadRequestError(f"{name} must be the lowest and the highest, such as [4, 8].")
    return read[0], read[1]
