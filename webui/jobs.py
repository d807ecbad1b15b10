"""The fair queue before a device. Jobs outlive the tabs that asked for them."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from webui.errors import BusyError, EngineError
from webui.events import Cancelled, Event, Preview, Queued, Terminal, failed
from webui.generator import Cancel, Generator, Session
from webui.request import GenerationRequest


class Job:
    """One request on its way; any number of followers can watch it, now or later."""

    def __init__(
        self,
        request: GenerationRequest,
        session: Session,
        withdraw: Callable[[Job], None],
    ) -> None:
        self.id = secrets.token_hex(8)
        self.request = request
        self.session = session
        self.cancelled = Cancel()
        self._withdraw = withdraw
        self._events: list[Event | None] = []
        self._preview: int | None = None
        self._changed = threading.Condition()
        self._finished = False

    @property
    def finished(self) -> bool:
        """Whether the terminal event has happened."""
        return self._finished

    def cancel(self) -> None:
        """Ends the job within one step; one that waits ends at once."""
        self.cancelled.set()
        self._withdraw(self)

    def follow(self, start: int = 0) -> Iterator[Event]:
        """The events from number `start` on, live until the terminal one.

        Of the previews only the newest is kept. Closing the iterator does not end the job.
        """
        position = start
        while True:
            with self._changed:
                self._changed.wait_for(lambda at=position: len(self._events) > at)
                fresh = self._events[position:]
            position += len(fresh)
            for event in fresh:
                if event is None:
                    continue
                yield event
                if isinstance(event, Terminal):
                    return

    def add(self, event: Event) -> None:
        """Takes note of an event and wakes the followers."""
        with self._changed:
            if isinstance(event, Preview):
                if self._preview is not None:
                    self._events[self._preview] = None
                self._preview = len(self._events)
            self._events.append(event)
            self._finished = self._finished or isinstance(event, Terminal)
            self._changed.notify_all()


class Jobs:
    """Runs jobs one at a time, taking turns between the sessions that wait.

    Args:
        generator: What makes the pictures.
        consider: Passes a request that would be admitted, raises `WebuiError` for another; so that
            nobody waits in vain. A job is judged again when its turn comes.
        max_queued: Most jobs that may wait over all sessions.
        max_per_session: Most unfinished jobs of one session. Its drafts leave it all of these.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        consider: Callable[[GenerationRequest, Session], None] | None = None,
        max_queued: int = 64,
        max_per_session: int = 3,
    ) -> None:
        self._generator = generator
        self._consider = consider
        self._max_queued = max_queued
        self._max_per_session = max_per_session
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._runner = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._runner.start()

    def submit(self, request: GenerationRequest, session: Session) -> Job:
        """Puts a request in the queue.

        Raises:
            BusyError: The queue is full, or the session has too many unfinished jobs.
            WebuiError: It would not be admitted.
        """
        with self._changed:
            self._check_room(session)
        if self._consider is not None:
            self._consider(request, session)
        job = Job(request, session, self._withdraw)
        with self._changed:
            self._check_room(session)
            self._waiting.setdefault(session.id, deque()).append(job)
            self._tell_positions()
            self._changed.notify_all()
        return job

    def find(self, session_id: str) -> Job | None:
        """The session's newest unfinished job that is no draft."""
        with self._changed:
            unfinished = [job for job in self._unfinished(session_id) if not job.session.draft]
        return unfinished[-1] if unfinished else None

    def requests(self) -> list[GenerationRequest]:
        """What the unfinished jobs of all sessions ask for."""
        with self._changed:
            jobs = [job for waiting in self._waiting.values() for job in waiting]
            return [job.request for job in (*jobs, self._running) if job is not None]

    def cancel_where(self, which: Callable[[Session], bool]) -> None:
        """Cancels the unfinished jobs of all sessions that `which` names."""
        with self._changed:
            jobs = [job for waiting in self._waiting.values() for job in waiting]
            if self._running is not None:
                jobs.append(self._running)
        for job in jobs:
            if which(job.session):
                job.cancel()

    def close(self) -> None:
        """Cancels everything and stops taking jobs on."""
        with self._changed:
            self._closing = True
            jobs = [job for waiting in self._waiting.values() for job in waiting]
            self._waiting.clear()
            if self._running is not None:
                self._running.cancel()
            self._changed.notify_all()
        for job in jobs:
            job.add(failed(EngineError("The server was stopped before this job's turn came.")))

    def _check_room(self, session: Session) -> None:
        unfinished = self._unfinished(session.id)
        if not session.draft:
            unfinished = [known for known in unfinished if not known.session.draft]
        if len(unfinished) >= self._max_per_session:
            raise BusyError(
                f"{self._max_per_session} of your jobs are not finished yet: wait or stop one."
            )
        if sum(map(len, self._waiting.values())) >= self._max_queued:
            raise BusyError("The queue is full: try again in a while.")

    def _withdraw(self, job: Job) -> None:
        """Takes a cancelled job out of the queue; one that runs ends by itself."""
        with self._changed:
            waiting = self._waiting.get(job.session.id, deque())
            if job not in waiting:
                return
            waiting.remove(job)
            if not waiting:
                del self._waiting[job.session.id]
            self._tell_positions()
        job.add(Cancelled(saved=0, seconds=0))

    def _unfinished(self, session_id: str) -> list[Job]:
        at_work = [job for job in [self._running] if job is not None and not job.finished]
        mine = [job for job in at_work if job.session.id == session_id]
        return mine + list(self._waiting.get(session_id, ()))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                job = self._running = self._take()
                self._tell_positions()
            for event in self._generator.generate(job.request, job.session, job.cancelled):
                job.add(event)
            with self._changed:
                self._running = None

    def _take(self) -> Job:
        """The next job; its session goes to the end of the line."""
        session_id, jobs = self._waiting.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._waiting[session_id] = jobs
        return job

    def _tell_positions(self) -> None:
        lines = [list(jobs) for jobs in self._waiting.values()]
        turns = [
            job
            for turn in range(max(map(len, lines), default=0))
            for line in lines
            for job in line[turn : turn + 1]
        ]
        for position, job in enumerate(turns, start=1):
            job.add(Queued(position=position))
