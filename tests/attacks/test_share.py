"""Visitors through the share link who want more than the page at the strict level."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from tests.attacks.asking import heard, join, made
from tests.ui.served import client
from tests.ui.shared_server import PASSWORD, Visited, listening, shared
from webui.cli import main
from webui.ui.door import TRIES_OVERALL, TRIES_PER_SESSION
from webui.ui.sessions import SESSION_COOKIE


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Visited, None, None]:
    visited = shared(tmp_path_factory.mktemp("shared") / "out")
    yield visited
    visited.served.kill()


@pytest.fixture
def own_site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Visited, None, None]:
    """One whose link may be stopped; a step takes a second."""
    visited = shared(tmp_path_factory.mktemp("own") / "out", pace=1.0)
    yield visited
    visited.served.kill()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Generator[Visited, None, None]:
    visited = listening(tmp_path_factory.mktemp("network") / "out")
    yield visited
    visited.served.kill()


PATHS = (
    *("/config", "/status", "/theme.css", "/texts/en.json", "/page/main.js", "/shelf", "/pictures"),
    *("/pictures/0.png", "/uploads/0.png", "/history", "/presets", "/words", "/share", "/assets/x"),
    *("/gradio_api/queue/data?session_hash=x", "/gradio_api/heartbeat/x", "/gradio_api/app_id"),
    *("/gradio_api/file=/etc/passwd", "/docs", "/nowhere", "/page/..%2f..%2fdoor.html"),
)


def test_without_the_password_there_is_nothing_but_its_page_and_icon(site: Visited) -> None:
    with site.visitor() as visitor:
        for path in PATHS:
            answer = visitor.get(path)
            assert answer.status_code == 401, path
            assert answer.json()["field"] is None
            assert answer.headers["cache-control"] == "no-store"
        for path in ("/look", "/uploads", "/gradio_api/queue/join", "/share/stop", "/read"):
            assert visitor.post(path, content=b"{}").status_code == 401
        page = visitor.get("/", headers={"accept-language": "de-AT,en;q=0.5"})
        assert page.status_code == 401
        assert 'lang="de"' in page.text
        assert "Passwort" in page.text
        assert "gradio" not in page.text.casefold()
        assert visitor.get("/icon.svg").headers["content-type"] == "image/svg+xml"


def test_with_it_the_page_is_there_in_a_session_that_nobody_else_chose(site: Visited) -> None:
    chosen = "a" * 43
    with site.visitor(cookie=f"{SESSION_COOKIE}={chosen}") as visitor:
        answer = visitor.post("/enter", data={"password": PASSWORD})
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert chosen not in answer.headers["set-cookie"]
        assert visitor.get("/config", headers={"cookie": f"{SESSION_COOKIE}={chosen}"}).is_error
    with site.guest() as guest:
        assert guest.get("/config").status_code == 200
        assert "easel" in guest.get("/").text


LOCAL_HEADERS: tuple[dict[str, str], ...] = (
    {"x-forwarded-for": "127.0.0.1"},
    {"x-real-ip": "127.0.0.1"},
    {"forwarded": "for=127.0.0.1;host=localhost"},
    {"x-forwarded-host": "localhost"},
    {"easel.local": "True"},
    {},
)


@pytest.mark.parametrize("headers", LOCAL_HEADERS, ids=range(len(LOCAL_HEADERS)))
def test_no_header_makes_a_visitor_the_owner(site: Visited, headers: dict[str, str]) -> None:
    with site.visitor() as visitor:
        assert visitor.get("/config", headers=headers).status_code == 401
    with site.guest() as guest:
        assert guest.get("/share", headers=headers).json()["owner"] is False
        for method, path in (("POST", "/share/stop"), ("GET", "/history")):
            answer = guest.request(method, path, headers=headers, content=b"")
            assert answer.status_code == 403, path
    with site.owner() as owner:
        assert owner.get("/share").json()["active"] is True


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "192.168.1.20", "evil.example"]
)
def test_the_share_link_goes_by_its_own_name_alone(site: Visited, host: str) -> None:
    with site.visitor() as visitor:
        answer = visitor.get("/", headers={"host": host})
        assert answer.status_code == 421
        assert "password" not in answer.text


def test_the_address_is_told_to_the_owner_alone(site: Visited) -> None:
    with site.owner() as owner, site.guest() as guest:
        told = owner.get("/share").json()
        assert set(told) == {"active", "address", "expires_at", "owner"}
        assert told["address"] == f"http://{site.host}"
        assert told["owner"] is True
        assert told["expires_at"] == pytest.approx(time.time() + 8 * 3600, abs=120)
        seen = guest.get("/share").json()
        assert seen == {**told, "address": None, "owner": False}


def test_the_link_is_stopped_by_no_page_of_another_site(site: Visited) -> None:
    with site.owner() as owner:
        for headers in (
            {"origin": "null"},
            {"origin": "https://evil.example"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            answer = owner.post("/share/stop", headers=headers)
            assert answer.status_code == 403
        assert owner.get("/share").json()["active"] is True


def test_the_kill_switch_cuts_streams_jobs_and_sessions_at_once(own_site: Visited) -> None:
    owner, guest = own_site.owner(), own_site.guest()
    join(owner, "mine", {"tab": "mine", "request": {"steps": 150}}).raise_for_status()
    join(guest, "theirs", {"tab": "theirs", "request": {"steps": 150}}).raise_for_status()
    events: list[dict[str, Any]] = []

    def listen() -> None:
        try:
            events.extend(heard(guest, "theirs", 600))
        except httpx.HTTPError:
            events.append({"msg": "cut"})

    listening = threading.Thread(target=listen)
    listening.start()
    time.sleep(1)
    assert listening.is_alive()
    told = owner.post("/share/stop").json()
    # Neither stream nor jobs would end by themselves for minutes.
    listening.join(60)
    assert not listening.is_alive()
    assert told == {"active": False, "address": None, "expires_at": None, "owner": True}
    port = int(own_site.host.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    # The cookie of somebody who was let in is worth nothing from anywhere else.
    elsewhere = {"host": "192.0.2.1", "cookie": guest.headers["cookie"]}
    with client(own_site.served.address, elsewhere) as other:
        outside = other.get("/config")
    assert outside.status_code == 401
    # The owner's job goes on and is alone.
    again = join(owner, "more", {"tab": "more", "request": {"steps": 1}})
    assert again.status_code == 200
    places = [
        told["output"]["data"][0].get("place")
        for told in heard(owner, "more")
        if told["msg"] == "process_generating"
    ]
    assert places
    assert owner.get("/status").json()["phase"] == "ready"


def test_a_visitor_sees_and_changes_nothing_of_the_owners(site: Visited) -> None:
    with site.owner() as owner, site.guest() as guest:
        made(owner, "own", {"steps": 1})
        name = owner.get("/pictures").json()["pictures"][0]["id"]
        assert owner.get(f"/pictures/{name}.png").status_code == 200
        for path in (f"/pictures/{name}.png", f"/pictures/{name}/recipe"):
            assert guest.get(path).status_code == 404
        assert guest.get("/pictures").json() == {"pictures": []}
        assert guest.get("/history").status_code == 403
        preset = {"name": "Theirs", "request": {"steps": 3}}
        assert guest.post("/presets", json=preset).status_code == 403


def test_others_of_the_network_need_the_password_too(network: Visited) -> None:
    with network.visitor() as visitor:
        assert visitor.get("/config").status_code == 401
        assert visitor.get("/").status_code == 401
        assert visitor.get("/", headers={"x-forwarded-for": "127.0.0.1"}).status_code == 401
    with network.guest() as guest:
        assert guest.get("/share").json()["owner"] is False
        assert guest.post("/share/stop").status_code == 403
    with network.owner() as owner:
        assert owner.get("/config").status_code == 200


def test_guessing_with_new_sessions_and_headers_ends_soon_and_says_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    site = shared(tmp_path_factory.mktemp("guessed") / "out")
    try:
        answers: set[str] = set()
        with site.guest() as friend:
            for number in range(TRIES_OVERALL + 5):
                cookie = f"{SESSION_COOKIE}={number:043d}"
                with site.visitor(cookie=cookie) as visitor:
                    headers = {"x-forwarded-for": f"10.0.0.{number}", "user-agent": str(number)}
                    guess = {"password": f"guess {number}"}
                    answer = visitor.post("/enter", data=guess, headers=headers)
                    assert answer.status_code == 401
                    answers.add(answer.text)
            with site.visitor() as visitor:
                late = visitor.post("/enter", data={"password": PASSWORD})
                assert late.status_code == 401
                answers.add(late.text)
            assert len(answers) == 1
            assert friend.get("/config").status_code == 200
    finally:
        site.served.kill()


def test_one_session_guesses_a_few_times(site: Visited) -> None:
    with site.visitor(cookie=f"{SESSION_COOKIE}={'b' * 43}") as visitor:
        for _ in range(TRIES_PER_SESSION):
            assert visitor.post("/enter", data={"password": "wrong"}).status_code == 401
        assert visitor.post("/enter", data={"password": PASSWORD}).status_code == 401


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"password=" + b"a" * 5000, 413), (b"", 401), (b"\xff\x00=%ff", 401), (b"a=1&" * 500, 401)],
)
def test_what_is_no_password_is_refused(site: Visited, content: bytes, status: int) -> None:
    with site.visitor() as visitor:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        assert visitor.post("/enter", content=content, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--password", "short"], "The password is too short"),
        (["--share-hours", "0"], "--share-hours is 0: it must be above 0"),
        (["--share-hours", "nan"], "--share-hours is nan: it must be above 0"),
        (["--share-hours", "1000"], "--share-hours is 1000: it must be above 0 and at most 168."),
    ],
)
def test_flags_that_protect_nothing_are_refused(
    flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *flags]) == 2
    assert sentence in capsys.readouterr().err
