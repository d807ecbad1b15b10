"""Which saved pictures a session may see: those it made since the server started."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from webui.events import Saved
from webui.jobs import Job


@dataclass(frozen=True)
class Picture:
    """One saved file and what is said about it.

    Attributes:
        id: Hex sha256 of the file's bytes.
        prompt: What was asked for; the picture's text alternative.
    """

    id: str
    path: Path
    seed: int
    width: int
    height: int
    prompt: str


class Pictures:
    """Pictures by session, bounded in both; files themselves stay where they were saved.

    Args:
        saved: Is told once of every picture that is recorded.
        max_sessions: Sessions remembered; the one longest without a new picture goes first.
        max_per_session: Newest pictures remembered of each session.
    """

    def __init__(
        self,
        saved: Callable[[Path], object],
        *,
        max_sessions: int = 1_000,
        max_per_session: int = 200,
    ) -> None:
        self._saved = saved
        self._max_sessions = max_sessions
        self._max_per_session = max_per_session
        self._lock = Lock()
        self._shelves: OrderedDict[str, OrderedDict[str, Picture]] = OrderedDict()

    def keep(self, job: Job, saved: Saved) -> Picture:
        """Remembers a picture as one of the job's session; keeping it again changes nothing."""
        picture = Picture(
            id=saved.sha256,
            path=Path(saved.path),
            seed=saved.seed,
            width=saved.width,
            height=saved.height,
            prompt=job.request.prompt,
        )
        with self._lock:
            shelf = self._shelves.setdefault(job.session.id, OrderedDict())
            self._shelves.move_to_end(job.session.id)
            shelf.setdefault(picture.id, picture)
            while len(shelf) > self._max_per_session:
                shelf.popitem(last=False)
            while len(self._shelves) > self._max_sessions:
                self._shelves.popitem(last=False)
        return picture

    def record(self, job: Job) -> None:
        """Keeps every picture of a job until it ends, whether or not a tab still watches."""
        for event in job.follow():
            if isinstance(event, Saved):
                self._saved(self.keep(job, event).path)

    def newest_first(self, session: str) -> tuple[Picture, ...]:
        """The session's pictures, the newest first."""
        with self._lock:
            return tuple(reversed(self._shelves.get(session, OrderedDict()).values()))

    def find(self, session: str, picture: str) -> Picture | None:
        """A picture by its id, only if it is one of `session`."""
        with self._lock:
            return self._shelves.get(session, OrderedDict()).get(picture)
