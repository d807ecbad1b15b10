"""Requests that go round the page: to Gradio, to another's session, under a false name."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Generator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from gradio import routes

from tests.attacks.asking import first_of, heard, join, made, raw
from tests.fakes import gradient, jpeg
from tests.ui.hostile import log_of, sentence_in
from tests.ui.served import client
from tests.ui.shared_server import Visited, listening
from webui.ui.sessions import SESSION_COOKIE


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Visited, None, None]:
    visited = listening(tmp_path_factory.mktemp("front") / "out", pace=0.02)
    yield visited
    visited.served.kill()


def test_rebinding_a_name_to_this_machine_shows_nothing(site: Visited) -> None:
    with site.owner() as owner:
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "a" * 300):
            for method, path in (("GET", "/"), ("GET", "/config"), ("POST", "/look")):
                answer = owner.request(method, path, headers={"host": host}, content=b"{}")
                assert answer.status_code == 421


FOREIGN: tuple[dict[str, str], ...] = (
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
)


@pytest.mark.parametrize("headers", FOREIGN, ids=range(len(FOREIGN)))
def test_a_page_of_another_site_cannot_write(site: Visited, headers: dict[str, str]) -> None:
    with site.owner() as owner:
        before = owner.get("/presets").json()
        for path in ("/look", "/presets", "/uploads", "/gradio_api/queue/join", "/share/stop"):
            answer = owner.post(path, json={"name": "Theirs", "request": {}}, headers=headers)
            assert answer.status_code == 403, path
            assert "another site" in sentence_in(answer)
        assert owner.get("/presets").json() == before


def test_a_page_of_another_site_can_neither_load_from_here_nor_end_a_session(site: Visited) -> None:
    foreign = {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}
    with site.owner() as owner:
        for path in ("/config", "/page/main.js", "/pictures", "/gradio_api/heartbeat/x"):
            assert owner.get(path, headers=foreign).status_code == 403
    # A link is followed without the cookie, which must not be replaced for that.
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    with client(site.served.address, link) as unknown:
        followed = unknown.get("/")
    assert followed.status_code == 200
    assert "location.replace" in followed.text
    assert "set-cookie" not in followed.headers


def test_forwarded_headers_make_nobody_the_owner(site: Visited) -> None:
    with site.guest() as guest:
        for name in ("x-forwarded-for", "x-real-ip", "forwarded", "x-forwarded-host"):
            headers = {name: "127.0.0.1"}
            assert guest.get("/share", headers=headers).json()["owner"] is False
            assert guest.get("/history", headers=headers).status_code == 403
    with site.owner() as owner:
        assert owner.get("/share").json()["owner"] is True
        # With one of them not even who sits here counts: somebody else's tunnel ends here, too.
        behind = owner.get("/share", headers={"x-forwarded-for": "127.0.0.1"})
        assert behind.status_code == 401


def test_another_sessions_hash_reads_and_ends_nothing(site: Visited) -> None:
    with site.owner() as owner, site.guest() as thief:
        join(owner, "known", {"tab": "known", "request": {"steps": 60}}).raise_for_status()
        stolen: list[object] = []

        def steal() -> None:
            # Gradio breaks off the stream of a tab that it does not know.
            with contextlib.suppress(httpx.RemoteProtocolError):
                stolen.extend(heard(thief, "known", 2))

        stealing = threading.Thread(target=steal)
        stealing.start()
        # Gradio takes the end of a heartbeat for the end of the tab.
        with thief.stream("GET", "/gradio_api/heartbeat/known", timeout=60):
            pass
        events = [told["msg"] for told in heard(owner, "known")]
        stealing.join()
        assert "process_generating" in events
        assert "process_completed" in events
        assert [told for told in stolen if "process" in json.dumps(told)] == []


def test_another_tabs_job_is_neither_resumed_nor_stopped(site: Visited) -> None:
    with site.owner() as owner, site.guest() as thief:
        join(owner, "mine", {"tab": "mine", "request": {"steps": 60}}).raise_for_status()
        for event in ("stop", "resume"):
            join(thief, "other", {"tab": "mine"}, event=event).raise_for_status()
        last = [t for t in heard(thief, "other", 8) if t["msg"] == "process_completed"]
        assert "Step" not in json.dumps(last)
        events = [told for told in heard(owner, "mine") if told["msg"] == "process_completed"]
        assert events
        assert len(owner.get("/pictures").json()["pictures"]) >= 1


@pytest.mark.parametrize("number", [-1, 3, 99, 10**9, True, None, "0; 1", [0], {}])
def test_an_event_that_the_page_does_not_have_starts_nothing(site: Visited, number: object) -> None:
    size = len(log_of(site.folder))
    with site.guest() as guest:
        answer = join(guest, "raw", {"tab": "raw", "request": {"steps": 1}}, fn_index=number)
        assert answer.status_code == 400
        assert guest.get("/pictures").json() == {"pictures": []}
    assert log_of(site.folder)[size:] == ""


def test_a_raw_post_changes_no_component_and_takes_no_others_name(site: Visited) -> None:
    with site.guest() as guest, site.owner() as owner:
        config = guest.get("/config").json()
        wrong = {"level": 2, "max_level": 2, "remote": False, "easel.local": True}
        answer = join(
            guest,
            "raw",
            {"tab": "raw", "request": {"steps": 1}, **wrong},
            event="generate",
            data=[wrong],
            request={"headers": {"cookie": owner.headers["cookie"]}},
            event_id="0" * 32,
            batched=True,
            simple_format=True,
            oauth_token="x",
            username="owner",
        )
        assert answer.status_code == 200
        assert "process_completed" in [told["msg"] for told in heard(guest, "raw")]
        assert guest.get("/config").json()["components"] == config["components"]
        assert len(guest.get("/pictures").json()["pictures"]) == 1
        assert guest.get("/share").json()["owner"] is False


REACHED = frozenset(
    {
        *("/", "/config", "/theme.css", "/manifest.json", "/favicon.ico"),
        *("/assets/x", "/static/x", "/gradio_api/app_id", "/gradio_api/startup-events"),
        *("/gradio_api/heartbeat/x", "/gradio_api/queue/data", "/gradio_api/queue/join"),
    }
)
"""Of Gradio's own routes, those that the page needs."""


def test_gradios_other_routes_are_shut(site: Visited) -> None:
    source = Path(routes.__file__).read_text(encoding="utf-8")
    written = re.findall(r'@(?:app|router)\.\w+\(\s*f?"(/[^"]*)"', source)
    paths = {re.sub(r"\{.*?\}", "x", path) for path in written}
    for word in ("deep_link", "proxy", "monitoring", "vibe", "file", "upload", "cancel", "login"):
        assert any(word in path for path in paths), f"Gradio has no {word} any more: what instead?"
    everywhere = {prefix + path for path in paths for prefix in ("", "/gradio_api")}
    with site.owner() as owner:
        for path in sorted(everywhere - REACHED):
            for method in ("GET", "POST"):
                answer = owner.request(method, path, content=b"{}")
                assert answer.status_code == 404, (method, path)


def test_what_others_made_or_brought_is_not_there(site: Visited) -> None:
    with site.guest() as one, site.guest() as other:
        made(one, "one", {"steps": 1})
        name = one.get("/pictures").json()["pictures"][0]["id"]
        upload = one.post("/uploads", content=jpeg(gradient(64, 64, 3))).json()["id"]
        paths = (
            f"/pictures/{name}.png",
            f"/pictures/{name}/thumbnail.webp",
            f"/pictures/{name}/recipe",
            f"/uploads/{upload}.png",
        )
        for path in paths:
            assert one.get(path).status_code == 200, path
            assert other.get(path).status_code == 404, path
            # Who asks without a cookie, or with one that was made up, is somebody else, too.
            stranger = {"cookie": f"{SESSION_COOKIE}={'c' * 43}"}
            assert other.get(path, headers=stranger).status_code == 401, path
        assert other.post(f"/uploads/picture/{name}").status_code == 404


def test_what_is_private_is_kept_by_no_browser_and_is_what_it_says(site: Visited) -> None:
    with site.guest() as guest:
        made(guest, "kept", {"steps": 1})
        name = guest.get("/pictures").json()["pictures"][0]["id"]
        upload = guest.post("/uploads", content=jpeg(gradient(64, 64, 4))).json()["id"]
        for path in (
            *("/", "/config", "/status", "/share", "/pictures", "/shelf", "/presets", "/words"),
            *(f"/pictures/{name}.png", f"/pictures/{name}/recipe", f"/uploads/{upload}.png"),
        ):
            answer = guest.get(path)
            assert answer.status_code == 200, path
            assert "no-store" in answer.headers["cache-control"], path
            assert answer.headers["x-content-type-options"] == "nosniff", path
            assert "default-src 'self'" in answer.headers["content-security-policy"], path


NAMES = (
    "/etc/passwd",
    "../../../../../../etc/passwd",
    "..\\..\\..\\..\\etc\\passwd",
    "C:\\Windows\\win.ini",
    "\\\\127.0.0.1\\share\\x",
    "file:///etc/passwd",
    "%2e%2e%2fetc%2fpasswd",
    "aux",
    "a\0b",
)


def test_a_name_that_is_a_path_or_an_address_finds_nothing(site: Visited) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap, site.owner() as owner:
        trap.settimeout(0.2)
        names = (*NAMES, f"http://127.0.0.1:{trap.getsockname()[1]}/x")
        size = len(log_of(site.folder))
        for name in names:
            written = quote(name, safe="")
            for path in (
                *(f"/pictures/{written}.png", f"/pictures/{written}/recipe"),
                *(f"/uploads/{written}.png", f"/strips/{written}.png", f"/page/{written}"),
                *(f"/texts/{written}.json", f"/history/{written}.png", f"/words/{written}"),
                *(f"/presets/{written}", f"/loras/{written}", f"/assets/{written}"),
                *(f"/static/{written}", f"/history/{written}/recipe"),
            ):
                answer = owner.get(path)
                assert answer.status_code < 500, path
                assert "root:" not in answer.text, path
                assert answer.is_error or path.startswith("/texts"), path
            for path in (f"/uploads/picture/{written}", f"/uploads/history/{written}"):
                assert 400 <= owner.post(path).status_code < 500, path
            for field in ("model", "init", "mask"):
                body = {"request": {field: name}}
                answer = owner.post("/look", json=body)
                assert answer.status_code < 500, (field, name)
                assert "root:" not in answer.text
        with pytest.raises(TimeoutError):
            trap.accept()
        assert log_of(site.folder)[size:] == ""


HEAD = b"POST /look HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"

LIES: tuple[tuple[bytes, tuple[int, ...]], ...] = (
    (
        HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        (400, 411),
    ),
    (HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", (411,)),
    (HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}", (400,)),
    (HEAD + b"content-length: -2\r\n\r\n{}", (400,)),
    (HEAD + b"content-length: 99999999999999999999\r\n\r\n{}", (413,)),
    (HEAD + b"\r\n{}", (411,)),
    (HEAD + b"x: " + b"a" * 70_000 + b"\r\ncontent-length: 2\r\n\r\n{}", (400, 431)),
    (HEAD + b"x: y\r\n" * 20_000 + b"content-length: 2\r\n\r\n{}", (400, 431)),
    (b"GET /config HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 90000000\r\n\r\n", (413,)),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", (400, 431)),
    (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nhost: evil.example\r\n\r\n", (400,)),
    (b"GET / HTTP/1.1\r\n\r\n", (400,)),
    (b"\x16\x03\x01\x00\xf4\x01\x00", (400,)),
)


@pytest.mark.parametrize(("request_", "codes"), LIES, ids=range(len(LIES)))
def test_bodies_and_headers_that_lie_or_are_too_large_are_refused(
    site: Visited, request_: bytes, codes: tuple[int, ...]
) -> None:
    answer = first_of(site.served.port, request_)
    assert int(answer[9:12]) in codes, answer[:200]
    assert site.served.status()["page"] is True


def test_more_than_was_said_is_no_second_request(site: Visited) -> None:
    hidden = b"POST /share/stop HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 0\r\n\r\n"
    answer = raw(site.served.port, HEAD + b"content-length: 2\r\n\r\n{}" + hidden)
    # What lies behind the body is judged like any other request.
    statuses = re.findall(rb"HTTP/1.1 (\d{3})", answer)
    assert statuses[1:] in ([b"421"], [b"400"])
