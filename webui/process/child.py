"""The engine's side of the pipe: builds the engine, then serves jobs and questions."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, assert_never

from webui.errors import EngineError, WebuiError
from webui.events import Cancelled, Event, Failed, failed
from webui.generator import Cancel, Gatekeeper, Generator
from webui.process import messages
from webui.process.heap import share_one_arena
from webui.process.messages import Answered, Ask, Consider, EngineStatus, Happened, Message, Phase
from webui.settings import Settings
from webui.standing import Answer

log = logging.getLogger(__name__)

Report = Callable[[Phase, str], None]
Build = Callable[[Settings, Report], Generator]
"""Builds the engine inside its process, reporting how far it is; must be importable by name."""

GRACE_SECONDS = 2.0
INTERNAL = "Something went wrong inside the engine; the console shows the details."
NOT_YET = "The engine is still starting: try again in a moment."

_AT_ONCE = 4
"""Questions that are answered side by side; a login waits for its issuer."""


class _Inbox:
    """What the engine's process has been asked for; a None among the waiting ends it."""

    def __init__(self, answer: Callable[[Consider | Ask], None]) -> None:
        self.waiting: queue.SimpleQueue[messages.Generate | None] = queue.SimpleQueue()
        self.cancels: dict[int, Cancel] = {}
        self._answer = answer

    def listen(self, connection: Connection[Any, Any]) -> None:
        """Takes commands until told to close or the other side is gone, then ends the process."""
        while True:
            try:
                command = messages.COMMAND.validate_json(connection.recv_bytes())
            except (EOFError, OSError):
                command = messages.Close()
            match command:
                case messages.Generate():
                    self.cancels[command.job] = Cancel()
                    self.waiting.put(command)
                case messages.Cancel():
                    if (cancel := self.cancels.get(command.job)) is not None:
                        cancel.set()
                case Consider() | Ask():
                    self._answer(command)
                case messages.Close():
                    self._end()

    def _end(self) -> None:
        """Lets the job at hand stop at its next step, then ends the process in any case."""
        for cancel in list(self.cancels.values()):
            cancel.set()
        self.waiting.put(None)
        time.sleep(GRACE_SECONDS)
        os._exit(0)


class _Desk:
    """Answers questions beside the jobs, once there is an engine that has a gate."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._gate: Gatekeeper | Failed | None = None
        self._hands = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="gate")

    def open(self, engine: Generator | Failed) -> None:
        """From now on questions go to `engine`, if it has a gate."""
        self._gate = engine if isinstance(engine, Gatekeeper | Failed) else None

    def take(self, command: Consider | Ask) -> None:
        """Has a question answered, in a thread of its own."""
        self._hands.submit(self._reply, command)

    def _reply(self, command: Consider | Ask) -> None:
        try:
            answered = Answered(number=command.number, answer=self._answer(command))
        except WebuiError as error:
            answered = Answered(number=command.number, problem=failed(error))
        except Exception:
            log.exception("a question could not be answered")
            problem = failed(EngineError(INTERNAL))
            answered = Answered(number=command.number, problem=problem)
        self._send(answered)

    def _answer(self, command: Consider | Ask) -> Answer | None:
        gate = self._gate
        if isinstance(gate, Failed):
            raise EngineError(gate.message)
        match command:
            case Consider(request=request, session=session):
                # Before there is an engine nothing is known; its turn decides in any case.
                return None if gate is None else gate.consider(request, session)
            case Ask(question=question, session=session):
                if gate is None:
                    raise EngineError(NOT_YET)
                return gate.answer(question, session)
            case _:
                assert_never(command)


def run_engine(connection: Connection[Any, Any], build: Build, settings: Settings) -> None:
    """Main function of the engine's process: builds the engine, then serves jobs one by one."""
    # Ctrl+C reaches the whole group; the page's process decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    share_one_arena()
    sending = threading.Lock()

    def send(message: Message) -> None:
        with sending, contextlib.suppress(OSError):
            connection.send_bytes(message.model_dump_json().encode())

    def report(phase: Phase, message: str) -> None:
        send(EngineStatus(phase=phase, message=message))

    desk = _Desk(send)
    inbox = _Inbox(desk.take)
    threading.Thread(target=inbox.listen, args=(connection,), daemon=True).start()
    engine = _built(build, settings, report)
    desk.open(engine)
    while (command := inbox.waiting.get()) is not None:
        cancel = inbox.cancels[command.job]
        events = [engine] if isinstance(engine, Failed) else _contained(engine, command, cancel)
        for event in events:
            send(Happened(job=command.job, event=event))
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


def _contained(engine: Generator, command: messages.Generate, cancel: Cancel) -> Iterator[Event]:
    """The job's events; an error nobody foresaw becomes `Failed` and the engine lives on."""
    if cancel.is_set():
        yield Cancelled(saved=0, seconds=0)
        return
    try:
        yield from engine.generate(command.request, command.session, cancel)
    except Exception:
        log.exception("job %s failed", command.job)
        yield failed(EngineError(INTERNAL))
