"""A gate that does as it is told, and a shared page that is none: for the page's own tests."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from tests.fakes import FakeGenerator
from webui.errors import GateError
from webui.events import Event, Notice
from webui.generator import Cancel, Session
from webui.levels import LEVELS, STRICT, Level, as_level
from webui.request import GenerationRequest
from webui.safety.policy import GuardName, highest_level
from webui.standing import (
    Answer,
    CeilingKind,
    Declare,
    GiveUp,
    GrantStanding,
    GuardStanding,
    LevelStanding,
    LoggedIn,
    LogIn,
    Look,
    Method,
    Question,
    Redeem,
    Redirect,
    SendLink,
    Standing,
)

NEEDS: dict[Level, tuple[GuardName, ...]] = {
    0: ("detector", "words"),
    1: ("nsfw", "face age"),
    2: ("explicit", "text"),
}
BY_OWNER, BY_INVITE, BY_ISSUER = 43_200.0, 14_400.0, 28_800.0
IDLE = 1_800.0


class Script(BaseModel):
    """What the gate is to say from now on.

    Attributes:
        operator: The operator's setting.
        missing: Guards that are not loaded, and why.
        elsewhere: Everybody counts as a visitor from elsewhere.
        codes: Invitations that work once, by their level.
        issuer: Name of the login provider.
        refuses: The login provider says no.
        seconds: How long a grant lasts, where it is not as usual.
        shared: What `GET /share` says; `None` where nothing is shared.
    """

    operator: Level = 2
    missing: dict[str, str] = Field(default_factory=dict[str, str])
    elsewhere: bool = False
    codes: dict[str, Level] = Field(default_factory=dict[str, Level])
    issuer: str | None = None
    refuses: bool = False
    seconds: float | None = None
    shared: dict[str, Any] | None = None


@dataclass(frozen=True)
class Grant:
    """A level for a while."""

    level: Level
    method: Method
    ends: float
    idle: float | None = None


@dataclass
class StandInGate:
    """Answers as `webui.standing` has it.

    Attributes:
        links: Tokens of the owner's links that were printed and not used.
        asked: The levels that jobs were asked with.
    """

    script: Script = field(default_factory=Script)
    grants: dict[str, Grant] = field(default_factory=dict[str, Grant])
    links: set[str] = field(default_factory=set[str])
    asked: list[Level] = field(default_factory=list[Level])

    def answer(self, question: Question, session: Session) -> Answer:
        """What the gate says."""
        match question:
            case Look():
                pass
            case SendLink():
                self.links.add(secrets.token_urlsafe(16))
            case Declare():
                if question.token not in self.links:
                    raise GateError("This link is not valid any more.")
                self.links.remove(question.token)
                self._grant(session, 2, "owner", BY_OWNER)
            case Redeem():
                if question.code not in self.script.codes:
                    raise GateError("This code is not valid.")
                level = self.script.codes.pop(question.code)
                self._grant(session, level, "invite", BY_INVITE, IDLE)
            case LogIn():
                state = "refused" if self.script.refuses else "ok"
                return Redirect(address=f"{question.back}?code=any&state={state}")
            case LoggedIn():
                if question.state != "ok":
                    raise GateError("This login is not valid.")
                self._grant(session, 2, "issuer", BY_ISSUER)
            case GiveUp():
                self.grants.pop(session.id, None)
        return self.standing(session)

    def standing(self, session: Session) -> Standing:
        """What the session may reach."""
        grant = self.grants.get(session.id)
        if grant is not None and grant.ends < time.monotonic():
            grant = None
        levels = tuple(self._of(level, grant) for level in LEVELS)
        return Standing(
            level=as_level(
                max((each.level for each in levels if not each.held_by), default=STRICT)
            ),
            levels=levels,
            guards=tuple(
                GuardStanding(name=name, trouble=self.script.missing.get(name))
                for names in NEEDS.values()
                for name in names
            ),
            ways=() if self.script.elsewhere else self._ways(),
            issuer=self.script.issuer,
            grant=None
            if grant is None
            else GrantStanding(
                level=grant.level,
                method=grant.method,
                seconds_left=grant.ends - time.monotonic(),
                idle_seconds=grant.idle,
            ),
        )

    def _of(self, level: Level, grant: Grant | None) -> LevelStanding:
        held: list[CeilingKind] = []
        missing = [
            name for under in LEVELS[: level + 1] for name in NEEDS[under] if self._misses(name)
        ]
        if level > self.script.operator:
            held.append("operator")
        if level and self.script.elsewhere:
            held.append("share")
        if level > (grant.level if grant else STRICT):
            held.append("grant")
        loaded: frozenset[GuardName] = frozenset(
            name for names in NEEDS.values() for name in names if not self._misses(name)
        )
        if level > highest_level(loaded):
            held.append("guards")
        return LevelStanding(level=level, held_by=tuple(held), missing=tuple(missing))

    def _misses(self, name: GuardName) -> bool:
        return name in self.script.missing

    def _ways(self) -> tuple[Method, ...]:
        return ("owner", "invite", *(("issuer",) if self.script.issuer else ()))

    def _grant(
        self,
        session: Session,
        level: Level,
        method: Method,
        usual: float,
        idle: float | None = None,
    ) -> None:
        seconds = self.script.seconds or usual
        self.grants[session.id] = Grant(level, method, time.monotonic() + seconds, idle)


@dataclass
class GatedGenerator(FakeGenerator):
    """The fake generator, which takes note of levels and tells when one is too high."""

    gate: StandInGate = field(default_factory=StandInGate)

    def generate(
        self, request: GenerationRequest, session: Session, cancel: Cancel
    ) -> Iterator[Event]:
        """Yields what the engine would."""
        self.gate.asked.append(session.level)
        if session.level > self.gate.standing(session).level:
            yield Notice(message="Made at the strict level: the grant has ended.")
        yield from super().generate(request, session, cancel)


def routes(gate: StandInGate) -> APIRouter:
    """`/gate/script`, to tell the gate what to say, and a share link that is none."""
    router = APIRouter()

    @router.put("/gate/script")
    def told(script: Script) -> dict[str, Any]:
        gate.script = script
        gate.grants.clear()
        gate.links.clear()
        gate.asked.clear()
        return {}

    @router.get("/gate/script")
    def known() -> dict[str, Any]:
        return {"links": sorted(gate.links), "asked": gate.asked}

    @router.get("/share")
    def share() -> dict[str, Any]:
        return gate.script.shared or {"active": False}

    @router.post("/share/stop")
    def stop() -> dict[str, Any]:
        gate.script.shared = {"active": False}
        return {}

    return router
