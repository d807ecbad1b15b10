"""Which pictures brought in a session may use: those it brought since the server started."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from webui.errors import NotFoundError
from webui.generator import Session
from webui.request import GenerationRequest, pictures_of

_GONE = "The picture is not here any more: bring it in again."


class BroughtIn:
    """Pictures by session, bounded; who sits at this machine may use all that are there.

    A picture's name is its content hash, which a recipe tells everybody who gets the picture made
    of it: knowing the name must not be enough to see the original.
    """

    def __init__(self, *, most: int = 10_000) -> None:
        """`most`: pictures remembered over all sessions; the one longest not used goes first."""
        self._most = most
        self._lock = Lock()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, session: Session, *names: str) -> None:
        """Remembers that the session brought a picture, by each of its names."""
        with self._lock:
            for name in names:
                self._known[session.id, name] = None
                self._known.move_to_end((session.id, name))
            while len(self._known) > self._most:
                self._known.popitem(last=False)

    def check(self, session: Session, name: str, *, field: str | None = None) -> None:
        """Passes a picture that the session may use.

        Raises:
            NotFoundError: It is not one of the session's; said as if it were not there at all.
        """
        with self._lock:
            if (session.id, name) in self._known:
                self._known.move_to_end((session.id, name))
                return
        if session.remote:
            raise NotFoundError(_GONE, field=field)

    def check_request(self, session: Session, request: GenerationRequest) -> None:
        """Passes a request whose pictures the session may use.

        Raises:
            NotFoundError: As `check`, with the field.
        """
        for field, name in pictures_of(request):
            self.check(session, name, field=field)
