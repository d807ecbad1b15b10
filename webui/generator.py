"""The one-method interface between whoever asks and whatever makes pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event as Cancel
from typing import Protocol, runtime_checkable

from webui.events import Event
from webui.levels import STRICT, Level
from webui.request import GenerationRequest
from webui.standing import Answer, Question

__all__ = ["Cancel", "Gatekeeper", "Generator", "Session"]


@dataclass(frozen=True)
class Session:
    """Who asks.

    Attributes:
        id: Opaque name of the session; the queue is fair between sessions.
        remote: Whether the asker is on another machine.
        previews: Whether pictures in the making are wanted.
        draft: Whether what is made is for a comparison only: checked and signed as all pictures
            are, and kept apart from those the user asked for.
        level: The filter level asked for; which one a job runs at is decided by the engine.
    """

    id: str
    remote: bool = False
    previews: bool = True
    draft: bool = False
    level: Level = STRICT


class Generator(Protocol):
    """`Engine`, `EngineProcess`, `Jobs` and the tests' fake are all used through this."""

    def generate(
        self, request: GenerationRequest, session: Session, cancel: Cancel
    ) -> Iterator[Event]:
        """Yields the events of one job, the last one a `Terminal`; never raises `WebuiError`.

        Setting `cancel` ends the job within one denoising step. Closing the iterator does too.
        """
        ...


@runtime_checkable
class Gatekeeper(Protocol):
    """Who decides what a session may reach: `Engine`, and `EngineProcess` for it."""

    def consider(self, request: GenerationRequest, session: Session) -> None:
        """Passes a request that would be admitted now; at its turn it is judged again.

        Raises:
            RefusedError: The request asks for what the filter does not allow.
            WebuiError: It names what is not there, or a guard does not work.
        """
        ...

    def answer(self, question: Question, session: Session) -> Answer:
        """What the gate says.

        Raises:
            GateError: It says no.
            WebuiError: It cannot answer now.
        """
        ...
