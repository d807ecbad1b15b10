"""A gate with everything in it, over a folder, with a clock to be set and a log to be broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from webui.errors import StorageError
from webui.generator import Session
from webui.levels import LEVELS, Level
from webui.safety.ceilings import effective
from webui.safety.gate import Gate, Issuer
from webui.safety.grants import EPOCH_FILE, Epoch, Grants
from webui.safety.invitations import Invitations, OwnerLinks
from webui.safety.operator import FILE, PolicyWatcher
from webui.safety.policy import GUARDS, GuardName
from webui.standing import Redeem, Standing

PAGE = "http://127.0.0.1:7860"
OWNER = Session(id="the owner's", level=2)
VISITOR = Session(id="a visitor's", level=2)
REMOTE = Session(id="from elsewhere", level=2, remote=True)

OPEN = "max_level = 2\n"
SHARED = "max_level = 2\nshare_max_level = 2\nknows_invitees = true\n"
ISSUER = """
[issuer]
url = "https://login.example"
client_id = "easel"
client_secret = "placeholder"
claim = "of_age"
value = true
level = 1
name = "Example"
"""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class LogStub:
    """A log that remembers, or fails with whatever it is given."""

    events: list[tuple[str, dict[str, object]]] = field(
        default_factory=list[tuple[str, dict[str, object]]]
    )
    failure: Exception | None = None

    def record(self, event: str, **facts: object) -> None:
        if self.failure is not None:
            raise self.failure
        self.events.append((event, facts))

    def pseudonym(self, text: str) -> str:
        return f"pseudonym of {len(text)}"

    @property
    def names(self) -> list[str]:
        return [event for event, _ in self.events]

    def breaks(self) -> None:
        self.failure = StorageError("The disk is full.")


@dataclass
class IssuerStub:
    """A login that grants a level, or fails."""

    level: Level = 1
    failure: Exception | None = None

    def begin(self, session_id: str, back: str) -> str:
        return f"https://login.example/?back={back}"

    def finish(self, session_id: str, code: str, state: str) -> Level:
        if self.failure is not None:
            raise self.failure
        return self.level


def all_at_work() -> Mapping[GuardName, str | None]:
    return dict.fromkeys(GUARDS)


@dataclass
class Keep:
    """A gate and what it is made of."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    log: LogStub = field(default_factory=LogStub)
    health: Mapping[GuardName, str | None] = field(default_factory=all_at_work)
    issuer: Issuer | None = None
    exposed: bool = False
    bound: Level = LEVELS[-1]
    said: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.epoch = Epoch(self.folder / EPOCH_FILE)
        self.epoch.begin()
        self.grants = Grants(self.epoch, clock=self.clock)
        self.invitations = Invitations(self.folder, self.epoch, clock=self.clock)
        self.links = OwnerLinks(clock=self.clock)
        self.gate = Gate(
            watcher=PolicyWatcher(self.folder / FILE, bound=self.bound),
            grants=self.grants,
            invitations=self.invitations,
            links=self.links,
            issuer=self.issuer,
            health=lambda: self.health,
            log=self.log,
            exposed=self.exposed,
            announce=self.said.append,
        )

    def level(self, session: Session) -> Level:
        """What a job of the session runs at."""
        return effective(self.gate.ceilings(session))[0]

    def standing(self, session: Session) -> Standing:
        return self.gate.standing(session)

    def grant(self, session: Session, level: Level = 2) -> None:
        """Grants the session a level by an invitation."""
        self.gate.answer(Redeem(code=self.invitations.invite(level, 3600)), session)


def write_policy(folder: Path, text: str, mode: int = 0o600) -> Path:
    """Puts a policy in place as the command does, whole and as a new file."""
    path, temporary = folder / FILE, folder / "policy.new"
    temporary.write_text(text, encoding="utf-8")
    temporary.chmod(mode)
    temporary.replace(path)
    return path
