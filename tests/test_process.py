from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from webui.errors import GuardError
from webui.events import Cancelled, Event, Failed, Finished, Notice, Preview, Step
from webui.generator import Cancel, Session
from webui.process import EngineProcess, Report
from webui.request import GenerationRequest
from webui.settings import Settings

SESSION = Session(id="tests")


class Stepping:
    """Steps until cancelled, or does what the prompt says."""

    def generate(
        self, request: GenerationRequest, session: Session, cancel: Cancel
    ) -> Iterator[Event]:
        if request.prompt == "raise":
            raise ZeroDivisionError("nobody foresaw this")
        if request.prompt == "who":
            yield Notice(message=repr(session))
        if request.prompt == "exit":
            os._exit(7)
        for step in range(1, request.steps + 1):
            if cancel.is_set():
                yield Cancelled(saved=0, seconds=0)
                return
            yield Step(
                step=step,
                steps=request.steps,
                batch=0,
                batches=1,
                seconds_per_step=0.05,
                seconds_left=0,
            )
            time.sleep(0.05)
        yield Preview(jpeg=bytes(range(256)), step=1)
        yield Finished(saved=0, withheld=0, seconds=0)


def build(settings: Settings, report: Report) -> Stepping:
    report("ready", "ready")
    return Stepping()


def build_without_guard(settings: Settings, report: Report) -> Stepping:
    raise GuardError("The detector is missing: install it.")


def build_that_dies(settings: Settings, report: Report) -> Stepping:
    sys.exit(5)


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    engine = EngineProcess(build, Settings())
    yield engine
    engine.close()


def ask(engine: EngineProcess, prompt: str = "", steps: int = 1) -> Iterator[Event]:
    return engine.generate(GenerationRequest(prompt=prompt, steps=steps), SESSION, Cancel())


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_events_travel_whole(engine: EngineProcess):
    *_, preview, end = ask(engine, steps=2)
    assert preview == Preview(jpeg=bytes(range(256)), step=1)
    assert end == Finished(saved=0, withheld=0, seconds=0)
    assert engine.status().phase == "ready"


def test_who_asks_travels_whole(engine: EngineProcess):
    session = Session(id="me", remote=True, previews=False, draft=True)
    asked = engine.generate(GenerationRequest(prompt="who", steps=1), session, Cancel())
    assert Notice(message=repr(session)) in list(asked)


def test_cancelling_takes_effect_within_a_step(engine: EngineProcess):
    cancel = Cancel()
    seen: list[Event] = []
    for event in engine.generate(GenerationRequest(steps=150), SESSION, cancel):
        seen.append(event)
        cancel.set()
    assert isinstance(seen[-1], Cancelled)
    assert len(seen) <= 5


def test_closing_the_iterator_cancels(engine: EngineProcess):
    events = ask(engine, steps=150)
    next(events)
    del events
    began = time.monotonic()
    assert isinstance(list(ask(engine))[-1], Finished)
    assert time.monotonic() - began < 3


def test_an_unforeseen_error_fails_the_job_only(engine: EngineProcess):
    (event,) = ask(engine, "raise")
    assert isinstance(event, Failed)
    assert event.kind == "EngineError"
    assert isinstance(list(ask(engine))[-1], Finished)


@pytest.mark.parametrize("how", ["kill -9", "exit"])
def test_a_dead_engine_fails_its_job_and_is_started_again(engine: EngineProcess, how: str):
    wait_for(lambda: engine.status().phase == "ready")
    first = engine.pid
    events = ask(engine, "exit" if how == "exit" else "", steps=150)
    if how == "kill -9":
        next(events)
        assert first is not None
        os.kill(first, signal.SIGKILL)
    *_, end = events
    assert isinstance(end, Failed)
    assert end.kind == "EngineError"
    assert "started again" in end.message
    wait_for(lambda: engine.pid != first and engine.status().phase == "ready")
    assert isinstance(list(ask(engine))[-1], Finished)


def test_an_engine_that_cannot_be_built_answers_with_the_reason():
    engine = EngineProcess(build_without_guard, Settings())
    (event,) = ask(engine)
    assert isinstance(event, Failed)
    assert event.message == "The detector is missing: install it."
    assert engine.status().phase == "failed"
    engine.close()


def test_an_engine_that_dies_at_every_start_is_reported_and_not_spun():
    engine = EngineProcess(build_that_dies, Settings())
    wait_for(lambda: engine.status().phase == "failed")
    pid = engine.pid
    time.sleep(1)
    assert engine.pid == pid
    engine.close()


def test_closing_ends_the_process_in_mid_job(engine: EngineProcess):
    next(ask(engine, steps=150))
    pid = engine.pid
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 4
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
