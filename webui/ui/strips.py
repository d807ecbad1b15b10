"""Strips of drafts: variants of a request made in turn, behind what the person asks for."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from webui.errors import NotFoundError, WebuiError
from webui.events import Event, Failed, Saved, Started, Step, Withheld
from webui.generator import Session
from webui.jobs import Job, Jobs
from webui.request import GenerationRequest
from webui.ui.brought import BroughtIn
from webui.ui.variants import Kind, Variant, sweep, without

State = Literal["waiting", "making", "made", "withheld", "failed"]

PATIENCE_SECONDS = 90.0
"""How long a strip goes on that nobody asks about. Browsers let hidden tabs ask once a minute."""


@dataclass(frozen=True)
class Draft:
    """How far one of the pictures is.

    Attributes:
        done: Share of its steps, 0..1.
        message: What went wrong, if it did.
        path: The picture's file, once it is made.
    """

    state: State = "waiting"
    done: float = 0.0
    message: str = ""
    path: Path | None = None

    def after(self, event: Event) -> Draft:
        """The draft once that has happened."""
        match event:
            case Started():
                return replace(self, state="making")
            case Step():
                return replace(self, done=event.step / event.steps)
            case Saved():
                return replace(self, state="made", done=1.0, path=Path(event.path))
            case Withheld():
                return replace(self, state="withheld", message=event.message)
            case Failed():
                return replace(self, state="failed", message=event.message)
            case _:
                return self


class Strip:
    """Variants of one request, made in a thread of its own.

    Attributes:
        id: Opaque name.
        variants: What is compared.
    """

    def __init__(
        self, variants: tuple[Variant, ...], session: Session, jobs: Jobs, patience: float
    ) -> None:
        self.id = secrets.token_hex(8)
        self.variants = variants
        self._session = replace(session, draft=True, previews=False)
        self._jobs = jobs
        self._patience = patience
        self._drafts = [Draft() for _ in variants]
        self._asked_at = time.monotonic()
        self._job: Job | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="strip", daemon=True).start()

    def drafts(self) -> tuple[Draft, ...]:
        """How far each of the pictures is; asking keeps the strip going."""
        self._asked_at = time.monotonic()
        return tuple(self._drafts)

    def end(self) -> None:
        """Makes no more pictures; the one at hand ends within a step."""
        self._ended.set()
        if self._job is not None:
            self._job.cancel()

    def _run(self) -> None:
        for place, variant in enumerate(self.variants):
            self._let_pass()
            if self._ended.is_set() or time.monotonic() - self._asked_at > self._patience:
                return
            try:
                self._job = self._jobs.submit(variant.request, self._session)
            except WebuiError as error:
                self._drafts[place] = Draft(state="failed", message=error.message)
                continue
            if self._ended.is_set():
                self._job.cancel()
            for event in self._job.follow():
                self._drafts[place] = self._drafts[place].after(event)

    def _let_pass(self) -> None:
        """Waits until nothing is left of what the person has asked for."""
        while not self._ended.is_set():
            own = self._jobs.find(self._session.id)
            if own is None or own.finished:
                return
            deque(own.follow(), maxlen=0)


class Strips:
    """The newest strip of each session; a new one ends the one before.

    Args:
        brought: Which pictures a session may use.
        draft: `draft_of` a request, by its model; raises `BadRequestError`.
        most: Sessions whose strip is remembered.
        patience: Seconds that a strip goes on which nobody asks about.
    """

    def __init__(
        self,
        jobs: Jobs,
        brought: BroughtIn,
        draft: Callable[[GenerationRequest], GenerationRequest],
        *,
        most: int = 1_000,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._jobs = jobs
        self._brought = brought
        self._draft = draft
        self._most = most
        self._patience = patience
        self._lock = threading.Lock()
        self._strips: OrderedDict[str, Strip] = OrderedDict()

    def start(self, session: Session, request: GenerationRequest, kind: Kind, row: int) -> Strip:
        """Begins a strip.

        Args:
            row: The row that is swept, from 0.

        Raises:
            BadRequestError: The model is unknown, or the stack has nothing to compare.
            NotFoundError: A picture of the request is not the session's.
        """
        self._brought.check_request(session, request)
        draft = self._draft(request)
        variants = sweep(draft, row) if kind == "sweep" else without(draft)
        strip = Strip(variants, session, self._jobs, self._patience)
        with self._lock:
            gone = [self._strips.pop(session.id, None)]
            self._strips[session.id] = strip
            if len(self._strips) > self._most:
                gone.append(self._strips.popitem(last=False)[1])
        for old in gone:
            if old is not None:
                old.end()
        return strip

    def find(self, session: Session, name: str) -> Strip:
        """A strip by its id.

        Raises:
            NotFoundError: It is not the session's newest.
        """
        with self._lock:
            strip = self._strips.get(session.id)
        if strip is None or strip.id != name:
            raise NotFoundError("This comparison is not here any more: make it anew.")
        return strip

    def end(self, session: Session, name: str) -> None:
        """Ends a strip and forgets it.

        Raises:
            NotFoundError: As `find`.
        """
        strip = self.find(session, name)
        with self._lock:
            if self._strips.get(session.id) is strip:
                del self._strips[session.id]
        strip.end()


def shown(strip: Strip) -> dict[str, Any]:
    """A strip as the page's script gets it."""
    drafts = strip.drafts()
    like = strip.variants[0].request
    return {
        "id": strip.id,
        "width": like.width,
        "height": like.height,
        "steps": like.steps,
        "finished": all(draft.state not in ("waiting", "making") for draft in drafts),
        "items": [
            {
                "row": variant.row,
                "changes": dict(variant.changes),
                "current": variant.current,
                "state": draft.state,
                "done": draft.done,
                "message": draft.message,
                "picture": f"strips/{strip.id}/{place}.png" if draft.path else None,
            }
            for place, (variant, draft) in enumerate(zip(strip.variants, drafts, strict=True))
        ],
    }
