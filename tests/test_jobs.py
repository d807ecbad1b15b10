from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from webui.errors import BusyError, RefusedError
from webui.events import Cancelled, Event, Failed, Finished, Preview, Queued, Terminal
from webui.generator import Cancel, Session
from webui.jobs import Job, Jobs
from webui.request import GenerationRequest


class Gated:
    """Runs jobs that end when they are let through, and notes the order."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.gate = threading.Semaphore(0)

    def generate(
        self, request: GenerationRequest, session: Session, cancel: Cancel
    ) -> Iterator[Event]:
        self.order.append(request.prompt)
        for step in range(3):
            yield Preview(jpeg=bytes([step]), step=step)
        while not self.gate.acquire(timeout=0.01):
            if cancel.is_set():
                yield Cancelled(saved=0, seconds=0)
                return
        yield Finished(saved=1, withheld=0, seconds=0)


@pytest.fixture
def generator() -> Gated:
    return Gated()


@pytest.fixture
def jobs(generator: Gated) -> Iterator[Jobs]:
    jobs = Jobs(generator, max_queued=4, max_per_session=3)
    yield jobs
    jobs.close()


def submit(jobs: Jobs, prompt: str, session: str, *, draft: bool = False) -> Job:
    return jobs.submit(GenerationRequest(prompt=prompt), Session(id=session, draft=draft))


def last(job: Job) -> Event:
    *_, end = job.follow()
    return end


def test_sessions_take_turns(jobs: Jobs, generator: Gated):
    asked = [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c")]
    running = submit(jobs, *asked[0])
    next(iter(running.follow(1)))
    waiting = [submit(jobs, *each) for each in asked[1:]]
    generator.gate.release(len(asked))
    assert all(isinstance(last(job), Finished) for job in [running, *waiting])
    assert generator.order == ["a1", "a2", "b1", "c1", "a3"]


def test_a_waiting_job_is_told_its_place(jobs: Jobs):
    running = submit(jobs, "one", "a")
    next(iter(running.follow(1)))
    submit(jobs, "two", "a")
    third = submit(jobs, "three", "b")
    assert next(iter(third.follow())) == Queued(position=2)


def test_a_session_may_not_fill_the_queue(jobs: Jobs):
    for prompt in "xyz":
        submit(jobs, prompt, "a")
    with pytest.raises(BusyError, match="3 of your jobs are not finished"):
        submit(jobs, "w", "a")


def test_drafts_take_no_place_from_what_the_session_itself_asks_for(jobs: Jobs):
    submit(jobs, "draft", "a", draft=True)
    own = [submit(jobs, prompt, "a") for prompt in "xyz"]
    assert jobs.find("a") is own[-1]
    with pytest.raises(BusyError):
        submit(jobs, "another draft", "a", draft=True)


def test_a_draft_is_nobody_elses_job_to_find(jobs: Jobs):
    submit(jobs, "draft", "a", draft=True)
    assert jobs.find("a") is None


def test_a_full_queue_is_one_sentence(jobs: Jobs):
    next(iter(submit(jobs, "running", "a").follow(1)))
    for session in "bcde":
        submit(jobs, session, session)
    with pytest.raises(BusyError, match="The queue is full"):
        submit(jobs, "f", "f")


def test_what_would_not_be_admitted_does_not_wait(generator: Gated):
    considered: list[str] = []

    def consider(request: GenerationRequest, session: Session) -> None:
        considered.append(session.id)
        if request.prompt == "no":
            raise RefusedError("No.")

    jobs = Jobs(generator, consider=consider, max_queued=4, max_per_session=1)
    try:
        with pytest.raises(RefusedError):
            submit(jobs, "no", "a")
        generator.gate.release()
        assert isinstance(last(submit(jobs, "yes", "a")), Finished)
        assert generator.order == ["yes"]
        submit(jobs, "yes", "b")
        with pytest.raises(BusyError):
            submit(jobs, "yes", "b")
        assert considered == ["a", "a", "b"]
    finally:
        jobs.close()


def test_a_late_follower_sees_everything_but_old_previews(jobs: Jobs, generator: Gated):
    job = submit(jobs, "one", "a")
    generator.gate.release()
    early = list(job.follow())
    late = list(job.follow())
    assert sum(isinstance(event, Preview) for event in early) >= 1
    assert [event for event in late if isinstance(event, Preview)] == [Preview(jpeg=b"\2", step=2)]
    assert isinstance(late[-1], Finished)


def test_closing_a_follower_does_not_end_the_job(jobs: Jobs, generator: Gated):
    job = submit(jobs, "one", "a")
    follower = iter(job.follow())
    next(follower)
    del follower
    assert jobs.find("a") is job
    generator.gate.release()
    assert isinstance(last(job), Finished)


def test_a_finished_job_is_not_found(jobs: Jobs, generator: Gated):
    job = submit(jobs, "one", "a")
    generator.gate.release()
    assert isinstance(last(job), Finished)
    assert job.finished
    assert jobs.find("a") is None
    assert jobs.find("b") is None


def test_cancelling_ends_the_running_job(jobs: Jobs):
    job = submit(jobs, "one", "a")
    job.cancel()
    assert isinstance(last(job), Cancelled)


def test_a_waiting_job_is_cancelled_at_once_and_the_others_move_up(jobs: Jobs):
    next(iter(submit(jobs, "running", "a").follow(1)))
    second, third = submit(jobs, "second", "b"), submit(jobs, "third", "c")
    second.cancel()
    assert isinstance(last(second), Cancelled)
    assert next(iter(third.follow(1))) == Queued(position=1)


def test_the_jobs_of_some_sessions_are_cancelled_and_no_others(jobs: Jobs, generator: Gated):
    theirs, also_theirs = submit(jobs, "one", "b"), submit(jobs, "two", "b")
    own = submit(jobs, "three", "a")
    jobs.cancel_where(lambda session: session.id == "b")
    assert isinstance(last(theirs), Cancelled)
    assert isinstance(last(also_theirs), Cancelled)
    generator.gate.release()
    assert isinstance(last(own), Finished)


def test_closing_ends_running_and_waiting_jobs(generator: Gated):
    jobs = Jobs(generator)
    running = submit(jobs, "one", "a")
    next(iter(running.follow(1)))
    waiting = submit(jobs, "two", "a")
    jobs.close()
    assert isinstance(last(running), Cancelled)
    assert isinstance(last(waiting), Failed)


def test_every_job_ends_in_one_terminal_event(jobs: Jobs, generator: Gated):
    job = submit(jobs, "one", "a")
    generator.gate.release()
    events = list(job.follow())
    assert [isinstance(event, Terminal) for event in events].count(True) == 1


def test_what_unfinished_jobs_ask_for_is_known(jobs: Jobs, generator: Gated):
    running = submit(jobs, "a", "one")
    next(iter(running.follow(1)))
    waiting = submit(jobs, "b", "two")
    assert {request.prompt for request in jobs.requests()} == {"a", "b"}
    generator.gate.release(2)
    assert isinstance(last(running), Finished)
    assert isinstance(last(waiting), Finished)
    deadline = time.monotonic() + 60
    while jobs.requests() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert jobs.requests() == []
