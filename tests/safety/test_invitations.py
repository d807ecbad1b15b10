from __future__ import annotations

import multiprocessing
import re
import sqlite3
from pathlib import Path

import pytest

from tests.safety.keeping import Clock
from webui.errors import StorageError
from webui.levels import Level
from webui.safety.grants import EPOCH_FILE, Epoch
from webui.safety.invitations import (
    CLOSED_FOR,
    DATABASE_FILE,
    KEY_FILE,
    LINK_LIFETIME,
    MAX_FAILURES,
    MAX_FAILURES_PER_SESSION,
    WINDOW,
    Invitations,
    OwnerLinks,
    Redemption,
)

WRONG = "0000-0000-0000-0000"
HOUR = 3600.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def epoch(tmp_path: Path) -> Epoch:
    return Epoch(tmp_path / EPOCH_FILE)


@pytest.fixture
def invitations(tmp_path: Path, epoch: Epoch, clock: Clock) -> Invitations:
    return Invitations(tmp_path, epoch, clock=clock)


def outcomes(invitations: Invitations, *sessions: str) -> list[str]:
    return [invitations.redeem(WRONG, session).outcome for session in sessions]


@pytest.mark.parametrize("level", [1, 2])
def test_a_code_is_redeemed_once(invitations: Invitations, level: Level) -> None:
    code = invitations.invite(level, HOUR)
    assert invitations.redeem(code, "a") == Redemption(level, "redeemed")
    assert invitations.redeem(code, "a") == Redemption(None, "refused")
    assert invitations.redeem(code, "b") == Redemption(None, "refused")


def test_codes_have_80_bits_in_letters_that_can_be_read_aloud(invitations: Invitations) -> None:
    codes = [invitations.invite(1, HOUR) for _ in range(20)]
    for code in codes:
        assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}", code)
    assert len({*codes}) == 20
    for place in (*range(4), *range(5, 9), *range(10, 14), *range(15, 19)):
        assert len({code[place] for code in codes}) > 3, "every place is drawn"


def test_a_code_is_taken_as_people_write_it(invitations: Invitations) -> None:
    code = invitations.invite(1, HOUR)
    written = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert invitations.redeem(f" {written}\t", "a").level == 1
    code = invitations.invite(2, HOUR)
    assert invitations.redeem(code.replace("-", "").replace("1", "I"), "a").level == 2


@pytest.mark.parametrize("code", ["", "\ud800", "x" * 200, WRONG, "'; DELETE FROM invitations; --"])
def test_what_is_no_code_is_refused(invitations: Invitations, code: str) -> None:
    good = invitations.invite(1, HOUR)
    assert invitations.redeem(code, "a") == Redemption(None, "refused")
    assert invitations.redeem(good, "a").level == 1


def test_a_code_expires(invitations: Invitations, clock: Clock) -> None:
    codes = [invitations.invite(1, HOUR) for _ in range(2)]
    clock.now += HOUR - 1
    assert invitations.redeem(codes[0], "a").level == 1
    clock.now += 1
    assert invitations.redeem(codes[1], "a").level is None


def test_a_code_from_the_future_is_refused(invitations: Invitations, clock: Clock) -> None:
    codes = [invitations.invite(1, HOUR) for _ in range(2)]
    clock.now -= 2
    assert invitations.redeem(codes[0], "a").level is None
    clock.now += 1.5
    assert invitations.redeem(codes[1], "a").level == 1


def test_a_code_of_an_ended_epoch_is_refused(invitations: Invitations, epoch: Epoch) -> None:
    code = invitations.invite(1, HOUR)
    epoch.end()
    assert invitations.redeem(code, "a").level is None


def test_a_code_without_any_epoch_is_refused(invitations: Invitations, tmp_path: Path) -> None:
    code = invitations.invite(1, HOUR)
    (tmp_path / EPOCH_FILE).unlink()
    assert invitations.redeem(code, "a").level is None


def test_ending_all_ends_codes_and_closures(invitations: Invitations) -> None:
    code = invitations.invite(1, HOUR)
    outcomes(invitations, *["a"] * MAX_FAILURES_PER_SESSION)
    invitations.end_all()
    assert invitations.redeem(code, "a") == Redemption(None, "refused")
    assert invitations.redeem(invitations.invite(1, HOUR), "a").level == 1


def test_five_failures_close_redemption_for_the_session(
    invitations: Invitations, clock: Clock
) -> None:
    code = invitations.invite(1, 10 * HOUR)
    assert outcomes(invitations, *"aaaaaa") == [*["refused"] * 4, "locked out", "closed"]
    assert invitations.redeem(code, "a") == Redemption(None, "closed")
    assert outcomes(invitations, "b") == ["refused"]
    clock.now += CLOSED_FOR - 1
    assert invitations.redeem(code, "a") == Redemption(None, "closed")
    clock.now += 1
    assert invitations.redeem(code, "a") == Redemption(1, "redeemed"), "it was not used up"


def test_twenty_failures_of_whatever_sessions_close_it_for_everybody(
    invitations: Invitations, clock: Clock
) -> None:
    code = invitations.invite(1, 10 * HOUR)
    sessions = [f"session {n}" for n in range(MAX_FAILURES)]
    assert outcomes(invitations, *sessions) == [*["refused"] * 19, "locked out"]
    assert invitations.redeem(code, "another") == Redemption(None, "closed")
    clock.now += CLOSED_FOR
    assert invitations.redeem(code, "another") == Redemption(1, "redeemed")


def test_tries_while_it_is_closed_do_not_keep_it_closed(
    invitations: Invitations, clock: Clock
) -> None:
    outcomes(invitations, *"aaaaa")
    clock.now += CLOSED_FOR - 1
    assert outcomes(invitations, *"aaaaaaaaa") == ["closed"] * 9
    clock.now += 1
    assert outcomes(invitations, "a") == ["refused"]


def test_failures_count_for_a_quarter_of_an_hour(invitations: Invitations, clock: Clock) -> None:
    assert outcomes(invitations, *"aaaa") == ["refused"] * 4
    clock.now += WINDOW
    assert outcomes(invitations, *"aaaa") == ["refused"] * 4
    clock.now += WINDOW - 1
    assert outcomes(invitations, "a") == ["locked out"]


def test_failures_outlive_the_process(
    invitations: Invitations, tmp_path: Path, epoch: Epoch, clock: Clock
) -> None:
    outcomes(invitations, *"aaaa")
    assert outcomes(Invitations(tmp_path, epoch, clock=clock), "a") == ["locked out"]


def test_what_is_kept_tells_neither_code_nor_session(
    invitations: Invitations, tmp_path: Path
) -> None:
    code = invitations.invite(1, HOUR)
    invitations.redeem(WRONG, "the session's cookie")
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (code, code.replace("-", ""), code[:4], "the session's cookie"):
        assert secret.encode() not in kept
    for name in (KEY_FILE, DATABASE_FILE, EPOCH_FILE):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600, name


def test_a_code_of_another_installation_is_refused(tmp_path: Path, clock: Clock) -> None:
    made = [Invitations(tmp_path / n, Epoch(tmp_path / n / EPOCH_FILE), clock=clock) for n in "ab"]
    assert made[1].redeem(made[0].invite(1, HOUR), "a").level is None


def test_a_database_that_others_could_have_written_is_not_used(
    invitations: Invitations, tmp_path: Path
) -> None:
    code = invitations.invite(1, HOUR)
    (tmp_path / DATABASE_FILE).chmod(0o666)
    assert invitations.redeem(code, "a") == Redemption(None, "refused")
    with pytest.raises(StorageError, match=r"cannot be kept: .*written by others"):
        invitations.invite(1, HOUR)
    with pytest.raises(StorageError, match=r"cannot be ended: .*written by others"):
        invitations.end_all()


@pytest.mark.parametrize("name", [DATABASE_FILE, KEY_FILE])
def test_damaged_files_redeem_nothing(invitations: Invitations, tmp_path: Path, name: str) -> None:
    code = invitations.invite(1, HOUR)
    (tmp_path / name).write_bytes(b"damaged" * 1_000)
    assert invitations.redeem(code, "a") == Redemption(None, "refused")


def test_a_code_that_cannot_be_noted_as_used_is_not_redeemed(
    invitations: Invitations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = invitations.invite(1, HOUR)
    # A reader that stays keeps the writer from finishing.
    monkeypatch.setattr("webui.safety.invitations._PATIENCE", 0.05)
    reader = sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM invitations").fetchall()
    assert invitations.redeem(code, "a").level is None
    reader.close()
    assert invitations.redeem(code, "a").level == 1


def redeem_elsewhere(folder: Path, code: str) -> int | None:
    return Invitations(folder, Epoch(folder / EPOCH_FILE)).redeem(code, "a").level


def test_one_code_in_several_processes_is_redeemed_once(tmp_path: Path) -> None:
    code = Invitations(tmp_path, Epoch(tmp_path / EPOCH_FILE)).invite(1, HOUR)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        levels = pool.starmap(redeem_elsewhere, [(tmp_path, code)] * 6, chunksize=1)
    assert sorted(map(str, levels)) == ["1", *["None"] * 5]


def test_an_owners_link_is_used_once_and_the_last_one_counts() -> None:
    links = OwnerLinks()
    first, second = links.make(), links.make()
    assert len(first) == 22
    assert first != second
    assert not links.spend(first)
    assert links.spend(second)
    assert not links.spend(second)


def test_without_a_link_nothing_is_accepted() -> None:
    links = OwnerLinks(clock=Clock(-1.0))
    for token in ("", "\ud800", "a", "0" * 22):
        assert not links.spend(token)


def test_an_owners_link_holds_for_ten_minutes() -> None:
    clock = Clock()
    links = OwnerLinks(clock=clock)
    for passed, accepted in ((LINK_LIFETIME - 1, True), (LINK_LIFETIME, False)):
        token = links.make()
        clock.now += passed
        assert links.spend(token) is accepted
