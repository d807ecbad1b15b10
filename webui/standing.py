"""The words between page and gate: what a session may reach, and how it asks for more.

The gate is the engine's. The page only carries questions to it and shows what it answers.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from webui.levels import Level

CeilingKind = Literal["asked", "operator", "share", "grant", "guards", "taint", "prompt"]
"""What can hold a job down: what was asked for; the operator's settings; the bound for visitors
from elsewhere; the session's grant; guards that are not loaded; pictures or models that are not
known to be this installation's own; what the prompt names."""

Method = Literal["owner", "invite", "issuer"]
"""How a grant is come by: the owner's statement at this machine, an invitation, a login."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GuardStanding(_Record):
    """A guard.

    Attributes:
        name: As in `webui.safety.policy.GuardName`.
        trouble: Why it is not loaded, in one sentence; `None` when it is.
    """

    name: str
    trouble: str | None = None


class LevelStanding(_Record):
    """A level as a session sees it.

    Attributes:
        held_by: What keeps the session below it; empty when it can be asked for.
        missing: Names of the guards it needs that are not loaded.
    """

    level: Level
    held_by: tuple[CeilingKind, ...] = ()
    missing: tuple[str, ...] = ()


class GrantStanding(_Record):
    """The session's grant.

    Attributes:
        seconds_left: Until it ends.
        idle_seconds: It also ends when the session is idle for that long; `None`: it does not.
    """

    level: Level
    method: Method
    seconds_left: float
    idle_seconds: float | None = None


class Standing(_Record):
    """What a session may reach.

    Attributes:
        level: The highest level that it can ask for now.
        levels: All of them, in order.
        guards: All guards, loaded or not.
        ways: How this session could come by a grant now.
        issuer: Name of the login provider, where one is configured.
    """

    kind: Literal["standing"] = "standing"
    level: Level
    levels: tuple[LevelStanding, ...]
    guards: tuple[GuardStanding, ...]
    ways: tuple[Method, ...] = ()
    issuer: str | None = None
    grant: GrantStanding | None = None


class Redirect(_Record):
    """The address to send the browser to for a login."""

    kind: Literal["redirect"] = "redirect"
    address: str


class Look(_Record):
    """What may I reach?"""

    kind: Literal["look"] = "look"


class SendLink(_Record):
    """Print a one-time link for the owner on the console."""

    kind: Literal["send link"] = "send link"
    address: str


class Declare(_Record):
    """The owner's statement to be of age.

    Attributes:
        token: From the one-time link.
    """

    kind: Literal["declare"] = "declare"
    token: Annotated[str, Field(max_length=200)]


class Redeem(_Record):
    """An invitation's code."""

    kind: Literal["redeem"] = "redeem"
    code: Annotated[str, Field(max_length=200)]


class LogIn(_Record):
    """Begin a login with the configured issuer.

    Attributes:
        back: The address the issuer sends the browser back to.
    """

    kind: Literal["log in"] = "log in"
    back: Annotated[str, Field(max_length=2_000)]


class LoggedIn(_Record):
    """The browser is back from the issuer, with these parameters."""

    kind: Literal["logged in"] = "logged in"
    code: Annotated[str, Field(max_length=4_000)]
    state: Annotated[str, Field(max_length=200)]


class GiveUp(_Record):
    """End my grant."""

    kind: Literal["give up"] = "give up"


Question = Look | SendLink | Declare | Redeem | LogIn | LoggedIn | GiveUp
Answer = Standing | Redirect
