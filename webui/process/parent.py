"""The engine in a process of its own, behind a pipe, started again when it dies.

The page's process never imports torch, so it is there at once; a crash of the engine costs one
job and not the server. What must hold against the page's visitors (the filter, the gate, marks) is
in the engine's process; this side only carries messages.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import queue
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from webui.errors import EngineError, error_named
from webui.events import Event, Terminal, failed
from webui.generator import Cancel, Session
from webui.process import messages
from webui.process.child import GRACE_SECONDS, Build, run_engine
from webui.process.messages import Answered, EngineStatus, Happened, Message
from webui.request import GenerationRequest
from webui.settings import Settings
from webui.standing import Answer, Question

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
MAX_EARLY_DEATHS = 3
RETRY_SECONDS = 30.0
ANSWER_SECONDS = 30.0
"""How long a question waits; longer than any answer that a login's issuer takes part in."""

DOES_NOT_START = "The engine does not start; the console shows why."
DIED = "The engine stopped in mid-job and is being started again: generate once more."
SILENT = "The engine does not answer: try again in a moment."


class EngineProcess:
    """A `webui.generator.Generator` whose work is done in a spawned process.

    `build` is called in that process with `settings`.
    """

    def __init__(self, build: Build, settings: Settings) -> None:
        self._build = build
        self._settings = settings
        self._jobs: dict[int, queue.SimpleQueue[Event]] = {}
        self._questions: dict[int, queue.SimpleQueue[Answered | None]] = {}
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
            sent = self._send(messages.Generate(job=number, request=request, session=session))
        if not sent:
            events.put(failed(EngineError(DIED)))
        cancelled = False
        try:
            while True:
                if cancel.is_set() and not cancelled:
                    cancelled = True
                    self._send(messages.Cancel(job=number))
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
            self._send(messages.Cancel(job=number))

    def consider(self, request: GenerationRequest, session: Session) -> None:
        """Passes a request that would be admitted now, and any while there is no engine.

        Raises:
            WebuiError: As the engine's.
        """
        number = next(self._numbers)
        self._asked(messages.Consider(number=number, request=request, session=session), number)

    def answer(self, question: Question, session: Session) -> Answer:
        """What the engine's gate says.

        Raises:
            WebuiError: As the gate's.
            EngineError: There is no engine now.
        """
        number = next(self._numbers)
        ask = messages.Ask(number=number, question=question, session=session)
        answered = self._asked(ask, number)
        if answered is None or answered.answer is None:
            raise EngineError(SILENT)
        return answered.answer

    def close(self) -> None:
        """Ends the engine's process within a few seconds, whatever it is doing."""
        self._closing.set()
        self._send(messages.Close())
        self._process.join(GRACE_SECONDS + 0.5)
        for end in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                end()
                self._process.join(0.5)

    def _asked(self, message: Message, number: int) -> Answered | None:
        """What a question came to; `None` where there is nobody to ask."""
        answers: queue.SimpleQueue[Answered | None] = queue.SimpleQueue()
        with self._lock:
            self._questions[number] = answers
            sent = self._send(message)
        try:
            answered = answers.get(timeout=ANSWER_SECONDS) if sent else None
        except queue.Empty:
            raise EngineError(SILENT) from None
        finally:
            with self._lock:
                self._questions.pop(number, None)
        if answered is not None and (problem := answered.problem) is not None:
            raise error_named(problem.kind, problem.message, field=problem.field)
        return answered

    def _spawn(self) -> tuple[Connection[Any, Any], SpawnProcess]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=run_engine, args=(theirs, self._build, self._settings), name="engine"
        )
        process.start()
        theirs.close()
        return ours, process

    def _send(self, message: Message) -> bool:
        try:
            with self._sending:
                self._connection.send_bytes(message.model_dump_json().encode())
        except (OSError, ValueError):
            return False
        return True

    def _read(self) -> None:
        while not self._closing.is_set():
            try:
                answer = messages.REPLY.validate_json(self._connection.recv_bytes())
            except (EOFError, OSError):
                self._revive()
                continue
            match answer:
                case EngineStatus():
                    self._status = answer
                    if answer.phase == "ready":
                        self._early_deaths = 0
                case Happened():
                    events = self._jobs.get(answer.job)
                    if events is not None:
                        events.put(answer.event)
                case Answered():
                    answers = self._questions.get(answer.number)
                    if answers is not None:
                        answers.put(answer)

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
            for answers in self._questions.values():
                answers.put(None)
        if self._early_deaths > MAX_EARLY_DEATHS:
            # Tried again, but slowly: the cause may go away, such as memory held by others.
            self._closing.wait(RETRY_SECONDS)
        with self._lock:
            if self._closing.is_set():
                return
            self._status = EngineStatus(phase="starting", message="Starting the engine again")
            self._connection.close()
            self._connection, self._process = self._spawn()
