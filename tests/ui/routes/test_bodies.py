from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from webui.ui.routes.bodies import read_up_to


def test_a_larger_body_is_one_byte_too_long_and_taken_to_its_end() -> None:
    app, taken = FastAPI(), 0

    @app.post("/")
    async def read(request: Request) -> dict[str, int]:
        stream = request.stream()

        async def counted() -> AsyncIterator[bytes]:
            nonlocal taken
            async for piece in stream:
                taken += len(piece)
                yield piece

        request.stream = counted  # pyright: ignore[reportAttributeAccessIssue]
        return {"read": len(await read_up_to(request, 100))}

    def sent(size: int) -> Iterator[bytes]:
        for _ in range(size // 30):
            yield bytes(30)
        yield bytes(size % 30)

    client = TestClient(app)
    for size, read_of_it in ((0, 0), (99, 99), (100, 100), (101, 101), (1000, 101)):
        taken = 0
        assert client.post("/", content=sent(size)).json() == {"read": read_of_it}
        assert taken == size
