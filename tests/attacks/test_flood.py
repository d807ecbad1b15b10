"""Too much of everything: jobs, files, connections, and clients that hardly move."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.attacks.asking import JSON, heard, join
from tests.ui.served import client
from tests.ui.shared_server import Visited, listening, shared
from webui.ui.bodies import FILES_AT_ONCE
from webui.ui.connections import LOOK_SECONDS
from webui.ui.front import MOST_REQUESTS
from webui.ui.sessions import SESSION_COOKIE

JOBS = 500
FILES = 100
FILE_BYTES = 10_000_000
QUEUED, PER_SESSION = 64, 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Visited, None, None]:
    """One whose jobs take longer than the tests, which may leave a few of them there."""
    visited = listening(tmp_path_factory.mktemp("flood") / "out", pace=5.0)
    yield visited
    visited.served.kill()


@pytest.fixture
def own_site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Visited, None, None]:
    """One that may be left with a full queue."""
    visited = listening(tmp_path_factory.mktemp("full") / "out", pace=5.0)
    yield visited
    visited.served.kill()


def asked(site: Visited, session: str, number: int) -> str:
    """What a session is told about one more job."""
    headers = {"cookie": f"{SESSION_COOKIE}={session}"}
    with client(site.served.address, headers) as visitor:
        tab = f"tab{number}"
        answer = join(visitor, tab, {"tab": tab, "request": {"steps": 100}}, fn_index=0)
        if answer.is_error:
            return "no place"
        for told in heard(visitor, tab, 60):
            if told["msg"] in ("process_generating", "process_completed"):
                text = json.dumps(told["output"])
                return next((word for word in REFUSALS if word in text), "taken")
    return "nothing"


REFUSALS = ("The queue is full", "of your jobs are not finished yet")


def test_500_jobs_leave_a_bounded_queue_and_a_page_that_answers(own_site: Visited) -> None:
    began = psutil.Process(own_site.served.process.pid).memory_info().rss
    with ThreadPoolExecutor(24) as crowd:
        sessions = [f"{number // 5:043d}" for number in range(JOBS)]
        answers = Counter(crowd.map(asked, [own_site] * JOBS, sessions, range(JOBS)))
        # The jobs at hand take longer than it may wait for an answer.
        for _ in range(5):
            assert own_site.served.status()["page"] is True
    assert answers.total() == JOBS
    # One more than wait is being made.
    assert 0 < answers["taken"] <= QUEUED + 1, answers
    assert answers["The queue is full"] > 0, answers
    grown = psutil.Process(own_site.served.process.pid).memory_info().rss - began
    assert grown < 200_000_000, f"{grown / 1e6:.0f} MB"


def test_one_session_has_three_jobs(site: Visited) -> None:
    answers = Counter(asked(site, "d" * 43, number) for number in range(6))
    assert answers == {"taken": PER_SESSION, "of your jobs are not finished yet": 3}


def test_100_files_at_once_take_no_more_memory_than_a_few(site: Visited) -> None:
    process = psutil.Process(site.served.process.pid)
    peak = began = process.memory_info().rss
    done = threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    file = bytes(FILE_BYTES)

    def bring(_: int) -> int:
        with site.owner() as owner:
            return owner.post("/uploads", content=file, timeout=120).status_code

    watching = threading.Thread(target=look)
    watching.start()
    try:
        with ThreadPoolExecutor(FILES) as crowd:
            answers = Counter(crowd.map(bring, range(FILES)))
    finally:
        done.set()
        watching.join()
    assert answers.total() == FILES
    assert set(answers) <= {422, 503}
    # Each is held twice while it is read, and all of them would be 2 GB.
    assert peak - began < 4 * FILES_AT_ONCE * FILE_BYTES + 100_000_000, f"{(peak - began) / 1e6} MB"


def test_one_session_holds_a_bounded_number_of_streams(site: Visited) -> None:
    with site.owner() as owner:
        cookie = owner.headers["cookie"]
        head = (
            f"GET /gradio_api/heartbeat/x HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: {cookie}\r\n\r\n"
        )
        held = [
            socket.create_connection(("127.0.0.1", site.served.port)) for _ in range(MOST_REQUESTS)
        ]
        for stream in held:
            stream.sendall(head.encode())
            assert stream.recv(15).startswith(b"HTTP/1.1 200")
        answer = owner.get("/pictures")
        assert answer.status_code == 429
        assert "close a tab" in answer.json()["message"]
        # Another session is as free as before.
        with site.owner() as another:
            assert another.get("/pictures").status_code == 200
        for stream in held:
            stream.close()
        deadline = time.monotonic() + 60
        while owner.get("/pictures").status_code == 429:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def hung_up(connection: socket.socket, send: bytes) -> bool:
    """Sends a byte now and then, until the server has hung up or nobody believes it will."""
    until = time.monotonic() + 20 * LOOK_SECONDS
    connection.settimeout(0.3)
    while time.monotonic() < until:
        try:
            connection.sendall(send)
            if connection.recv(4096) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


SLOW = {
    "nothing": (b"", b""),
    "headers": (b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ", b"a"),
    "body": (b"POST /look HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n\r\n", b"a"),
    "file": (b"POST /uploads HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9000000\r\n\r\n", b"a"),
}


def test_who_hardly_sends_anything_is_hung_up_on(site: Visited) -> None:
    def trickle(kind: str) -> bool:
        head, more = SLOW[kind]
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", site.served.port)) as connection:
            connection.sendall(head)
            # Not before it was looked at for the first time.
            return hung_up(connection, more) and time.monotonic() - began >= LOOK_SECONDS

    with ThreadPoolExecutor(len(SLOW)) as crowd:
        ended = dict(zip(SLOW, crowd.map(trickle, SLOW), strict=True))
    assert all(ended.values()), ended


def test_visitors_do_not_use_up_the_owners_connections(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    site = shared(tmp_path_factory.mktemp("crowd") / "out")
    port = int(site.host.rpartition(":")[2])
    held: list[socket.socket] = []
    try:
        held.extend(socket.create_connection(("127.0.0.1", port)) for _ in range(300))
        head = f"GET / HTTP/1.1\r\nhost: {site.host}\r\nconnection: close\r\n\r\n".encode()
        held[-1].sendall(head)
        assert b" 503 " in held[-1].recv(200)
        with site.owner() as owner:
            assert owner.get("/config").status_code == 200
    finally:
        for one in held:
            one.close()
        site.served.kill()


def test_a_large_event_is_refused_before_it_is_read(site: Visited) -> None:
    with site.owner() as owner:
        for body in ("[" * 100_000, "1" * 5_000, "{", '{"session_hash": 1}', "null", '"\\ud800"'):
            answer = owner.post("/gradio_api/queue/join", content=body, headers=JSON)
            assert answer.status_code == 400, body[:20]
        long = b'{"session_hash": "a", "event_data": "' + b"a" * 2**20 + b'"}'
        assert owner.post("/gradio_api/queue/join", content=long, headers=JSON).status_code == 413
