"""Files that mean harm, values that fit no field, and what a server must be after them."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil
from PIL import Image

from tests.fakes import gradient, png
from tests.ui.served import Served, copied, start
from tests.ui.served import client as served_client
from webui.library.files import PREFIX
from webui.provenance.pngtext import insert_text
from webui.request import GenerationRequest

MARKUP = '<img src="x" onerror="window.hit = 1">${window.hit = 2}'
MANY = 90 * 1024**2
"""Bytes of a text that nobody writes."""

MOST_GROWTH = 200_000_000
"""Bytes of memory that a server may take for any of it."""

AT_ONCE = 5.0
"""Seconds for an answer on a machine that is busy with other tests."""

_SIDE = 30_000
"""Pixels: 900 megapixels in a square."""

_CAPBSET_DROP, _DAC_OVERRIDE, _DAC_READ_SEARCH = 24, 1, 2
_JSON = MappingProxyType({"content-type": "application/json"})
_NEWNS, _PRIVATE = 0x20000, 0x44000


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file."""
    check = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def picture(kind: str = "PNG") -> bytes:
    """A grey picture, 24 x 16 pixels."""
    buffer = io.BytesIO()
    Image.new("L", (24, 16), "grey").save(buffer, kind)
    return buffer.getvalue()


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """The grey picture with one more part behind its header."""
    plain = picture()
    return plain[:33] + chunk(kind, data) + plain[33:]


def with_recipe(recipe: str) -> bytes:
    """The grey picture with such a text where our recipe stands."""
    return insert_text(picture(), {"easel": recipe})


def compressed_text(keyword: bytes) -> bytes:
    """90 MB of text in 90 kB."""
    return with_chunk(b"zTXt", keyword + b"\0\0" + zlib.compress(bytes(MANY)))


def long_text(size: int) -> bytes:
    """A text that takes as much room as it says."""
    return with_chunk(b"zTXt", b"easel\0\0" + os.urandom(1024) * (size // 1024))


def huge_picture() -> bytes:
    """900 black megapixels in about 100 kB, with a recipe."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 1, 0, 0, 0, 0))
    pixels = zlib.compress(bytes((1 + _SIDE // 8) * _SIDE), 9)
    whole = picture()[:8] + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return insert_text(whole, {"easel": json.dumps({"request": {"prompt": "a wide field"}})})


def served_over(folder: Path, before: Callable[[], None] | None = None) -> Served:
    """The real page over a quick generator that saves there, once it is ready."""
    arguments = ("tests.ui.fake_server", str(folder), "0", "0.001")
    log = folder.with_name(f"{folder.name}.txt")
    served = start(arguments, log=log, before=before) if before else copied(arguments, log=log)
    served.wait_for()
    return served


def log_of(folder: Path) -> str:
    """What the server over that folder has written to stderr."""
    return folder.with_name(f"{folder.name}.txt").read_text()


def write_own(folder: Path) -> None:
    """Two pictures and a preset, which must not get lost."""
    for seed in (1, 2):
        request = GenerationRequest(prompt=f"a hill, number {seed}", seed=seed)
        (folder / f"{seed}.png").write_bytes(png(gradient(64, 48, seed), request))
    own = folder / ".presets"
    own.mkdir()
    (own / "mine.json").write_text(preset(name="Mine", request={"steps": 9}))


def preset(**content: object) -> str:
    """The text of a preset's file."""
    return json.dumps({"schema": 1, "name": "Hostile", **content})


def without_override() -> None:
    """Makes this process, once it runs another program, respect a folder's mode even as root."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
            libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)


def on_small_disk(folder: Path, size: int) -> None:
    """Puts a disk of that many bytes at `folder`, for this process alone.

    Raises:
        OSError: This account may not do that.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    place = os.fsencode(folder)
    steps = (
        lambda: libc.unshare(_NEWNS),
        lambda: libc.mount(b"none", b"/", None, _PRIVATE, None),
        lambda: libc.mount(b"tmpfs", place, b"tmpfs", 0, b"size=%d" % size),
    )
    for step in steps:
        if step() != 0:
            raise OSError(ctypes.get_errno(), "no disk could be put there")


@contextlib.contextmanager
def client_of(served: Served) -> Generator[httpx.Client, None, None]:
    """A visitor at this machine, with a session."""
    with served_client(served.address) as client:
        client.get("/status")
        yield client


def sentence_in(answer: httpx.Response) -> str:
    """The sentence of a refusal, after a look at its form."""
    assert 400 <= answer.status_code < 600, answer.text[:200]
    content = answer.json()
    assert set(content) == {"message", "field"}, content
    message = content["message"]
    assert message[-1] in ".?"
    assert len(message) < 400
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def saved(client: httpx.Client) -> dict[str, Any]:
    """All saved pictures by name, once all are known."""
    deadline = time.monotonic() + 60
    while True:
        answer = client.get("/history", params={"limit": 500}).raise_for_status().json()
        if answer["indexing"] is None:
            return {item["name"]: item for item in answer["items"]}
        assert time.monotonic() < deadline, answer["indexing"]
        time.sleep(0.05)


def presets(client: httpx.Client) -> dict[str, Any]:
    """All presets by name."""
    listing = client.get("/presets").raise_for_status().json()
    return {preset["name"]: preset for preset in listing["presets"]}


def leftovers(folder: Path) -> list[Path]:
    """Files that were begun and are never finished; those being written in the background are."""
    deadline = time.monotonic() + 60
    while begun := [path for path in folder.rglob("*") if path.name.startswith(PREFIX)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return begun


@contextlib.contextmanager
def at_once(served: Served, about: object = "") -> Generator[None, None, None]:
    """The server computes for a moment only, however long that takes beside other programs."""
    process = psutil.Process(served.process.pid)
    before = process.cpu_times()
    yield
    after = process.cpu_times()
    assert after.user + after.system - before.user - before.system < AT_ONCE, about


@contextlib.contextmanager
def unharmed(served: Served, folder: Path) -> Generator[httpx.Client, None, None]:
    """A visitor; afterwards the server answers as before, has lost nothing and is no larger."""
    with client_of(served) as client:
        before = saved(client), presets(client), client.get("/shelf").json()
        with _memory(served) as peak:
            began = peak[0]
            yield client
        assert client.get("/status").json()["page"] is True
        assert client.get("/shelf").json() == before[2]
        assert saved(client) == before[0]
        assert presets(client).items() >= before[1].items()
        assert not (begun := leftovers(folder)), begun
        assert peak[0] - began < MOST_GROWTH, f"{(peak[0] - began) / 1e6:.0f} MB more"


@contextlib.contextmanager
def _memory(served: Served) -> Generator[list[int], None, None]:
    """The most bytes that the server took at any time, in a list of one."""
    process = psutil.Process(served.process.pid)
    peak = [process.memory_info().rss]
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def views(client: httpx.Client, event: str, data: object) -> list[dict[str, Any]]:
    """What the page's script gets to draw after sending `data` with that event; the last view."""
    config = client.get("/config").json()
    number = next(d["id"] for d in config["dependencies"] if d["targets"][0][1] == event)
    tab = f"tab-{time.monotonic_ns()}"
    join = {"session_hash": tab, "fn_index": number, "event_data": data}
    body = json.dumps({**join, "data": ()})
    client.post("/gradio_api/queue/join", content=body, headers=_JSON).raise_for_status()
    with client.stream("GET", f"/gradio_api/queue/data?session_hash={tab}") as lines:
        for line in lines.iter_lines():
            told: dict[str, Any] = json.loads(line[5:]) if line else {"msg": ""}
            if told["msg"] == "process_completed":
                assert told["success"], told
                return told["output"]["data"]
    raise AssertionError("The stream ended before the event did.")
