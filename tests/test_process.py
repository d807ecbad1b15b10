from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.work import finite
from webui.errors import (
    EngineError,
    GateError,
    GuardError,
    NotFoundError,
    RefusedError,
    WebuiError,
    error_named,
)
from webui.events import Cancelled, Event, Failed, Finished, Notice, Preview, Step
from webui.generator import Cancel, Session
from webui.process import EngineProcess, Report
from webui.request import GenerationRequest
from webui.settings import Settings
from webui.standing import Answer, Declare, LevelStanding, LogIn, Look, Question, Redirect, Standing

SESSION = Session(id="tests")
ENDLESS = 10**9


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
        steps = ENDLESS if request.prompt == "endless" else request.steps or 20
        for step in range(1, steps + 1):
            if cancel.is_set():
                yield Cancelled(saved=0, seconds=0)
                return
            yield Step(
                step=step,
                steps=steps,
                batch=0,
                batches=1,
                seconds_per_step=0.05,
                seconds_left=0,
            )
            time.sleep(0.05)
        yield Preview(jpeg=bytes(range(256)), step=1)
        yield Finished(saved=0, withheld=0, seconds=0)


class Guarded(Stepping):
    """Has a gate, too: it says who asks, and does what the question says."""

    def consider(self, request: GenerationRequest, session: Session) -> None:
        if request.prompt == "refuse":
            raise RefusedError("No.", field="prompt")

    def answer(self, question: Question, session: Session) -> Answer:
        match question:
            case Declare(token="no"):
                raise GateError("This code is not valid.")
            case Declare(token="raise"):
                raise ZeroDivisionError("nobody foresaw this")
            case Declare(token="exit"):
                os._exit(7)
            case LogIn(back=back):
                return Redirect(address=f"{back}?{session.id}")
            case _:
                return Standing(level=1, levels=(LevelStanding(level=0),), guards=())


def build(settings: Settings, report: Report) -> Stepping:
    report("ready", "ready")
    return Stepping()


def build_guarded(settings: Settings, report: Report) -> Guarded:
    report("ready", "ready")
    return Guarded()


def build_slowly(settings: Settings, report: Report) -> Guarded:
    time.sleep(3)
    return build_guarded(settings, report)


def build_counting_heaps(settings: Settings, report: Report) -> Guarded:
    """Reports how many heaps the C library has made for threads that compute side by side."""
    together = threading.Barrier(8)

    def compute() -> None:
        held = bytearray(100_000)
        together.wait(60)
        del held

    threads = [threading.Thread(target=compute) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    file = settings.outputs / "heaps.xml"
    stream = ctypes.c_void_p(libc.fopen(os.fsencode(file), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    report("ready", f"heaps: {file.read_text().count('<heap nr=')}")
    return Guarded()


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


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
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
    # Of 150; what is on its way through the pipe by then is still told.
    assert len(seen) <= 20


def test_closing_the_iterator_cancels(engine: EngineProcess):
    events = ask(engine, "endless")
    next(events)
    del events
    with finite():
        assert isinstance(list(ask(engine))[-1], Finished)


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has one heap")
def test_the_engines_threads_share_one_heap(tmp_path: Path):
    engine = EngineProcess(build_counting_heaps, Settings(outputs=tmp_path))
    wait_for(lambda: engine.status().phase == "ready")
    told = engine.status().message
    engine.close()
    assert told == "heaps: 1"


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
    next(ask(engine, "endless"))
    pid = engine.pid
    with finite():
        engine.close()
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()


@pytest.fixture
def guarded() -> Iterator[EngineProcess]:
    engine = EngineProcess(build_guarded, Settings())
    wait_for(lambda: engine.status().phase == "ready")
    yield engine
    engine.close()


def test_the_gate_answers_beside_a_job(guarded: EngineProcess):
    job = ask(guarded, steps=150)
    next(job)
    assert guarded.answer(Look(), SESSION) == Standing(
        level=1, levels=(LevelStanding(level=0),), guards=()
    )
    assert guarded.answer(LogIn(back="x"), SESSION) == Redirect(address="x?tests")
    guarded.consider(GenerationRequest(prompt="fine"), SESSION)
    assert isinstance(next(job), Step)


def test_what_the_gate_raises_is_raised_here(guarded: EngineProcess):
    with pytest.raises(GateError, match=r"This code is not valid\."):
        guarded.answer(Declare(token="no"), SESSION)
    with pytest.raises(RefusedError) as refused:
        guarded.consider(GenerationRequest(prompt="refuse"), SESSION)
    assert (refused.value.message, refused.value.field) == ("No.", "prompt")
    with pytest.raises(EngineError, match="inside the engine"):
        guarded.answer(Declare(token="raise"), SESSION)
    assert isinstance(guarded.answer(Look(), SESSION), Standing)


def test_a_question_whose_engine_dies_is_answered_at_once(
    guarded: EngineProcess, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("webui.process.parent.ANSWER_SECONDS", 3600)
    with finite(), pytest.raises(EngineError, match="does not answer"):
        guarded.answer(Declare(token="exit"), SESSION)


def test_while_the_engine_starts_only_the_gate_is_shut():
    engine = EngineProcess(build_slowly, Settings())
    try:
        engine.consider(GenerationRequest(prompt="refuse"), SESSION)
        with pytest.raises(EngineError, match="still starting"):
            engine.answer(Look(), SESSION)
    finally:
        engine.close()


def test_an_engine_that_cannot_be_built_opens_no_gate():
    engine = EngineProcess(build_without_guard, Settings())
    try:
        wait_for(lambda: engine.status().phase == "failed")
        for question in (
            lambda: engine.answer(Look(), SESSION),
            lambda: engine.consider(GenerationRequest(), SESSION),
        ):
            with pytest.raises(EngineError, match="The detector is missing"):
                question()
    finally:
        engine.close()


def test_errors_travel_by_their_names():
    assert type(error_named("NotFoundError", "a", field="b")) is NotFoundError
    assert type(error_named("Unheard", "a")) is WebuiError
