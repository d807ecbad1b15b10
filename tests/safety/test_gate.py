from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.safety.keeping import (
    ISSUER,
    OPEN,
    OWNER,
    PAGE,
    REMOTE,
    SHARED,
    VISITOR,
    IssuerStub,
    Keep,
    all_at_work,
    write_policy,
)
from webui.errors import BadRequestError, NotFoundError, RefusedError, StorageError
from webui.generator import Session
from webui.safety.audit import FOLDER, Audit, verify_log
from webui.safety.ceilings import Ceiling
from webui.safety.gate import (
    AUDIT_FAILS,
    ELSEWHERE,
    INVALID_CODE,
    INVALID_LINK,
    NOT_LOADED,
    NOTHING_HIGHER,
)
from webui.safety.grants import EPOCH_FILE
from webui.safety.policy import GUARDS
from webui.standing import (
    Declare,
    GiveUp,
    GrantStanding,
    GuardStanding,
    LevelStanding,
    LoggedIn,
    LogIn,
    Look,
    Question,
    Redeem,
    Redirect,
    SendLink,
)


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    write_policy(tmp_path, OPEN)
    return Keep(tmp_path)


def refusal(keep: Keep, question: Question, session: Session) -> str:
    with pytest.raises(RefusedError) as refused:
        keep.gate.answer(question, session)
    return refused.value.message


def token_of(keep: Keep) -> str:
    keep.gate.answer(SendLink(address=PAGE), OWNER)
    address, _, token = keep.said[-1].partition("/#owner=")
    assert address == PAGE
    return token


def test_without_anything_a_session_is_strict(tmp_path: Path) -> None:
    keep = Keep(tmp_path)
    standing = keep.standing(VISITOR)
    assert standing == keep.gate.answer(Look(), VISITOR)
    assert (standing.level, standing.ways, standing.grant, standing.issuer) == (0, (), None, None)
    assert standing.levels == (
        LevelStanding(level=0),
        LevelStanding(level=1, held_by=("operator", "grant")),
        LevelStanding(level=2, held_by=("operator", "grant")),
    )
    assert standing.guards == tuple(GuardStanding(name=name) for name in GUARDS)
    assert keep.level(VISITOR) == 0
    assert keep.log.events == []


def test_the_owners_statement_grants_the_highest_level(keep: Keep) -> None:
    assert keep.standing(OWNER).ways == ("owner", "invite")
    token = token_of(keep)
    standing = keep.gate.answer(Declare(token=token), OWNER)
    assert standing == keep.standing(OWNER)
    assert keep.level(OWNER) == 2
    assert keep.standing(OWNER).level == 2
    assert keep.standing(OWNER).grant == GrantStanding(
        level=2, method="owner", seconds_left=12 * 3600
    )
    assert keep.standing(OWNER).levels[2] == LevelStanding(level=2)
    assert keep.level(VISITOR) == 0
    assert refusal(keep, Declare(token=token), VISITOR) == INVALID_LINK
    assert keep.log.names == ["link printed", "grant by owner", "grant refused"]
    assert keep.log.events[1][1] == {"effective": 2, "session": "pseudonym of 11"}


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:7860",
        "https://127.0.0.1",
        "http://[::1]:7860",
    ],
)
def test_the_owners_link_leads_to_the_page(keep: Keep, address: str) -> None:
    keep.gate.answer(SendLink(address=f"{address}/"), OWNER)
    assert keep.said[0].startswith(f"{address}/#owner=")
    assert len(keep.said[0]) == len(address) + len("/#owner=") + 22


@pytest.mark.parametrize(
    "address",
    [
        "",
        "http://elsewhere.example",
        "http://localhost.elsewhere.example",
        "http://localhost@elsewhere.example",
        "http://user@localhost",
        "javascript://localhost",
        "http://localhost:7860/\n",
        "http://localhost\x1b[2J",
        "http://localhost/?a=1",
    ],
)
def test_the_owners_link_leads_nowhere_else(keep: Keep, address: str) -> None:
    with pytest.raises(BadRequestError, match="not one of this machine"):
        keep.gate.answer(SendLink(address=address), OWNER)
    assert keep.said == []


def test_an_invitation_grants_its_level_and_ends_by_being_idle(keep: Keep) -> None:
    keep.grant(VISITOR, 1)
    assert keep.level(VISITOR) == 1
    assert keep.standing(VISITOR).grant == GrantStanding(
        level=1, method="invite", seconds_left=4 * 3600, idle_seconds=1800
    )
    assert keep.standing(VISITOR).levels[2].held_by == ("grant",)
    keep.clock.now += 1000
    assert keep.level(VISITOR) == 1
    keep.clock.now += 1000
    assert keep.standing(VISITOR).level == 1
    keep.clock.now += 1000
    assert keep.standing(VISITOR).level == 0, "looking keeps nothing"


def test_a_grant_can_be_given_up(keep: Keep) -> None:
    keep.grant(VISITOR)
    assert keep.gate.answer(GiveUp(), VISITOR) == keep.standing(VISITOR)
    assert keep.standing(VISITOR).grant is None
    keep.gate.answer(GiveUp(), VISITOR)
    assert keep.log.names == ["grant by invite", "grant ended"]


def test_giving_up_works_while_the_log_fails(keep: Keep) -> None:
    keep.grant(VISITOR)
    keep.log.breaks()
    keep.gate.answer(GiveUp(), VISITOR)
    assert keep.standing(VISITOR).grant is None


def test_failed_codes_are_written_down_until_redemption_closes(keep: Keep) -> None:
    for _ in range(7):
        assert refusal(keep, Redeem(code="wrong"), VISITOR) == INVALID_CODE
    assert keep.log.names == [*["grant refused"] * 4, "locked out"]


def test_the_ceilings_are_those_of_the_moment(keep: Keep) -> None:
    asked = Ceiling("asked", 2)
    assert keep.gate.ceilings(VISITOR) == (
        asked,
        Ceiling("operator", 2),
        Ceiling("grant", 0),
        Ceiling("guards", 2),
    )
    keep.grant(VISITOR, 1)
    write_policy(keep.folder, "max_level = 2\nmosaic_previews = true\n")
    assert Ceiling("grant", 0) in keep.gate.ceilings(VISITOR), "other settings, no grant"
    keep.grant(VISITOR, 1)
    assert Ceiling("grant", 1) in keep.gate.ceilings(VISITOR)
    keep.health = {**all_at_work(), "text": "Not pinned."}
    assert Ceiling("guards", 1) in keep.gate.ceilings(VISITOR)
    assert keep.gate.policy().mosaic_previews


def test_guards_that_are_not_at_work_are_told(keep: Keep) -> None:
    keep.grant(VISITOR)
    keep.health = {"detector": None, "words": None, "nsfw": None, "face age": "Not pinned."}
    standing = keep.standing(VISITOR)
    assert standing.level == 0
    assert standing.levels[0] == LevelStanding(level=0)
    assert standing.levels[1] == LevelStanding(level=1, held_by=("guards",), missing=("face age",))
    assert standing.levels[2].missing == ("face age", "explicit", "text")
    troubles = {guard.name: guard.trouble for guard in standing.guards}
    assert troubles["face age"] == "Not pinned."
    assert troubles["text"] == NOT_LOADED
    assert troubles["detector"] is None


def test_guards_that_do_not_answer_are_not_at_work(
    keep: Keep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keep.grant(VISITOR)

    def fail() -> None:
        raise OSError("no answer")

    monkeypatch.setattr(keep.gate, "_health", fail)
    with caplog.at_level(logging.ERROR):
        standing = keep.standing(VISITOR)
    assert standing.level == 0
    assert standing.levels[0].missing == ("detector", "words")
    assert all(guard.trouble == NOT_LOADED for guard in standing.guards)
    assert "no answer" in caplog.text


def test_while_the_log_fails_only_the_strict_level_is_reached(keep: Keep) -> None:
    keep.grant(VISITOR)
    keep.log.breaks()
    with pytest.raises(StorageError, match="The disk is full"):
        keep.gate.record("released", VISITOR)
    assert keep.level(VISITOR) == 0
    standing = keep.standing(VISITOR)
    assert standing.levels[0] == LevelStanding(level=0)
    assert standing.levels[1].held_by == ("guards",)
    assert standing.levels[1].missing == ("audit",)
    assert standing.guards[-1] == GuardStanding(name="audit", trouble=AUDIT_FAILS)
    keep.log.failure = None
    keep.gate.record("started")
    assert keep.level(VISITOR) == 2
    assert keep.log.events[-1] == ("started", {})


def test_the_real_log_takes_all_that_happens(tmp_path: Path) -> None:
    write_policy(tmp_path, OPEN + ISSUER)
    folder = tmp_path / FOLDER
    keep = Keep(tmp_path, audit=Audit(folder), issuer=IssuerStub())
    keep.gate.answer(Declare(token=token_of(keep)), OWNER)
    keep.gate.answer(GiveUp(), OWNER)
    keep.grant(VISITOR)
    keep.gate.answer(LoggedIn(code="a", state="b"), VISITOR)
    for _ in range(5):
        refusal(keep, Redeem(code="wrong"), OWNER)
    verdict = verify_log(folder)
    assert verdict.is_whole
    assert verdict.lines == 10
    written = "".join(path.read_text() for path in folder.glob("*.jsonl"))
    assert OWNER.id not in written
    assert VISITOR.id not in written


def test_a_log_that_fails_in_any_way_grants_nothing(keep: Keep) -> None:
    code = keep.invitations.invite(2, 3600)
    keep.log.failure = ValueError("no such event")
    with pytest.raises(StorageError, match=r"log cannot be written"):
        keep.gate.answer(Redeem(code=code), VISITOR)
    assert keep.standing(VISITOR).grant is None


def test_while_the_log_fails_no_owners_link_is_printed(keep: Keep) -> None:
    keep.log.breaks()
    with pytest.raises(StorageError):
        keep.gate.answer(SendLink(address=PAGE), OWNER)
    assert keep.said == []


def test_where_no_epoch_can_be_begun_nothing_is_granted(keep: Keep) -> None:
    token = token_of(keep)
    (keep.folder / EPOCH_FILE).mkdir()
    with pytest.raises(StorageError):
        keep.gate.answer(Declare(token=token), OWNER)
    assert keep.standing(OWNER).grant is None


def test_where_no_level_is_above_nothing_is_asked_for(tmp_path: Path) -> None:
    keep = Keep(tmp_path, issuer=IssuerStub())
    questions = (SendLink(address=PAGE), Declare(token="a"), Redeem(code="a"))
    for question in (*questions, LogIn(back=PAGE), LoggedIn(code="a", state="b")):
        assert refusal(keep, question, VISITOR) == NOTHING_HIGHER


def test_a_code_is_not_used_up_where_it_could_grant_nothing(tmp_path: Path) -> None:
    write_policy(tmp_path, OPEN)
    keep = Keep(tmp_path)
    code = keep.invitations.invite(2, 3600)
    assert refusal(keep, Redeem(code=code), REMOTE) == NOTHING_HIGHER
    keep.gate.answer(Redeem(code=code), VISITOR)
    assert keep.level(VISITOR) == 2


@pytest.mark.parametrize(
    ("policy", "with_issuer", "level"),
    [
        (OPEN, False, 0),
        (f"{OPEN}share_max_level = 2\n", False, 0),
        (f"{OPEN}share_max_level = 2\n", True, 0),
        (f"{OPEN}knows_invitees = true\n", False, 0),
        (f"{OPEN}share_max_level = 1\nknows_invitees = true\n", False, 1),
        (SHARED, False, 2),
        (f"{OPEN}share_max_level = 2\n{ISSUER}", True, 2),
        (f"{OPEN}share_max_level = 2\n{ISSUER}", False, 0),
        ("share_max_level = 2\nknows_invitees = true\n", False, 0),
    ],
)
def test_what_visitors_from_elsewhere_can_reach(
    tmp_path: Path, policy: str, with_issuer: bool, level: int
) -> None:
    write_policy(tmp_path, policy)
    keep = Keep(tmp_path, issuer=IssuerStub() if with_issuer else None)
    digest = keep.gate.policy().digest
    keep.grants.issue(REMOTE.id, 2, "invite", digest)
    assert keep.level(REMOTE) == keep.standing(REMOTE).level == level
    assert ("invite" in keep.standing(REMOTE).ways) is (level > 0)
    share = [each.level for each in keep.gate.ceilings(REMOTE) if each.kind == "share"]
    assert len(share) == 1
    assert not [each for each in keep.gate.ceilings(OWNER) if each.kind == "share"]


def test_nobody_elsewhere_is_the_owner(tmp_path: Path) -> None:
    write_policy(tmp_path, SHARED)
    keep = Keep(tmp_path)
    token = token_of(keep)
    assert keep.standing(REMOTE).ways == ("invite",)
    assert refusal(keep, SendLink(address=PAGE), REMOTE) == ELSEWHERE
    assert refusal(keep, Declare(token=token), REMOTE) == ELSEWHERE
    assert len(keep.said) == 1
    keep.gate.answer(Declare(token=token), OWNER)
    assert keep.level(OWNER) == 2


def test_a_login_grants_what_the_issuer_says(tmp_path: Path) -> None:
    write_policy(tmp_path, OPEN + ISSUER)
    keep = Keep(tmp_path, issuer=IssuerStub(level=1))
    assert keep.standing(VISITOR).ways == ("owner", "invite", "issuer")
    assert keep.standing(VISITOR).issuer == "Example"
    redirect = keep.gate.answer(LogIn(back=PAGE), VISITOR)
    assert redirect == Redirect(address=f"https://login.example/?back={PAGE}")
    keep.gate.answer(LoggedIn(code="a", state="b"), VISITOR)
    assert keep.level(VISITOR) == 1
    assert keep.standing(VISITOR).grant == GrantStanding(
        level=1, method="issuer", seconds_left=8 * 3600
    )
    assert keep.log.names == ["grant by issuer"]


def test_a_login_that_is_not_accepted_grants_nothing(tmp_path: Path) -> None:
    write_policy(tmp_path, OPEN + ISSUER)
    keep = Keep(tmp_path, issuer=IssuerStub(failure=RefusedError("Not of age.")))
    assert refusal(keep, LoggedIn(code="a", state="b"), VISITOR) == "Not of age."
    assert keep.standing(VISITOR).grant is None
    assert keep.log.names == ["grant refused"]


def test_without_an_issuer_there_is_no_login(keep: Keep) -> None:
    for question in (LogIn(back=PAGE), LoggedIn(code="a", state="b")):
        with pytest.raises(NotFoundError, match="No login is configured"):
            keep.gate.answer(question, VISITOR)


def test_an_issuer_that_the_settings_no_longer_name_logs_nobody_in(tmp_path: Path) -> None:
    write_policy(tmp_path, OPEN + ISSUER)
    keep = Keep(tmp_path, issuer=IssuerStub())
    write_policy(tmp_path, OPEN)
    assert keep.standing(VISITOR).issuer is None
    assert refusal(keep, LoggedIn(code="a", state="b"), VISITOR) == NOTHING_HIGHER


def test_what_is_no_question_is_not_answered(keep: Keep) -> None:
    odd: Question = "raise me"  # pyright: ignore[reportAssignmentType]
    with pytest.raises(AssertionError):
        keep.gate.answer(odd, OWNER)
