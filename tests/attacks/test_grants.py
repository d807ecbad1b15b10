"""Levels, grants and codes: whoever asks for more than was granted gets the strict level."""

from __future__ import annotations

import hmac
import itertools
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from tests.safety.keeping import (
    OPEN,
    OWNER,
    PAGE,
    SHARED,
    VISITOR,
    Keep,
    write_policy,
)
from webui.errors import RefusedError, WebuiError
from webui.generator import Session
from webui.levels import Level
from webui.safety import invitations
from webui.safety.gate import INVALID_CODE
from webui.safety.grants import EPOCH_FILE, Epoch
from webui.standing import Declare, Redeem, SendLink


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    write_policy(tmp_path, OPEN)
    return Keep(tmp_path)


def test_a_raised_level_without_a_grant(keep: Keep) -> None:
    for level in (1, 2):
        assert keep.level(Session(id="anybody", level=level)) == 0


@pytest.mark.parametrize(
    "value", [True, "2", 2.0, 1e9, -1, None, [2], float("nan"), 10**30, {"level": 2}]
)
def test_what_is_no_level_asks_for_nothing(keep: Keep, value: object) -> None:
    keep.grant(VISITOR)
    odd: Level = value  # pyright: ignore[reportAssignmentType]
    assert keep.level(Session(id=VISITOR.id, level=odd)) == 0


@pytest.mark.parametrize("value", [True, "2", 2.0, None, 3])
def test_what_is_no_level_grants_nothing(keep: Keep, value: object) -> None:
    odd: Level = value  # pyright: ignore[reportAssignmentType]
    keep.grants.issue(VISITOR.id, odd, "owner", keep.gate.policy().digest)
    assert keep.level(VISITOR) == 0
    assert keep.standing(VISITOR).level == 0


def test_a_grant_replayed_from_another_session(keep: Keep) -> None:
    keep.grant(OWNER)
    grant = keep.grants.find(OWNER.id, keep.gate.policy().digest)
    assert grant is not None
    # Everything that can be seen of a grant, used as a session's name.
    for known in (grant.gid, grant.session, grant.boot, "pseudonym of 11", OWNER.id + " "):
        assert keep.level(Session(id=known, level=2)) == 0
    assert keep.level(OWNER) == 2


def test_an_expired_grant(keep: Keep) -> None:
    keep.gate.answer(SendLink(address=PAGE), OWNER)
    keep.gate.answer(Declare(token=keep.said[0].rpartition("=")[2]), OWNER)
    keep.clock.now += 12 * 3600 - 1
    assert keep.level(OWNER) == 2
    keep.clock.now += 1
    assert keep.level(OWNER) == 0


def test_an_idle_grant(keep: Keep) -> None:
    keep.grant(VISITOR)
    keep.clock.now += 1800 - 1
    assert keep.level(VISITOR) == 2
    keep.clock.now += 1800
    assert keep.level(VISITOR) == 0


def test_a_grant_revoked_by_another_process_during_a_job(keep: Keep) -> None:
    keep.grant(VISITOR)
    assert keep.level(VISITOR) == 2, "admitted"
    Epoch(keep.folder / EPOCH_FILE).end()
    assert keep.level(VISITOR) == 0, "released"


def test_a_grant_of_an_old_boot(keep: Keep) -> None:
    keep.grant(VISITOR)
    again = Keep(keep.folder, clock=keep.clock)
    assert again.level(VISITOR) == 0
    old = keep.grants.find(VISITOR.id, keep.gate.policy().digest)
    assert old is not None
    again.grants._by_session[old.session] = old  # pyright: ignore[reportPrivateUsage]
    assert again.level(VISITOR) == 0


def test_a_grant_of_an_old_epoch_with_the_file_put_back(keep: Keep) -> None:
    path = keep.folder / EPOCH_FILE
    keep.grant(VISITOR)
    keep.epoch.end()
    assert keep.level(VISITOR) == 0
    path.unlink()
    keep.epoch.begin()
    assert keep.level(VISITOR) == 0


def test_a_clock_that_jumps_back(keep: Keep) -> None:
    keep.grant(VISITOR)
    keep.clock.now += 60
    assert keep.level(VISITOR) == 2
    keep.clock.now -= 30
    assert keep.level(VISITOR) == 0
    keep.clock.now += 60
    assert keep.level(VISITOR) == 0


def test_one_invitation_by_fifty_threads_gives_one_grant(keep: Keep) -> None:
    code = keep.invitations.invite(2, 3600)
    barrier = Barrier(50)

    def redeem(number: int) -> bool:
        barrier.wait()
        try:
            keep.gate.answer(Redeem(code=code), Session(id=f"session {number}"))
        except RefusedError:
            return False
        return True

    with ThreadPoolExecutor(50) as pool:
        granted = list(pool.map(redeem, range(50)))
    assert granted.count(True) == 1
    levels = [keep.level(Session(id=f"session {n}", level=2)) for n in range(50)]
    assert sorted(levels) == [*[0] * 49, 2]


def test_guessing_closes_redemption_whatever_names_the_guesser_takes(keep: Keep) -> None:
    code = keep.invitations.invite(2, 24 * 3600)
    tried = 0
    for number in range(200):
        with pytest.raises(RefusedError):
            keep.gate.answer(Redeem(code=f"{number:016}"), Session(id=f"fresh {number}"))
        tried += keep.log.names[-1:] != ["locked out"]
    assert tried < 20
    assert len(keep.log.events) == 20
    with pytest.raises(RefusedError, match=INVALID_CODE):
        keep.gate.answer(Redeem(code=code), VISITOR)
    keep.clock.now += 30 * 60
    keep.gate.answer(Redeem(code=code), VISITOR)
    assert keep.level(VISITOR) == 2


def failing_codes(keep: Keep) -> dict[str, str]:
    used, expired, revoked = (keep.invitations.invite(2, 3600 * hours) for hours in (9, 1, 9))
    keep.gate.answer(Redeem(code=used), OWNER)
    keep.clock.now += 3600
    keep.epoch.end()
    return {
        "wrong": "0000-0000-0000-0000",
        "empty": "",
        "long": "x" * 200,
        "used": used,
        "expired": expired,
        "revoked": revoked,
    }


def test_every_failed_code_gets_the_same_answer(keep: Keep) -> None:
    codes = failing_codes(keep) | {"while closed": keep.invitations.invite(2, 3600)}
    answers: set[tuple[str, type[WebuiError], int, str | None]] = set()
    for _ in range(5):
        keep.invitations.redeem("wrong", "while closed")
    for name, code in codes.items():
        with pytest.raises(WebuiError) as refused:
            keep.gate.answer(Redeem(code=code), Session(id=name))
        error = refused.value
        answers.add((error.message, type(error), error.status, error.field))
    assert answers == {(INVALID_CODE, RefusedError, 403, None)}


def test_failed_codes_take_the_same_work(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of the database and of the key is the same, whatever is wrong with a code."""
    done: list[str] = []
    connect, digest = sqlite3.connect, hmac.digest

    def traced(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        database = connect(*args, **kwargs)
        database.set_trace_callback(lambda said: done.append(" ".join(said.split()[:3])))
        return database

    def counted(*args: Any) -> bytes:
        done.append("digest")
        return digest(*args)

    codes = failing_codes(keep)
    monkeypatch.setattr(invitations.sqlite3, "connect", traced)
    monkeypatch.setattr(invitations.hmac, "digest", counted)
    work: dict[str, list[str]] = {}
    for name, code in codes.items():
        done.clear()
        keep.invitations.redeem(code, f"session {name}")
        work[name] = [*done]
    first, *others = work.values()
    assert "digest" in first
    assert len(first) > 3
    assert all(other == first for other in others), work


def test_the_owners_link_while_others_can_reach_the_page(tmp_path: Path) -> None:
    write_policy(tmp_path, SHARED)
    keep = Keep(tmp_path, exposed=True)
    token = keep.links.make()
    # A tunnel's visitors seem to sit at this machine, too.
    for question in (SendLink(address=PAGE), Declare(token=token)):
        with pytest.raises(RefusedError, match="at the machine itself only"):
            keep.gate.answer(question, OWNER)
    assert keep.said == []
    assert keep.level(OWNER) == 0
    assert "owner" not in keep.standing(OWNER).ways


def test_an_owners_link_is_of_no_use_twice_late_or_guessed(keep: Keep) -> None:
    keep.gate.answer(SendLink(address=PAGE), OWNER)
    token = keep.said[0].rpartition("=")[2]
    guesses = (token[:-1], f"{token}A", token.swapcase(), "", "=", "A" * 22)
    for guess in guesses:
        with pytest.raises(RefusedError):
            keep.gate.answer(Declare(token=guess), VISITOR)
    keep.clock.now += 600
    with pytest.raises(RefusedError):
        keep.gate.answer(Declare(token=token), OWNER)
    keep.gate.answer(SendLink(address=PAGE), OWNER)
    token = keep.said[1].rpartition("=")[2]
    keep.gate.answer(Declare(token=token), OWNER)
    with pytest.raises(RefusedError):
        keep.gate.answer(Declare(token=token), VISITOR)
    assert [keep.level(each) for each in (OWNER, VISITOR)] == [2, 0]


def test_no_ceiling_can_be_exceeded_by_the_others(tmp_path: Path) -> None:
    for number, (operator, share, granted, remote) in enumerate(
        itertools.product((0, 1, 2), (0, 1, 2), (0, 1, 2), (False, True))
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        text = f"max_level = {operator}\nshare_max_level = {share}\nknows_invitees = true\n"
        write_policy(folder, text)
        keep = Keep(folder)
        keep.grants.issue("a", granted, "invite", keep.gate.policy().digest)
        for asked in (0, 1, 2):
            bounds = (asked, operator, granted, *((share,) if remote else ()))
            assert keep.level(Session(id="a", level=asked, remote=remote)) == min(bounds)
