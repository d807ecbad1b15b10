from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.work import finite
from webui.events import Event, Finished, Step
from webui.ui.following import tell
from webui.ui.story import Story

END = Finished(saved=0, withheld=0, seconds=1)


def step(number: int) -> Step:
    return Step(step=number, steps=1000, batch=0, batches=1, seconds_per_step=0.001, seconds_left=1)


@dataclass
class Log:
    """A job whose events come `seconds` apart."""

    events: tuple[Event, ...]
    seconds: float = 0.0
    closed: threading.Event = field(default_factory=threading.Event)

    def follow(self, start: int = 0) -> Iterator[Event]:
        try:
            for event in self.events[start:]:
                time.sleep(self.seconds)
                yield event
        finally:
            self.closed.set()


async def stories(log: Log, pause: float) -> list[tuple[float, Story]]:
    return [(time.perf_counter(), story) async for story in tell(log, pause=pause)]


def test_many_events_become_few_updates_and_none_is_lost() -> None:
    log = Log((*(step(n) for n in range(1, 101)), END), seconds=0.005)
    heard = asyncio.run(stories(log, 0.1))
    times = [at for at, _ in heard]
    assert 1 < len(heard) < len(log.events)
    # The last one comes without a pause after it, not without one before it.
    assert all(b - a >= 0.095 for a, b in itertools.pairwise(times))
    assert heard[-1][1].ending == END
    assert heard[-1][1].step == step(100)


def test_the_newest_event_is_told_even_when_a_long_silence_follows() -> None:
    async def first_two(log: Log) -> list[int]:
        told: list[int] = []
        async for story in tell(log, pause=0.05):
            assert story.step is not None
            told.append(story.step.step)
            if told[-1] == 3:
                break
        return told

    class ThenSilent(Log):
        def follow(self, start: int = 0) -> Iterator[Event]:
            yield from (step(1), step(2), step(3))
            self.closed.wait()

    log = ThenSilent(())
    with finite():
        assert asyncio.run(first_two(log))[-1] == 3
    log.closed.set()


def test_leaving_closes_our_side_of_the_job() -> None:
    log = Log(tuple(step(n) for n in range(1, 200)), seconds=0.01)

    async def leave_early() -> None:
        told = tell(log, pause=0.01)
        await anext(told)
        await told.aclose()

    asyncio.run(leave_early())
    assert log.closed.wait(60)
