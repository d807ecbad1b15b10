from __future__ import annotations

from webui.ui.door import (
    CLOSED_SECONDS,
    TRIES_OVERALL,
    TRIES_PER_SESSION,
    WINDOW_SECONDS,
    Door,
    make_password,
    password_bits,
)

RIGHT = "a quiet orchard"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_password_that_is_made_up_is_long_readable_and_never_the_same() -> None:
    assert password_bits() >= 60
    made = {make_password() for _ in range(200)}
    assert len(made) == 200
    for password in made:
        assert [len(group) for group in password.split("-")] == [5, 5, 5]
        assert not set(password) & set("il1o0")
    assert len(set("".join(made)) - {"-"}) == 31


def test_the_new_session_is_let_in_and_not_the_one_that_asked() -> None:
    door = Door(RIGHT)
    assert not door.try_password("old", "another", "new")
    assert not door.is_open_to("new")
    assert door.try_password("old", f" {RIGHT}\n", "new")
    assert door.is_open_to("new")
    assert not door.is_open_to("old")
    door.forget()
    assert not door.is_open_to("new")


def test_after_some_wrong_ones_a_session_has_to_wait() -> None:
    clock = Clock()
    door = Door(RIGHT, clock=clock)
    for _ in range(TRIES_PER_SESSION):
        assert not door.try_password("a", "wrong", "new")
    assert not door.try_password("a", RIGHT, "new")
    assert door.try_password("b", RIGHT, "other")
    clock.now += WINDOW_SECONDS
    assert door.try_password("a", RIGHT, "new")


def test_new_sessions_do_not_help_and_those_let_in_stay() -> None:
    clock = Clock()
    door = Door(RIGHT, clock=clock)
    assert door.try_password("friend", RIGHT, "in")
    for number in range(TRIES_OVERALL):
        assert not door.try_password(f"session {number}", "wrong", "new")
    assert not door.try_password("yet another", RIGHT, "new")
    assert door.is_open_to("in")
    clock.now += CLOSED_SECONDS - 1
    assert not door.try_password("yet another", RIGHT, "new")
    clock.now += 1
    assert door.try_password("yet another", RIGHT, "new")


def test_letters_of_any_kind_can_be_given() -> None:
    door = Door("schöner Garten")
    assert door.try_password("a", "schöner Garten", "new")
    assert not door.try_password("a", "\ud800", "new")
