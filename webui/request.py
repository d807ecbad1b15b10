"""What can be asked for: the one truth of fields, ranges, units, defaults and help.

Widgets, command-line flags, presets, PNG metadata and the API schema are derived from
`GenerationRequest`; no range, default or help text is written anywhere else.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from webui.errors import BadRequestError
from webui.poses import Pose

SamplerName = Literal[
    "Euler",
    "Euler a",
    "DPM++ 2M",
    "DPM++ 2M SDE",
    "DPM++ 3M",
    "DPM++ SDE",
    "Heun",
    "DPM2",
    "DPM2 a",
    "LMS",
    "UniPC",
    "DEIS",
    "DDIM",
    "DDPM",
    "PNDM",
    "LCM",
    "TCD",
]
ScheduleName = Literal["normal", "karras", "exponential", "beta", "sgm uniform"]

SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)

PredictionName = Literal["epsilon", "v", "v_zero_snr"]
PREDICTIONS: tuple[PredictionName, ...] = get_args(PredictionName)

SpeedName = Literal["full", "compiled", "quick", "quickest"]
SPEEDS: tuple[SpeedName, ...] = get_args(SpeedName)

MAX_SEED = 2**53 - 1
"""Largest integer that every JSON reader, a browser's included, keeps exact."""

DRAWN_SEEDS = 2**32
"""A drawn seed stays within what other tools accept."""

MAX_PROMPT_CHARACTERS = 2_000

MAX_STEPS = 150

MAX_SIDE = 2048
"""Longest side of a picture in pixels."""

ControlKind = Literal[
    "pose",
    "canny",
    "soft edge",
    "line art",
    "scribble",
    "depth",
    "normal",
    "lines",
    "segment",
    "tile",
    "blur",
    "gray",
    "inpaint",
    "other",
]
Preprocessor = Literal[
    "none",
    "canny",
    "hed",
    "line art",
    "scribble hed",
    "depth",
    "normal bae",
    "normal depth",
    "mlsd",
    "segment",
    "openpose",
    "openpose full",
    "blur",
    "gray",
]
ControlResize = Literal["stretch", "crop", "fill"]

CONTROL_KINDS: tuple[ControlKind, ...] = get_args(ControlKind)
PREPROCESSORS: tuple[Preprocessor, ...] = get_args(Preprocessor)

InpaintArea = Literal["whole", "masked"]
InpaintFill = Literal["original", "blur", "colour", "noise"]

Group = Literal["look", "size", "sampling", "model", "loras", "control"]
GROUPS: tuple[Group, ...] = get_args(Group)


def _about(
    group: Group, *, unit: str = "", step: float | None = None, empty: str = ""
) -> dict[str, Any]:
    """Extra facts of a field that JSON Schema has no word for.

    `empty` says in a word or two what happens when an optional field is left empty.
    """
    return (
        {"group": group, "unit": unit}
        | ({} if step is None else {"step": step})
        | ({"empty": empty} if empty else {})
    )


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class LoraChoice(_Part):
    """One LoRA of the stack.

    Attributes:
        name: Its file's stem, its path under the folder of LoRAs, or the name it was trained by.
        weight: Strength in the denoiser; 0 is off, 1 as it was trained, below 0 away from it.
        text_encoder_weight: Strength in the text encoder; `None` takes `weight`.
        start, end: Share of the steps at which it comes on and goes off in the denoiser.
        enabled: A muted row stays in the recipe and has no effect.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    weight: Annotated[float, Field(ge=-4, le=4, allow_inf_nan=False)] = 1.0
    text_encoder_weight: Annotated[float | None, Field(ge=-4, le=4, allow_inf_nan=False)] = None
    start: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    end: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    enabled: bool = True

    @property
    def has_effect(self) -> bool:
        """Whether it is not muted and of a strength other than 0."""
        return self.enabled and bool(self.weight or self.text_encoder_weight)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.start >= self.end:
            raise ValueError("must start before it ends.")
        return self


class ControlChoice(_Part):
    """One control unit: what a ControlNet steers by, and how strongly.

    Attributes:
        kind: What the hint shows; it decides the preprocessor and the ControlNet left open.
        picture: Content hash of a picture (on the command line: a file's path).
        pose: Drawn by the engine in place of a picture; only for the kind "pose".
        model: Name of a ControlNet; `None` takes the one of that kind that fits the model.
        start, end: Share of the steps, from the first, at which it begins and ends to steer.
        resize: How the picture comes to the size of the one to be made: stretched, scaled until
            it covers it and cut, or scaled until it fits in and filled up with nothing.
        preprocessor: What makes the hint of the picture; "none": it is a hint already.
            `None` takes the kind's usual one.
        resolution: Pixels of the shorter side a preprocessor looks at; `None`: those of the
            picture to be made.
        low, high: Thresholds of preprocessors that have some.
    """

    kind: ControlKind = "pose"
    picture: Annotated[str | None, Field(min_length=1, max_length=4096)] = None
    pose: Pose | None = None
    model: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    weight: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 1.0
    start: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    end: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    resize: ControlResize = "crop"
    preprocessor: Preprocessor | None = None
    resolution: Annotated[int | None, Field(ge=64, le=MAX_SIDE)] = None
    low: Annotated[float | None, Field(ge=0, le=255, allow_inf_nan=False)] = None
    high: Annotated[float | None, Field(ge=0, le=255, allow_inf_nan=False)] = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.picture is None) == (self.pose is None):
            raise ValueError("needs a picture or a pose, and not both.")
        if self.pose is not None and self.kind != "pose":
            raise ValueError(f"has a pose, which is of no use for the kind {self.kind!r}.")
        settings = (self.preprocessor, self.resolution, self.low, self.high)
        if self.pose is not None and settings != (None,) * 4:
            raise ValueError("has a pose, which is drawn without a preprocessor: remove it.")
        if self.start >= self.end:
            raise ValueError("must start before it ends.")
        return self


Margin = Annotated[int, Field(ge=0, le=MAX_SIDE, multiple_of=8)]
"""Pixels that a picture is continued by on one side."""


class GenerationRequest(_Part):
    """A whole recipe. Frozen and hashable; an unknown key is an error.

    `None` means "decide for me" and is filled in by `webui.generation.resolve`.
    """

    prompt: Annotated[
        str,
        Field(
            max_length=MAX_PROMPT_CHARACTERS,
            title="Prompt",
            description="What the picture shows. (word:1.2) weighs a word, [word] takes weight"
            " away, BREAK starts a new block of 75 tokens.",
            json_schema_extra=_about("look", unit="characters"),
        ),
    ] = ""
    negative_prompt: Annotated[
        str,
        Field(
            max_length=MAX_PROMPT_CHARACTERS,
            title="Negative prompt",
            description="What the picture is steered away from. Has no effect at CFG 1.",
            json_schema_extra=_about("look", unit="characters"),
        ),
    ] = ""
    width: Annotated[
        int | None,
        Field(
            ge=64,
            le=MAX_SIDE,
            multiple_of=8,
            title="Width",
            description="Width of the picture. Empty: that of the init picture, else the size the"
            " model was trained at.",
            json_schema_extra=_about("size", unit="pixels", step=8, empty="model's own"),
        ),
    ] = None
    height: Annotated[
        int | None,
        Field(
            ge=64,
            le=MAX_SIDE,
            multiple_of=8,
            title="Height",
            description="Height of the picture. Empty: that of the init picture, else the size the"
            " model was trained at.",
            json_schema_extra=_about("size", unit="pixels", step=8, empty="model's own"),
        ),
    ] = None
    steps: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_STEPS,
            title="Steps",
            description="How many times the noise is refined. More takes longer; past about 30"
            " little changes with most samplers. Empty: what the model, or a LoRA in the stack, was"
            " made for.",
            json_schema_extra=_about("sampling", unit="steps", step=1, empty="model's own"),
        ),
    ] = None
    cfg: Annotated[
        float | None,
        Field(
            ge=1,
            le=30,
            allow_inf_nan=False,
            title="CFG",
            description="How strongly the prompt is followed (classifier-free guidance). At 1"
            " guidance is off: twice as fast, and the negative prompt is not used. Empty: what the"
            " model, or a LoRA in the stack, was made for.",
            json_schema_extra=_about("sampling", unit="scale", step=0.5, empty="model's own"),
        ),
    ] = None
    guidance: Annotated[
        float | None,
        Field(
            ge=0,
            le=30,
            allow_inf_nan=False,
            title="Distilled guidance",
            description="How strongly the prompt is followed by models that learned guidance"
            " itself, such as FLUX.1 dev; costs no time. Empty: what the model was made for.",
            json_schema_extra=_about("sampling", unit="scale", step=0.5, empty="model's own"),
        ),
    ] = None
    sampler: Annotated[
        SamplerName | None,
        Field(
            title="Sampler",
            description="The method that removes the noise. Empty: what the model, or a LoRA in the"
            " stack, was made for.",
            json_schema_extra=_about("sampling", empty="model's own"),
        ),
    ] = None
    schedule: Annotated[
        ScheduleName | None,
        Field(
            title="Schedule",
            description="How the noise levels are spread over the steps. Empty: what the model, or"
            " a LoRA in the stack, was made for.",
            json_schema_extra=_about("sampling", empty="model's own"),
        ),
    ] = None
    speed: Annotated[
        SpeedName,
        Field(
            title="Speed",
            description="What is left out to be faster, and how like the picture stays to the one"
            " made in full (PSNR: above 40 dB hardly to be told apart, below 30 details differ)."
            " Measured on the built-in model; others gain more or less.",
            json_schema_extra=_about("sampling"),
        ),
    ] = "full"
    seed: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_SEED,
            title="Seed",
            description="Start of the noise: the same seed and settings give the same picture."
            " Empty: drawn anew each time. Further pictures count up from it.",
            json_schema_extra=_about("look", unit="number", step=1, empty="random"),
        ),
    ] = None
    count: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            title="Count",
            description="How many batches are made one after the other.",
            json_schema_extra=_about("size", unit="batches", step=1),
        ),
    ] = 1
    batch: Annotated[
        int,
        Field(
            ge=1,
            le=16,
            title="Batch",
            description="How many pictures are made at once; needs that much more memory.",
            json_schema_extra=_about("size", unit="pictures", step=1),
        ),
    ] = 1
    clip_skip: Annotated[
        int,
        Field(
            ge=1,
            le=12,
            title="Clip skip",
            description="Which layer of the text encoder is used, counted from the end.",
            json_schema_extra=_about("model", unit="layers", step=1),
        ),
    ] = 1
    model: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            title="Model",
            description="Name of a file or folder under models/.",
            json_schema_extra=_about("model"),
        ),
    ] = "postcard"
    prediction: Annotated[
        PredictionName | None,
        Field(
            title="Prediction",
            description="What the model was trained to predict. Empty: what its file says. To be"
            " set by hand where pictures come out as noise, or grey, since the file does not say:"
            " epsilon (noise), v (velocity), or v trained down to pure noise (zero terminal SNR).",
            json_schema_extra=_about("model", empty="model's own"),
        ),
    ] = None
    refiner: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=200,
            title="Refiner",
            description="Name of a second model of the same kind that makes the last steps. LoRAs"
            " and ControlNets do not touch it.",
            json_schema_extra=_about("model", empty="none"),
        ),
    ] = None
    refiner_start: Annotated[
        float,
        Field(
            ge=0.01,
            le=0.99,
            allow_inf_nan=False,
            title="Refiner start",
            description="Share of all steps after which the refiner takes over.",
            json_schema_extra=_about("model", unit="share", step=0.05),
        ),
    ] = 0.8
    vae: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=200,
            title="VAE",
            description="Name of a file under models/vae/ that turns latents into pictures and back"
            " in place of the model's own.",
            json_schema_extra=_about("model", empty="model's own"),
        ),
    ] = None
    loras: Annotated[
        tuple[LoraChoice, ...],
        Field(
            max_length=32,
            title="LoRAs",
            description="Stack of LoRAs with their weights.",
            json_schema_extra=_about("loras"),
        ),
    ] = ()
    controls: Annotated[
        tuple[ControlChoice, ...],
        Field(
            max_length=8,
            title="Controls",
            description="Poses and pictures that steer the composition, each through a ControlNet.",
            json_schema_extra=_about("control"),
        ),
    ] = ()
    init: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=4096,
            title="Init picture",
            description="Picture to start from, by content hash (on the command line: a path).",
            json_schema_extra=_about("control"),
        ),
    ] = None
    strength: Annotated[
        float,
        Field(
            ge=0.01,
            le=1,
            allow_inf_nan=False,
            title="Strength",
            description="How much of the init picture is made anew: that share of the steps is run."
            " At 1 nothing of it is left but what a mask keeps.",
            json_schema_extra=_about("control", unit="share", step=0.05),
        ),
    ] = 0.75
    mask: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=4096,
            title="Mask",
            description="Where the init picture is painted anew: white = repaint.",
            json_schema_extra=_about("control"),
        ),
    ] = None
    mask_blur: Annotated[
        int,
        Field(
            ge=0,
            le=64,
            title="Mask blur",
            description="How softly old and new go over into each other (deviation of a Gaussian)."
            " Beyond 2.5 times that from the mask no pixel changes.",
            json_schema_extra=_about("control", unit="pixels", step=1),
        ),
    ] = 4
    mask_grow: Annotated[
        int,
        Field(
            ge=-256,
            le=256,
            title="Mask grow",
            description="How far the mask is grown on all sides; less than 0 shrinks it.",
            json_schema_extra=_about("control", unit="pixels", step=1),
        ),
    ] = 0
    soft_mask: Annotated[
        bool,
        Field(
            title="Soft mask",
            description="Whether the grey of the mask is a strength for each pixel (differential"
            " diffusion). Otherwise what is lighter than half grey is painted anew.",
            json_schema_extra=_about("control"),
        ),
    ] = False
    inpaint_area: Annotated[
        InpaintArea,
        Field(
            title="Inpaint area",
            description="What the model works on: the whole picture, or only the part around the"
            " mask, at the size it was trained at.",
            json_schema_extra=_about("control"),
        ),
    ] = "whole"
    inpaint_padding: Annotated[
        int,
        Field(
            ge=0,
            le=512,
            title="Inpaint padding",
            description="How much of the picture around the mask the model sees when the inpaint"
            " area is masked.",
            json_schema_extra=_about("control", unit="pixels", step=8),
        ),
    ] = 32
    inpaint_fill: Annotated[
        InpaintFill,
        Field(
            title="Inpaint fill",
            description="What is put under the mask before: the original, its blurred surroundings,"
            " their colours (OpenCV's inpainting) or noise. Matters below strength 1.",
            json_schema_extra=_about("control"),
        ),
    ] = "original"
    outpaint: Annotated[
        tuple[Margin, Margin, Margin, Margin],
        Field(
            title="Outpaint",
            description="How far the init picture is continued to the left, top, right and bottom."
            " Width and height include it.",
            json_schema_extra=_about("control", unit="pixels", step=8),
        ),
    ] = (0, 0, 0, 0)


def pictures_of(request: GenerationRequest) -> tuple[tuple[str, str], ...]:
    """Every picture that a request names: the field, and the picture's name in it."""
    named = [("init", request.init), ("mask", request.mask)]
    named += [(f"controls.{n}", control.picture) for n, control in enumerate(request.controls)]
    return tuple((field, name) for field, name in named if name)


def field_names() -> tuple[str, ...]:
    """Names of the fields in the order they are declared."""
    return tuple(GenerationRequest.model_fields)


def group_of(field: str) -> Group:
    """The group a field belongs to.

    Raises:
        BadRequestError: There is no such field; names the nearest.
    """
    if field not in GenerationRequest.model_fields:
        raise BadRequestError(f"Unknown field {_short(field)}: {nearest(field, field_names())}")
    extra = GenerationRequest.model_fields[field].json_schema_extra
    return cast(dict[str, Any], extra)["group"]


def nearest(name: str, known: tuple[str, ...]) -> str:
    """A half sentence naming the nearest known name, or all of them when none is near."""
    folded = {k.casefold(): k for k in known}
    near = get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.5)
    if near:
        return f"did you mean {folded[near[0]]!r}?"
    return "known are " + ", ".join(repr(k) for k in known) + "."


def parse_request(data: Mapping[str, Any]) -> GenerationRequest:
    """A validated request from plain data.

    Raises:
        BadRequestError: One sentence about the first thing that is wrong, with its field.
    """
    try:
        return GenerationRequest.model_validate(dict(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadRequestError(_sentence(first), field=_field_of(first)) from None


def parse_partial(data: Mapping[str, Any]) -> dict[str, Any]:
    """A validated sparse request: JSON values in canonical form, in the fields' order.

    Only the fields that `data` names are in it, each of them whole.

    Raises:
        BadRequestError: As `parse_request`.
    """
    request = parse_request(data)
    values = request.model_dump(mode="json")
    return {name: values[name] for name in values if name in request.model_fields_set}


def parse_request_json(text: str | bytes, *, source: str) -> GenerationRequest:
    """A validated request from JSON text; `source` (a file's name) begins the error sentence.

    Raises:
        BadRequestError: The text is no JSON object, or a value in it is wrong.
    """
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"{source} is not valid JSON: {error}.") from None
    if not isinstance(data, dict):
        raise BadRequestError(f"{source} must hold one JSON object, a whole request.")
    return parse_request(cast(dict[str, Any], data))


def _field_of(error: ErrorDetails) -> str | None:
    name, *inner = error["loc"] or (None,)
    if name in ("loras", "controls") and inner:
        return f"{name}.{inner[0]}"
    return None if name is None else str(name)


def _sentence(error: ErrorDetails) -> str:
    """One of pydantic's error records as a sentence a user can act on."""
    where = ".".join(str(part) for part in error["loc"]) or "A key"
    value, context = error.get("input"), error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            owner = _owner_of(error["loc"])
            key = str(error["loc"][-1])
            return f"Unknown key {_short(where)}: {nearest(key, tuple(owner.model_fields))}"
        case "literal_error":
            known = tuple(re.findall(r"'([^']*)'", context["expected"]))
            return f"Unknown {where} {_short(value)}: {nearest(str(value), known)}"
        case "missing":
            return f"{where} is missing."
        case "string_too_long":
            limit = context["max_length"]
            return f"{where} is {len(str(value)):,} characters long: at most {limit:,} fit."
        case "greater_than_equal":
            return f"{where} is {_cut(str(value))}: it must be at least {context['ge']}."
        case "less_than_equal":
            return f"{where} is {_cut(str(value))}: it must be at most {context['le']}."
        case "multiple_of":
            step = int(context["multiple_of"])
            above = int(cast(int, value)) // step * step + step
            return f"{where} is {value}: it must be a multiple of {step}, such as {above}."
        case "value_error":
            return f"{where} {context['error']}"
        case "finite_number":
            return f"{where} is {value}: it must be an ordinary number."
        case _:
            reason = error["msg"][:1].lower() + error["msg"][1:]
            return f"{where} is {_short(value)}: {reason}."


def _owner_of(loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The model whose key an error is about."""
    if "pose" in loc[:-1]:
        return Pose
    return {"loras": LoraChoice, "controls": ControlChoice}.get(str(loc[0]), GenerationRequest)


def _short(value: object) -> str:
    """The value as Python writes it, cut to 60 characters however long or deep it is."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxlong = shortener.maxother = 60
    return _cut(shortener.repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
