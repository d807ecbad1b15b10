from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.safety.keeping import Clock
from webui.errors import StorageError
from webui.safety.grants import (
    EPOCH_FILE,
    IDLE_LIMIT,
    LIFETIME,
    Epoch,
    Grant,
    Grants,
    hash_of,
)
from webui.standing import Method

HOUR = 3600.0
POLICY = "digest"
GRANT = Grant(
    gid="g",
    level=2,
    session="s",
    method="invite",
    issued=100.0,
    expires=1_000.0,
    used=200.0,
    idle_limit=300.0,
    policy="p",
    epoch="e",
    boot="b",
)


@pytest.fixture
def epoch(tmp_path: Path) -> Epoch:
    epoch = Epoch(tmp_path / EPOCH_FILE)
    epoch.begin()
    return epoch


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def grants(epoch: Epoch, clock: Clock) -> Grants:
    return Grants(epoch, clock=clock)


def holds(
    grant: Grant = GRANT,
    *,
    session: str = "s",
    now: float = 250.0,
    policy: str = "p",
    epoch: str | None = "e",
    boot: str = "b",
) -> bool:
    return grant.holds(session=session, now=now, policy=policy, epoch=epoch, boot=boot)


def test_a_grant_holds_for_its_session_under_what_it_was_given_under() -> None:
    assert holds()
    assert not holds(session="t")
    assert not holds(policy="q")
    assert not holds(epoch="f")
    assert not holds(epoch=None)
    assert not holds(boot="c")


@pytest.mark.parametrize(
    ("now", "held"),
    [
        (200.0, True),
        (199.0, True),
        (198.99, False),
        (150.0, False),
        (499.99, True),
        (500.0, False),
    ],
)
def test_a_grant_ends_by_being_idle_and_by_a_clock_put_back(now: float, held: bool) -> None:
    assert holds(now=now) is held


@pytest.mark.parametrize(("now", "held"), [(700.0, True), (999.99, True), (1_000.0, False)])
def test_a_grant_without_idle_limit_ends_when_it_expires(now: float, held: bool) -> None:
    assert holds(replace(GRANT, idle_limit=None), now=now) is held


def test_a_grant_in_use_ends_when_it_expires() -> None:
    assert not holds(replace(GRANT, used=999.0), now=1_000.0)
    assert holds(replace(GRANT, used=999.0), now=999.5)


@pytest.mark.parametrize(
    ("method", "hours", "idle"), [("owner", 12, None), ("invite", 4, 0.5), ("issuer", 8, None)]
)
def test_how_long_each_kind_holds(
    grants: Grants, clock: Clock, method: Method, hours: float, idle: float | None
) -> None:
    grant = grants.issue("a session", 2, method, POLICY)
    assert (grant.level, grant.method, grant.policy) == (2, method, POLICY)
    assert (grant.issued, grant.used) == (clock.now, clock.now)
    assert grant.expires == clock.now + hours * HOUR == clock.now + LIFETIME[method]
    assert grant.idle_limit == IDLE_LIMIT[method] == (None if idle is None else idle * HOUR)
    assert grants.seconds_left(grant) == hours * HOUR
    until = clock.now + hours * HOUR
    while clock.now < until:
        assert grants.find("a session", POLICY, use=True) is not None
        clock.now += 600
    assert grants.find("a session", POLICY, use=True) is None
    assert grants.seconds_left(grant) == 0
    clock.now += 1
    assert grants.seconds_left(grant) == 0


def test_only_jobs_keep_a_grant_from_ending_by_being_idle(grants: Grants, clock: Clock) -> None:
    grants.issue("a session", 2, "invite", POLICY)
    for _ in range(2):
        clock.now += HOUR / 4
        found = grants.find("a session", POLICY, use=True)
        assert found is not None
        assert found.used == clock.now
    clock.now += HOUR / 4
    assert grants.find("a session", POLICY) is not None
    clock.now += HOUR / 4
    assert grants.find("a session", POLICY) is None


def test_a_grant_names_nobody(grants: Grants) -> None:
    grant = grants.issue("secret cookie", 1, "owner", POLICY)
    assert "secret cookie" not in repr(grant)
    assert grant.session == hash_of("secret cookie")
    assert len(grant.session) == 64
    assert len(grant.gid) == len(grant.boot) == 32
    again = grants.issue("secret cookie", 1, "owner", POLICY)
    assert again.gid != grant.gid
    assert again.boot == grant.boot


def test_a_session_with_odd_letters_has_a_hash() -> None:
    assert hash_of("\ud800") != hash_of("\ud801")


def test_each_session_has_its_own_and_the_last_one_counts(grants: Grants) -> None:
    grants.issue("a", 1, "invite", POLICY)
    grants.issue("b", 2, "owner", POLICY)
    grants.issue("a", 2, "issuer", POLICY)
    a, b = grants.find("a", POLICY), grants.find("b", POLICY)
    assert a is not None
    assert b is not None
    assert (a.level, a.method, b.level, b.method) == (2, "issuer", 2, "owner")
    assert grants.find("c", POLICY) is None


def test_a_grant_that_was_given_up_is_gone(grants: Grants) -> None:
    grants.issue("a", 1, "owner", POLICY)
    grants.issue("b", 1, "owner", POLICY)
    assert grants.end("a") is True
    assert grants.find("a", POLICY) is None
    assert grants.find("b", POLICY) is not None
    assert grants.end("a") is False


def test_a_grant_that_did_not_hold_once_is_gone_for_good(grants: Grants) -> None:
    grants.issue("a", 1, "owner", POLICY)
    assert grants.find("a", "another digest") is None
    assert grants.find("a", POLICY) is None


def test_grants_that_have_expired_are_forgotten(grants: Grants, clock: Clock) -> None:
    grants.issue("a", 1, "invite", POLICY)
    grants.issue("b", 1, "owner", POLICY)
    clock.now += LIFETIME["invite"]
    grants.issue("c", 1, "owner", POLICY)
    # Put back by less than it was put on, the clock would bring an unforgotten one to life.
    assert [grants.end(session) for session in "abc"] == [False, True, True]


@pytest.mark.parametrize(("back", "held"), [(0.5, True), (1.0, True), (1.01, False), (1e6, False)])
def test_a_clock_put_back_voids_every_grant(
    grants: Grants, clock: Clock, back: float, held: bool
) -> None:
    for session in "ab":
        grants.issue(session, 1, "owner", POLICY)
    clock.now += 100
    assert grants.find("a", POLICY) is not None
    clock.now -= back
    assert (grants.find("a", POLICY) is not None) is held
    clock.now += 2 * back
    assert (grants.find("b", POLICY) is not None) is held


def test_a_clock_put_back_little_by_little_is_noticed(grants: Grants, clock: Clock) -> None:
    grants.issue("a", 1, "owner", POLICY)
    held = [
        grants.find("a", POLICY) is not None
        for clock.now in (clock.now - 0.9 * n for n in range(3))
    ]
    assert held == [True, True, False]


def test_after_a_clock_was_put_back_grants_are_given_again(grants: Grants, clock: Clock) -> None:
    clock.now -= 1e6
    grants.issue("a", 1, "owner", POLICY)
    assert grants.find("a", POLICY) is not None
    clock.now += 10
    assert grants.find("a", POLICY) is not None


def test_a_revocation_voids_what_was_given_before(epoch: Epoch, grants: Grants) -> None:
    grants.issue("a", 1, "owner", POLICY)
    Epoch(epoch_path(epoch)).end()
    assert grants.find("a", POLICY) is None
    assert grants.issue("a", 1, "owner", POLICY).epoch == epoch.read()
    assert grants.find("a", POLICY) is not None


def epoch_path(epoch: Epoch) -> Path:
    return epoch._path  # pyright: ignore[reportPrivateUsage]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "no word": lambda path: path.write_bytes(b"0" * 31),
    "too long": lambda path: path.write_bytes(b"0" * 33),
    "open to others": lambda path: path.chmod(0o622),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_an_epoch_nothing_holds_until_another_is_begun(
    tmp_path: Path, epoch: Epoch, grants: Grants, damage: str
) -> None:
    grants.issue("a", 1, "owner", POLICY)
    DAMAGES[damage](tmp_path / EPOCH_FILE)
    assert epoch.read() is None
    assert grants.find("a", POLICY) is None
    assert grants.issue("b", 1, "owner", POLICY).epoch == epoch.read() is not None
    assert grants.find("b", POLICY) is not None
    assert grants.find("a", POLICY) is None


def test_where_no_epoch_can_be_begun_nothing_is_granted(
    tmp_path: Path, epoch: Epoch, grants: Grants
) -> None:
    (tmp_path / EPOCH_FILE).unlink()
    (tmp_path / EPOCH_FILE).mkdir()
    assert epoch.read() is None
    with pytest.raises(StorageError):
        grants.issue("a", 1, "owner", POLICY)
    assert grants.find("a", POLICY) is None


def test_an_epoch_goes_on_until_it_is_ended(tmp_path: Path, epoch: Epoch) -> None:
    path = tmp_path / EPOCH_FILE
    words = [epoch.read()]
    assert Epoch(path).begin() == epoch.read() == words[0]
    for _ in range(3):
        words.append(epoch.end())
        assert epoch.read() == words[-1]
    assert None not in words
    assert len({*words}) == 4
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o666)
    assert epoch.begin() not in words
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_epoch_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        Epoch(tmp_path / "file" / EPOCH_FILE).begin()


def test_every_way_to_be_void_is_enough_by_itself() -> None:
    ways: tuple[dict[str, object], ...] = (
        {"session": "t"},
        {"now": 5_000.0},
        {"now": 0.0},
        {"policy": "q"},
        {"epoch": None},
        {"boot": "c"},
    )
    for n in range(1, 3):
        for chosen in itertools.combinations(ways, n):
            changed = {name: value for way in chosen for name, value in way.items()}
            assert not holds(**changed)  # pyright: ignore[reportArgumentType]
