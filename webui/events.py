"""What happens during a job, as small frozen records that travel as one JSON object each.

Every job ends in exactly one of `Finished`, `Cancelled` or `Failed`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from webui.errors import WebuiError

PlanReason = Literal["room", "asked", "ran out", "kept"]
"""Why a model lies in memory as it does."""

StageName = Literal[
    "load", "text", "init", "mask", "control", "hint", "denoise", "decode", "check", "save"
]


class _Record(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )


class Queued(_Record):
    """The job waits; `position` 1 is next."""

    event: Literal["queued"] = "queued"
    position: int


class Started(_Record):
    """What was decided for this job: nothing that matters is left open.

    Attributes:
        seeds: One seed a picture, over all batches.
        device: For example "cpu" or "cuda:0".
        dtype: Number format of the weights, for example "bfloat16".
        layout: "channels_last" or "contiguous".
    """

    event: Literal["started"] = "started"
    model: str
    width: int
    height: int
    steps: int
    seeds: tuple[int, ...]
    device: str
    dtype: str
    layout: str


class Planned(_Record):
    """How the model is laid out in memory, decided before it is loaded; sizes in bytes.

    Attributes:
        name: "resident", "turns", "drop", "stream", "sequential" or "fp8"; see
            `webui.generation.memory.MemoryPlan`.
        tiled: Whether pictures are decoded in tiles.
        needs: What it takes at most.
        whole: What everything resident would take.
        free: What was free.
        reason: "room", "asked", "ran out" or "kept", as there.
        why: All that as one sentence.
    """

    event: Literal["plan"] = "plan"
    name: str
    tiled: bool
    needs: int
    whole: int
    free: int
    reason: PlanReason
    why: str


class StageDone(_Record):
    """A stage ended. `reused` is True when its result came from the cache.

    `batch` counts from 0 over `GenerationRequest.count`.
    """

    event: Literal["stage"] = "stage"
    name: StageName
    seconds: float
    reused: bool
    batch: int = 0


class LoraApplied(_Record):
    """A LoRA of the stack is used: `matched` of its `total` layers fit the model."""

    event: Literal["lora"] = "lora"
    name: str
    matched: int
    total: int


class StackMeasured(_Record):
    """How much each LoRA of the stack changes at strength 1, and how alike two of them are.

    Attributes:
        sizes: Of each LoRA by block ("text encoder", "in", "down 1", ..., "mid", "up 1", ...,
            "out"; of a transformer "double 1", "single 1", "joint 1", "layer 1", "noise 1",
            "context 1", ...): the Frobenius norm of what it adds relative to that of the block's
            weights.
        overlaps: Of each two: cosine between what they add to the weights that both change, -1..1;
            0 where there are none.
    """

    event: Literal["stack"] = "stack"
    sizes: dict[str, dict[str, float]]
    overlaps: tuple[tuple[str, str, float], ...] = ()


class HintMade(_Record):
    """What a control unit steers by, as a small JPEG that has passed the picture check.

    Attributes:
        control: The unit's place in the request's controls, from 0.
    """

    event: Literal["hint"] = "hint"
    control: int
    jpeg: bytes


class Step(_Record):
    """A denoising step ended. `step` counts from 1 to `steps`; times are in seconds."""

    event: Literal["step"] = "step"
    step: int
    steps: int
    batch: int
    batches: int
    seconds_per_step: float
    seconds_left: float


class Preview(_Record):
    """A small JPEG of the picture in the making; it has passed the picture check."""

    event: Literal["preview"] = "preview"
    jpeg: bytes
    step: int


class Saved(_Record):
    """A checked and signed picture is on disk. `sha256` is of the file's bytes (hex)."""

    event: Literal["saved"] = "saved"
    path: str
    seed: int
    sha256: str
    width: int
    height: int


class Withheld(_Record):
    """A picture did not pass the check and was discarded."""

    event: Literal["withheld"] = "withheld"
    seed: int
    message: str = "The result was withheld by the safety check."


class Notice(_Record):
    """Something the user should know that is no error."""

    event: Literal["notice"] = "notice"
    message: str


class Finished(_Record):
    """The job ran to its end; `seconds` is wall time from admission."""

    event: Literal["finished"] = "finished"
    saved: int
    withheld: int
    seconds: float


class Cancelled(_Record):
    """The job was stopped by its owner; pictures saved before that stay."""

    event: Literal["cancelled"] = "cancelled"
    saved: int
    seconds: float


class Failed(_Record):
    """The job ended with a `WebuiError`; `message` is its sentence.

    Attributes:
        kind: Name of the error's class.
        field: Request field it is about, if any.
        exit_code: Exit code for the command line.
    """

    event: Literal["failed"] = "failed"
    message: str
    kind: str
    field: str | None = None
    exit_code: int = 1


Terminal = Finished | Cancelled | Failed
Event = (
    Queued
    | Started
    | Planned
    | StageDone
    | LoraApplied
    | StackMeasured
    | HintMade
    | Step
    | Preview
    | Saved
    | Withheld
    | Notice
    | Finished
    | Cancelled
    | Failed
)

EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
"""Reads an event back from its JSON: `EVENT.validate_json(line)`."""


def failed(error: WebuiError) -> Failed:
    """The event that ends a job with that error."""
    return Failed(
        message=error.message,
        kind=type(error).__name__,
        field=error.field,
        exit_code=error.exit_code,
    )
