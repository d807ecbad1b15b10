"""Who may reach which level: the one place where settings, grants, guards and log are joined."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol, assert_never

from webui.errors import (
    BadRequestError,
    NotFoundError,
    RefusedError,
    StorageError,
    WebuiError,
)
from webui.generator import Session
from webui.levels import LEVELS, STRICT, Level, lowest
from webui.safety.ceilings import Ceiling, effective
from webui.safety.grants import Grant, Grants
from webui.safety.invitations import Invitations, OwnerLinks
from webui.safety.operator import Policy, PolicyWatcher
from webui.safety.policy import GUARDS, GuardName, guards_needed, highest_level
from webui.standing import (
    Answer,
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

INVALID_CODE = "This code is not valid."
"""The one answer to every code that is not redeemed."""

INVALID_LINK = "This link is not valid any more: ask for another one."
"""The one answer to every token of an owner's link that is not accepted."""

ELSEWHERE = (
    "This can be done at the machine itself only, and not while other machines can reach it:"
    " ask for an invitation."
)
NOTHING_HIGHER = "No higher level can be reached from here."
LOG_NAME = "log"
LOG_FAILS = "The safety log cannot be written, so only the strict level can be used."
NOT_LOADED = "It is not loaded."

_PAGE = re.compile(r"(?P<page>https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?)/?")

_log = logging.getLogger(__name__)

Health = Callable[[], Mapping[GuardName, str | None]]
"""Every guard with why it is not at work, in one sentence; `None` when it is. One that is left
out is not."""


class Issuer(Protocol):
    """A login that states the age."""

    def begin(self, session_id: str, back: str) -> str:
        """The address to send the browser to, which comes back to `back`."""
        ...

    def finish(self, session_id: str, code: str, state: str) -> Level:
        """The level that the login grants.

        Raises:
            WebuiError: It is not accepted.
        """
        ...


class Log(Protocol):
    """The audit log."""

    def record(self, event: str, **facts: object) -> None:
        """Writes one line.

        Raises:
            StorageError: It cannot be written.
        """
        ...

    def pseudonym(self, text: str) -> str:
        """A name for a session that leads nowhere tomorrow."""
        ...


class Gate:
    """Answers for every session what it may reach. Safe to use from several threads."""

    def __init__(
        self,
        *,
        watcher: PolicyWatcher,
        grants: Grants,
        invitations: Invitations,
        links: OwnerLinks,
        issuer: Issuer | None,
        health: Health,
        log: Log,
        exposed: bool,
        announce: Callable[[str], None],
    ) -> None:
        """Joins the parts.

        Args:
            watcher: The operator's settings.
            grants: What sessions hold.
            invitations: What can be redeemed.
            links: The owner's.
            issuer: `None` where none is configured.
            health: Which guards are at work.
            log: The audit log; while it cannot be written, no level above strict is reached.
            exposed: Whether other machines can reach the page, by a share link or by the address
                it listens on: then nobody is taken for the owner.
            announce: Prints the owner's link where only the owner reads.
        """
        self._watcher = watcher
        self._grants = grants
        self._invitations = invitations
        self._links = links
        self._issuer = issuer
        self._health = health
        self._log = log
        self._exposed = exposed
        self._announce = announce
        self._log_fails = False

    def ceilings(self, session: Session) -> tuple[Ceiling, ...]:
        """What holds down a job that asks now: to be asked at admission, dequeue and release.

        Kinds are asked, operator, share (for sessions from elsewhere), grant and guards.
        """
        policy = self._watcher.policy()
        grant = self._grants.find(session.id, policy.digest, use=True)
        reach = self._reach(policy, session, grant, self._troubles())
        return (Ceiling("asked", session.level), *reach)

    def policy(self) -> Policy:
        """The operator's settings as they are now."""
        return self._watcher.policy()

    def answer(self, question: Question, session: Session) -> Answer:
        """Does what a session asks for and says what it may reach then.

        Raises:
            RefusedError: It is not granted.
            NotFoundError: There is no login.
            BadRequestError: The question names an address that is none of this machine's.
            StorageError: The log cannot be written, so nothing is granted.
        """
        match question:
            case Look():
                pass
            case SendLink():
                self._send_link(question.address, session)
            case Declare():
                self._declare(question.token, session)
            case Redeem():
                self._redeem(question.code, session)
            case LogIn():
                address = self._login(session).begin(session.id, question.back)
                return Redirect(address=address)
            case LoggedIn():
                self._log_in(question.code, question.state, session)
            case GiveUp():
                self._give_up(session)
            case _:
                assert_never(question)
        return self.standing(session)

    def standing(self, session: Session) -> Standing:
        """What a session may reach, and what it would need for more."""
        policy = self._watcher.policy()
        troubles = self._troubles()
        grant = self._grants.find(session.id, policy.digest)
        reach = self._reach(policy, session, grant, troubles)
        level, _ = effective(reach)
        return Standing(
            level=level,
            levels=tuple(_level_standing(each, reach, troubles) for each in LEVELS),
            guards=tuple(
                GuardStanding(name=name, trouble=trouble) for name, trouble in troubles.items()
            ),
            ways=self._ways(session, policy),
            issuer=policy.issuer.name
            if self._issuer is not None and policy.issuer is not None
            else None,
            grant=None
            if grant is None
            else GrantStanding(
                level=lowest(grant.level),
                method=grant.method,
                seconds_left=self._grants.seconds_left(grant),
                idle_seconds=grant.idle_limit,
            ),
        )

    def record(self, event: str, session: Session | None = None, **facts: object) -> None:
        """Writes a line to the log. While that fails, no level above strict is reached.

        Raises:
            StorageError: It cannot be written.
        """
        try:
            if session is not None:
                facts["session"] = self._log.pseudonym(session.id)
            self._log.record(event, **facts)
        except Exception as error:
            self._log_fails = True
            if isinstance(error, StorageError):
                raise
            raise StorageError(LOG_FAILS) from error
        self._log_fails = False

    def pseudonym(self, text: str) -> str:
        """A name for a text that only tells, within one day, whether two are the same.

        Raises:
            StorageError: It cannot be given one.
        """
        return self._log.pseudonym(text)

    def _send_link(self, address: str, session: Session) -> None:
        self._allow("owner", session)
        page = _page_at(address)
        token = self._links.make()
        self.record("link printed", session)
        self._announce(f"{page}/#owner={token}")

    def _declare(self, token: str, session: Session) -> None:
        self._allow("owner", session)
        if not self._links.spend(token):
            self.record("grant refused", session)
            raise RefusedError(INVALID_LINK)
        self._grant(session, LEVELS[-1], "owner")

    def _redeem(self, code: str, session: Session) -> None:
        self._allow("invite", session)
        redemption = self._invitations.redeem(code, session.id)
        if redemption.level is not None:
            self._grant(session, redemption.level, "invite")
            return
        # Tries while redemption is closed are not written down: they could fill the disk.
        if redemption.outcome != "closed":
            locked_out = redemption.outcome == "locked out"
            self.record("locked out" if locked_out else "grant refused", session)
        raise RefusedError(INVALID_CODE)

    def _log_in(self, code: str, state: str, session: Session) -> None:
        issuer = self._login(session)
        try:
            level = issuer.finish(session.id, code, state)
        except WebuiError:
            self.record("grant refused", session)
            raise
        self._grant(session, level, "issuer")

    def _login(self, session: Session) -> Issuer:
        if self._issuer is None:
            raise NotFoundError("No login is configured.")
        self._allow("issuer", session)
        return self._issuer

    def _grant(self, session: Session, level: Level, method: Method) -> None:
        """Grants what was come by, after it has been written down."""
        self.record(f"grant by {method}", session, effective=lowest(level))
        policy = self._watcher.policy()
        if self._grants.issue(session.id, level, method, policy.digest) is None:
            raise StorageError("Nothing can be granted now; restart the server.")

    def _give_up(self, session: Session) -> None:
        if self._grants.end(session.id):
            # What is given up is gone, written down or not.
            with suppress(StorageError):
                self.record("grant ended", session)

    def _allow(self, method: Method, session: Session) -> None:
        """Refuses what could grant nothing before anything is tried, or used up."""
        policy = self._watcher.policy()
        if method in self._ways(session, policy):
            return
        at_machine = not session.remote and not self._exposed
        raise RefusedError(ELSEWHERE if method == "owner" and not at_machine else NOTHING_HIGHER)

    def _ways(self, session: Session, policy: Policy) -> tuple[Method, ...]:
        share = self._share_ceiling(session, policy)
        if lowest(policy.max_level, *(() if share is None else (share,))) == STRICT:
            return ()
        owner: tuple[Method, ...] = () if session.remote or self._exposed else ("owner",)
        return (*owner, "invite", "issuer") if self._has_login(policy) else (*owner, "invite")

    def _has_login(self, policy: Policy) -> bool:
        return self._issuer is not None and policy.issuer is not None

    def _share_ceiling(self, session: Session, policy: Policy) -> Level | None:
        """`None` for a session at this machine."""
        if not session.remote:
            return None
        vouched = self._has_login(policy) or policy.knows_invitees
        return policy.share_max_level if vouched else STRICT

    def _reach(
        self,
        policy: Policy,
        session: Session,
        grant: Grant | None,
        troubles: Mapping[str, str | None],
    ) -> tuple[Ceiling, ...]:
        """What bounds a session, whatever it asks for."""
        share = self._share_ceiling(session, policy)
        loaded = frozenset[GuardName](name for name in GUARDS if troubles[name] is None)
        guards = STRICT if LOG_NAME in troubles else highest_level(loaded)
        return (
            Ceiling("operator", policy.max_level),
            *(() if share is None else (Ceiling("share", share),)),
            Ceiling("grant", STRICT if grant is None else grant.level),
            Ceiling("guards", guards),
        )

    def _troubles(self) -> dict[str, str | None]:
        found: Mapping[GuardName, str | None] = {}
        try:
            found = self._health()
        except Exception:  # noqa: BLE001
            # What the guards are up to is not known, so none of them counts.
            _log.exception("The guards do not say whether they are at work.")
        troubles: dict[str, str | None] = {name: found.get(name, NOT_LOADED) for name in GUARDS}
        return troubles | ({LOG_NAME: LOG_FAILS} if self._log_fails else {})


def _level_standing(
    level: Level, reach: tuple[Ceiling, ...], troubles: Mapping[str, str | None]
) -> LevelStanding:
    needed = {*guards_needed(level), *((LOG_NAME,) if level > STRICT else ())}
    return LevelStanding(
        level=level,
        held_by=tuple(ceiling.kind for ceiling in reach if lowest(ceiling.level) < level),
        missing=tuple(name for name, why in troubles.items() if name in needed and why is not None),
    )


def _page_at(address: str) -> str:
    """The page's address, which must be this machine's: the link is a secret.

    Raises:
        BadRequestError: It is another's, or no address.
    """
    match = _PAGE.fullmatch(address)
    if match is None:
        raise BadRequestError("The page's address is not one of this machine.")
    return match["page"]
