"""Which tab asked for which job, so that two tabs never mix and a reloaded one finds its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Lock

from webui.jobs import Job


class Tabs:
    """The newest job of each tab, and who is watching.

    Args:
        newest: The newest unfinished job of a session, if it has one.
    """

    def __init__(self, newest: Callable[[str], Job | None]) -> None:
        self._newest = newest
        self._jobs: dict[tuple[str, str], Job] = {}
        self._watchers: Counter[str] = Counter()
        self._lock = Lock()

    def asked(self, tab: str, job: Job) -> None:
        """Takes note that `tab` asked for `job`, or took it over."""
        with self._lock:
            self._jobs = {key: known for key, known in self._jobs.items() if not known.finished}
            self._jobs[job.session.id, tab] = job

    def own(self, session_id: str, tab: str) -> Job | None:
        """The tab's own unfinished job."""
        with self._lock:
            job = self._jobs.get((session_id, tab))
        return None if job is None or job.finished else job

    def orphan(self, session_id: str) -> tuple[Job | None, bool]:
        """The session's newest unfinished job, and whether no tab watches it any more."""
        job = self._newest(session_id)
        with self._lock:
            return job, job is not None and not self._watchers[job.id]

    @contextmanager
    def watching(self, job: Job) -> Generator[None, None, None]:
        """While it lasts, the job counts as watched."""
        with self._lock:
            self._watchers[job.id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._watchers[job.id] -= 1
                if not self._watchers[job.id]:
                    del self._watchers[job.id]
