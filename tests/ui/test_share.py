from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tests.ui.stand_in_tunnel import HOST, StandInTunnel
from webui.errors import WebuiError
from webui.ui.sessions import SHARED
from webui.ui.share import Share, Shared, keep_shared


async def front(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(str(scope.get(SHARED)))(scope, receive, send)


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


class Clock:
    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def get(shared: Shared) -> bytes:
    port = int(shared.address.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


def test_what_comes_through_the_tunnel_is_known_by_its_socket_and_told_until_when() -> None:
    said: list[str] = []

    async def story() -> None:
        share = Share(StandInTunnel, hours=8, out=lambda: None)
        assert share.shared is None
        running = asyncio.create_task(keep_shared(share, front, "made up", said.append))
        await until(lambda: share.shared)
        shared = share.shared
        assert shared is not None
        assert shared.expires_at == pytest.approx(time.time() + 8 * 3600, abs=20)
        assert share.names == {HOST}
        assert not share.is_secure
        assert (await get(shared)).endswith(b"True")
        share.stop()
        await asyncio.wait_for(running, 60)
        with pytest.raises(ConnectionRefusedError):
            await get(shared)

    asyncio.run(story())
    first, last = said
    assert first.splitlines()[0].startswith(f"Share link: http://{HOST}:")
    assert "Password: made up" in first
    assert "Until: 2" in first
    assert last.startswith("The share link has ended")


@pytest.mark.parametrize("way", ["stopped", "later", "cancelled"])
def test_at_its_end_open_streams_are_cut_and_visitors_are_out(way: str) -> None:
    out: list[bool] = []
    clock = Clock()

    async def story() -> None:
        share = Share(StandInTunnel, hours=1, out=lambda: out.append(True), clock=clock)
        running = asyncio.create_task(share.run(endless, lambda _: None))
        await until(lambda: share.shared)
        shared = share.shared
        assert shared is not None
        stream = asyncio.create_task(get(shared))
        await asyncio.sleep(0.2)
        assert not stream.done()
        match way:
            case "stopped":
                await asyncio.to_thread(share.stop)
            case "later":
                # Such as when the machine was asleep.
                clock.ahead = 3601
            case _:
                running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        # It would never end by itself.
        await stream
        assert share.shared is None
        assert share.names == frozenset()

    asyncio.run(asyncio.wait_for(story(), 60))
    assert out == [True]


def test_a_clock_that_is_set_back_does_not_make_it_last_longer() -> None:
    clock = Clock()

    async def story() -> None:
        share = Share(StandInTunnel, hours=0.5 / 3600, out=lambda: None, clock=clock)
        running = asyncio.create_task(share.run(front, lambda _: None))
        await until(lambda: share.shared)
        clock.ahead = -3600
        await asyncio.wait_for(running, 60)

    asyncio.run(story())


class NoTunnel(StandInTunnel):
    def open(self, port: int) -> str:
        raise WebuiError("there is no network")


class SlowTunnel(StandInTunnel):
    def open(self, port: int) -> str:
        time.sleep(0.5)
        return super().open(port)


class OddTunnel(StandInTunnel):
    def open(self, port: int) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("tunnel", "sentence"),
    [
        (
            NoTunnel,
            "There is no share link, because there is no network; Easel goes on without it.",
        ),
        (OddTunnel, "There is no share link, for the reason above; Easel goes on without it."),
    ],
)
def test_a_tunnel_that_cannot_be_made_is_one_sentence(tunnel: Any, sentence: str) -> None:
    said: list[str] = []
    share = Share(tunnel, hours=8, out=lambda: None)
    asyncio.run(asyncio.wait_for(keep_shared(share, front, None, said.append), 60))
    assert said == [sentence]
    assert share.shared is None


def test_a_tunnel_that_breaks_down_is_noticed() -> None:
    made: list[StandInTunnel] = []
    said: list[str] = []

    def make() -> StandInTunnel:
        made.append(StandInTunnel())
        return made[0]

    async def story() -> None:
        share = Share(make, hours=8, out=lambda: None)
        running = asyncio.create_task(keep_shared(share, front, None, said.append))
        await until(lambda: share.shared)
        made[0].close()
        await asyncio.wait_for(running, 60)

    asyncio.run(story())
    assert "because the tunnel broke down" in said[-1]


def test_a_link_that_is_stopped_while_it_is_made_never_comes() -> None:
    made: list[SlowTunnel] = []

    def make() -> SlowTunnel:
        made.append(SlowTunnel())
        return made[0]

    async def story() -> None:
        share = Share(make, hours=8, out=lambda: None)
        running = asyncio.create_task(share.run(front, lambda _: pytest.fail("there is a link")))
        await until(lambda: made)
        share.stop()
        await asyncio.wait_for(running, 60)
        assert share.shared is None
        assert not made[0].is_open()

    asyncio.run(story())
