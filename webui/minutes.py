"""What the engine tells the audit log of its jobs."""

from __future__ import annotations

import logging

from webui.clearance import Admitted, Discarded
from webui.errors import StorageError
from webui.generator import Session
from webui.levels import STRICT, Level
from webui.request import GenerationRequest
from webui.safety.audit import Audit

_log = logging.getLogger(__name__)


class Minutes:
    """Keeps the audit log. Above the strict level nothing goes on that cannot be written down."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def admitted(self, admitted: Admitted) -> None:
        """A job begins.

        Raises:
            StorageError: It cannot be recorded, and is above the strict level.
        """
        self._write("dequeued", admitted, tainted=admitted.tainted)

    def refused(self, request: GenerationRequest, session: Session) -> None:
        """A request was refused."""
        facts = {"session": session.id, "requested": session.level, "prompt": request.prompt}
        self._record("refused", STRICT, facts)

    def withheld(self, admitted: Admitted, verdict: Discarded) -> None:
        """A picture did not pass."""
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
            "session": admitted.session.id,
            "requested": admitted.session.level,
            "effective": admitted.level,
            "ceiling": admitted.held_by,
            "prompt": admitted.request.prompt,
        }
        self._record(event, admitted.level, known | facts)

    def _record(self, event: str, level: Level, facts: dict[str, object]) -> None:
        try:
            for name in ("session", "prompt"):
                facts[name] = self._audit.pseudonym(str(facts[name]))
            self._audit.record(event, **facts)
        except StorageError as error:
            if level > STRICT:
                raise
            _log.warning("The audit log is not written: %s", error.message)
