"""What the page's process and the engine's say to each other: JSON, one message at a time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from webui.events import Event, Failed
from webui.generator import Session
from webui.request import GenerationRequest
from webui.standing import Answer, Question

Phase = Literal["starting", "loading", "ready", "failed"]


class Message(BaseModel):
    """Sent whole, in either direction."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineStatus(Message):
    """How far the engine is. `message` is a short line for the page."""

    kind: Literal["status"] = "status"
    phase: Phase
    message: str


class Generate(Message):
    """Run a job."""

    kind: Literal["generate"] = "generate"
    job: int
    request: GenerationRequest
    session: Session


class Cancel(Message):
    """End a job."""

    kind: Literal["cancel"] = "cancel"
    job: int


class Consider(Message):
    """Would this request be admitted?"""

    kind: Literal["consider"] = "consider"
    number: int
    request: GenerationRequest
    session: Session


class Ask(Message):
    """A question to the gate."""

    kind: Literal["ask"] = "ask"
    number: int
    question: Annotated[Question, Field(discriminator="kind")]
    session: Session


class Close(Message):
    """End the process."""

    kind: Literal["close"] = "close"


class Happened(Message):
    """An event of a job."""

    kind: Literal["event"] = "event"
    job: int
    event: Annotated[Event, Field(discriminator="event")]


class Answered(Message):
    """What `Consider` or `Ask` came to.

    Attributes:
        answer: `None` where there is nothing to say, or a problem.
        problem: The error it ended in.
    """

    kind: Literal["answered"] = "answered"
    number: int
    answer: Annotated[Answer, Field(discriminator="kind")] | None = None
    problem: Failed | None = None


COMMAND: TypeAdapter[Generate | Cancel | Consider | Ask | Close] = TypeAdapter(
    Annotated[Generate | Cancel | Consider | Ask | Close, Field(discriminator="kind")]
)
REPLY: TypeAdapter[EngineStatus | Happened | Answered] = TypeAdapter(
    Annotated[EngineStatus | Happened | Answered, Field(discriminator="kind")]
)
