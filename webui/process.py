"""The engine in a process of its own, behind a pipe, started again when it dies.

The page's process never imports torch, so it is there at once; a crash of the engine costs one
job and not the server. Both sides exchange JSON, one message at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from webui.errors import EngineError, WebuiError
from webui.events import Cancelled, Event, Failed, Terminal, failed
from webui.generator import Cancel, Generator, Session
from webui.request import GenerationRequest
from webui.settings import Settings

log = logging.getLogger(__name__)

Phase = Literal["starting", "loading", "ready", "failed"]
Report = Callable[[Phase, str], None]
Build = Callable[[Settings, Report], Generator]
"""Builds the engine inside its process, reporting how far it is; must be importable by name."""

POLL_SECONDS = 0.05
MAX_EARLY_DEATHS = 3
GRACE_SECONDS = 2.0
RETRY_SECONDS = 30.0
DOES_NOT_START = "The engine does not start; the console shows why."
DIED = "The engine stopped in mid-job and is being started again: generate once more."
INTERNAL = "Something went wrong inside the engine; the console shows the details."


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EngineStatus(_Message):
    """How far the engine is. `message` is a short line for the page."""

    kind: Literal["status"] = "status"
    phase: Phase
    message: str


class _Generate(_Message):
    kind: Literal["generate"] = "generate"
    job: int
    request: GenerationRequest
    session: Session


class _Cancel(_Message):
    kind: Literal["cancel"] = "cancel"
    job: int


class _Close(_Message):
    kind: Literal["close"] = "close"


class _Happened(_Message):
    kind: Literal["event"] = "event"
    job: int
    event: Annotated[Event, Field(discriminator="event")]


_COMMAND: TypeAdapter[_Generate | _Cancel | _Close] = TypeAdapter(
    Annotated[_Generate | _Cancel | _Close, Field(discriminator="kind")]
)
_ANSWER: TypeAdapter[EngineStatus | _Happened] = TypeAdapter(
    Annotated[EngineStatus | _Happened, Field(discriminator="kind")]
)


class EngineProcess:
    """A `webui.generator.Generator` whose work is done in a spawned process.

    `build` is called in that process with `settings`.
    """

    def __init__(self, build: Build, settings: Settings) -> None:
        self._build = build
        self._settings = settings
        self._jobs: dict[int, queue.SimpleQueue[Event]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._closing = threading.Event()
        self._early_deaths = 0
        self._status = EngineStatus(phase="starting", message="Starting the engine")
        self._connection, self._process = self._spawn()
        self._reader = threading.Thread(target=self._read, name="engine-reader", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int | None:
        """Process id of the engine's process."""
        return self._process.pid

    def status(self) -> EngineStatus:
        """How far the engine is."""
        return self._status

    def generate(
        self, request: GenerationRequest, session: Session, cancel: Cancel
    ) -> Iterator[Event]:
        """Yields the job's events; a dead engine ends it in `Failed`."""
        number = next(self._numbers)
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        with self._lock:
            self._jobs[number] = events
            sent = self._send(_Generate(job=number, request=request, session=session))
        if not sent:
            events.put(failed(EngineError(DIED)))
        cancelled = False
        try:
            while True:
                if cancel.is_set() and not cancelled:
                    cancelled = True
                    self._send(_Cancel(job=number))
                try:
                    event = events.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
                yield event
                if isinstance(event, Terminal):
                    return
        finally:
            with self._lock:
                self._jobs.pop(number, None)
            self._send(_Cancel(job=number))

    def close(self) -> None:
        """Ends the engine's process within a few seconds, whatever it is doing."""
        self._closing.set()
        self._send(_Close())
        self._process.join(GRACE_SECONDS + 0.5)
        for end in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                end()
                self._process.join(0.5)

    def _spawn(self) -> tuple[Connection[Any, Any], SpawnProcess]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=run_engine, args=(theirs, self._build, self._settings), name="engine"
        )
        process.start()
        theirs.close()
        return ours, process

    def _send(self, message: _Message) -> bool:
        try:
            with self._sending:
                self._connection.send_bytes(message.model_dump_json().encode())
        except (OSError, ValueError):
            return False
        return True

    def _read(self) -> None:
        while not self._closing.is_set():
            try:
                answer = _ANSWER.validate_json(self._connection.recv_bytes())
            except (EOFError, OSError):
                self._revive()
                continue
            match answer:
                case EngineStatus():
                    self._status = answer
                    if answer.phase == "ready":
                        self._early_deaths = 0
                case _Happened():
                    events = self._jobs.get(answer.job)
                    if events is not None:
                        events.put(answer.event)

    def _revive(self) -> None:
        """Fails the jobs of the dead process and starts another one."""
        if self._closing.is_set():
            return
        self._process.join(1)
        log.error("the engine process ended with exit code %s", self._process.exitcode)
        self._early_deaths += 1
        if self._early_deaths > MAX_EARLY_DEATHS:
            self._status = EngineStatus(phase="failed", message=DOES_NOT_START)
        with self._lock:
            for events in self._jobs.values():
                events.put(failed(EngineError(DIED)))
            self._jobs.clear()
        if self._early_deaths > MAX_EARLY_DEATHS:
            # Tried again, but slowly: the cause may go away, such as memory held by others.
            self._closing.wait(RETRY_SECONDS)
        with self._lock:
            if self._closing.is_set():
                return
            self._status = EngineStatus(phase="starting", message="Starting the engine again")
            self._connection.close()
            self._connection, self._process = self._spawn()


class _Inbox:
    """What the engine's process has been asked for; a None among the waiting ends it."""

    def __init__(self) -> None:
        self.waiting: queue.SimpleQueue[_Generate | None] = queue.SimpleQueue()
        self.cancels: dict[int, Cancel] = {}

    def listen(self, connection: Connection[Any, Any]) -> None:
        """Takes commands until told to close or the other side is gone, then ends the process."""
        while True:
            try:
                command = _COMMAND.validate_json(connection.recv_bytes())
            except (EOFError, OSError):
                command = _Close()
            match command:
                case _Generate():
                    self.cancels[command.job] = Cancel()
                    self.waiting.put(command)
                case _Cancel():
                    if (cancel := self.cancels.get(command.job)) is not None:
                        cancel.set()
                case _Close():
                    self._end()

    def _end(self) -> None:
        """Lets the job at hand stop at its next step, then ends the process in any case."""
        for cancel in list(self.cancels.values()):
            cancel.set()
        self.waiting.put(None)
        time.sleep(GRACE_SECONDS)
        os._exit(0)


def run_engine(connection: Connection[Any, Any], build: Build, settings: Settings) -> None:
    """Main function of the engine's process: builds the engine, then serves jobs one by one."""
    # Ctrl+C reaches the whole group; the page's process decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sending = threading.Lock()
    inbox = _Inbox()
    threading.Thread(target=inbox.listen, args=(connection,), daemon=True).start()

    def send(message: _Message) -> None:
        with sending, contextlib.suppress(OSError):
            connection.send_bytes(message.model_dump_json().encode())

    def report(phase: Phase, message: str) -> None:
        send(EngineStatus(phase=phase, message=message))

    engine = _built(build, settings, report)
    while (command := inbox.waiting.get()) is not None:
        cancel = inbox.cancels[command.job]
        events = [engine] if isinstance(engine, Failed) else _contained(engine, command, cancel)
        for event in events:
            send(_Happened(job=command.job, event=event))
        del inbox.cancels[command.job]
    # Everything is written; taking torch apart in order would only cost seconds.
    os._exit(0)


def _built(build: Build, settings: Settings, report: Report) -> Generator | Failed:
    """The engine, or the event every job then ends in."""
    try:
        return build(settings, report)
    except WebuiError as error:
        report("failed", error.message)
        return failed(error)


def _contained(engine: Generator, command: _Generate, cancel: Cancel) -> Iterator[Event]:
    """The job's events; an error nobody foresaw becomes `Failed` and the engine lives on."""
    if cancel.is_set():
        yield Cancelled(saved=0, seconds=0)
        return
    try:
        yield from engine.generate(command.request, command.session, cancel)
    except Exception:
        log.exception("job %s failed", command.job)
        yield failed(EngineError(INTERNAL))
