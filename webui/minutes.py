"""What the engine tells the audit log of its jobs."""

from __future__ import annotations

import logging
from typing import Protocol

from webui.clearance import Admitted, Discarded
from webui.errors import StorageError
from webui.generator import Session
from webui.levels import STRICT, Level
from webui.request import GenerationRequest

_log = logging.getLogger(__name__)


class Recorder(Protocol):
    """Writes the log, and holds everybody at the strict level while it cannot: the gate."""

    def record(self, event: str, session: Session | None = None, **facts: object) -> None:
        """Writes one line.

        Raises:
            StorageError: It cannot be written.
        """
        ...

    def pseudonym(self, text: str) -> str:
        """A name for a text that only tells, within one day, whether two are the same.

        Raises:
            StorageError: It cannot be given one.
        """
        ...


class Minutes:
    """Keeps the log of jobs. Above the strict level nothing goes on that is not written down."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def admitted(self, admitted: Admitted) -> None:
        """A job's turn has come.

        Raises:
            StorageError: It cannot be recorded, and is above the strict level.
        """
        self._write("dequeued", admitted, tainted=admitted.tainted)

    def refused(self, request: GenerationRequest, session: Session) -> None:
        """A request was refused."""
        self._record("refused", STRICT, request, session, {"requested": session.level})

    def withheld(self, admitted: Admitted, verdict: Discarded) -> None:
        """A picture did not pass.

        Raises:
            StorageError: As `admitted`.
        """
        scores = dict(verdict.scores) or None
        self._write("withheld", admitted, rule=verdict.rule, scores=scores)

    def released(self, admitted: Admitted, sha256: str, *, tainted: bool) -> None:
        """A picture goes out.

        Raises:
            StorageError: As `admitted`.
        """
        self._write("released", admitted, files=[sha256], tainted=tainted)

    def _write(self, event: str, admitted: Admitted, **facts: object) -> None:
        known: dict[str, object] = {
            "requested": admitted.session.level,
            "effective": admitted.level,
            "ceiling": admitted.held_by,
        }
        self._record(event, admitted.level, admitted.request, admitted.session, known | facts)

    def _record(
        self,
        event: str,
        level: Level,
        request: GenerationRequest,
        session: Session,
        facts: dict[str, object],
    ) -> None:
        try:
            prompt = self._recorder.pseudonym(request.prompt)
            self._recorder.record(event, session, prompt=prompt, **facts)
        except StorageError as error:
            if level > STRICT:
                raise
            _log.warning("The audit log is not written: %s", error.message)
