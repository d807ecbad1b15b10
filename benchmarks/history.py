"""The history of many pictures: from files to rows, and from a question to an answer."""

from __future__ import annotations

import io
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from starlette.types import Receive, Scope, Send

from benchmarks.figures import Figure, Limit, seconds
from benchmarks.measure import BenchmarkError
from benchmarks.recipes import fresh_requests
from benchmarks.workbench import Workbench
from webui.interchange.infotext import write_infotext
from webui.library.history import History
from webui.library.history_database import INDEX
from webui.provenance.indexing import read_for_history
from webui.provenance.pngtext import insert_text
from webui.provenance.recipe import KEY, Recipe
from webui.ui.front import LOCAL
from webui.ui.routes.history import add_history_routes

SIDE = 64
"""Of the pictures that are only indexed: their pixels are not read."""

LARGE_SIDE = 1024
LARGE = 60
FOLDERS = 40
QUESTIONS = 15
PATIENCE_SECONDS = 600

PRESET: Mapping[str, Any] = MappingProxyType(
    {"steps": 20, "cfg": 5.0, "sampler": "DPM++ 2M", "schedule": "normal", "clip_skip": 1}
)
ASKED: tuple[tuple[str, dict[str, str]], ...] = (
    ("a page of 100", {}),
    ("a page of 100 by words", {"search": "beach RED sunset"}),
    ("a page of 100 by words that are nowhere", {"search": "nowhere"}),
    ("a page of 100 by a preset of 5 settings", {"preset": "usual"}),
)


def run(bench: Workbench) -> list[Figure]:
    """Writes the pictures, indexes them from nothing, and asks."""
    count = bench.effort.pictures
    everything, first = bench.work / "history", bench.work / "history-first"
    write_pictures(everything, count)
    some = list(itertools.islice(sorted(everything.rglob("*.png")), count // 4))
    for path in some:
        target = first / path.relative_to(everything)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    indexed = [index_from_nothing(everything) for _ in range(bench.effort.rounds)]
    index_from_nothing(first)
    screens = [first_screen(first, len(some)) for _ in range(QUESTIONS)]
    figures = [
        seconds(f"history: {count:,} PNG files indexed", indexed, asked=Limit(60)),
        seconds(
            f"history: first screen of {len(some):,}, from opening its index",
            screens,
            asked=Limit(1),
        ),
        *questions(everything, count),
        thumbnails(bench.work / "history-large"),
    ]
    for folder in (everything, first):
        shutil.rmtree(folder)
    return figures


def write_pictures(folder: Path, count: int) -> None:
    """Small pictures with whole recipes, spread over folders as days would."""
    png = _png(SIDE)
    for number, texts in enumerate(itertools.islice(_texts(), count)):
        path = folder / f"day {number % FOLDERS:02}" / f"{number:06}.png"
        if number < FOLDERS:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(insert_text(png, texts))


def index_from_nothing(folder: Path) -> float:
    """Seconds until every picture is in the index.

    Raises:
        BenchmarkError: Not all of them are.
    """
    for ending in ("", "-wal", "-shm"):
        (folder / f"{INDEX}{ending}").unlink(missing_ok=True)
    began = perf_counter()
    with closing(History(folder, read_for_history)) as history:
        history.start()
        _finish(history)
        took = perf_counter() - began
        found = sum(count for _, count in history.months())
    if found != sum(1 for _ in folder.rglob("*.png")):
        raise BenchmarkError(f"Only {found:,} pictures were indexed.")
    return took


def first_screen(folder: Path, count: int) -> float:
    """Seconds from opening an index that was made before to the answer with the first page."""
    began = perf_counter()
    with closing(History(folder, read_for_history)) as history:
        history.start()
        ask(_client(history), {}, total=count)
        return perf_counter() - began


def questions(folder: Path, count: int) -> Iterator[Figure]:
    """Pages over HTTP, all of `count` pictures in the index."""
    with closing(History(folder, read_for_history)) as history:
        history.start()
        _finish(history)
        client = _client(history)
        for what, parameters in ASKED:
            times: list[float] = []
            for _ in range(QUESTIONS):
                began = perf_counter()
                ask(client, parameters)
                times.append(perf_counter() - began)
            yield seconds(f"history: {what}, of {count:,}", times, asked=Limit(0.05))


def ask(client: TestClient, parameters: dict[str, str], *, total: int | None = None) -> None:
    """Asks for a page.

    Raises:
        BenchmarkError: It is not answered, or with another number of pictures.
    """
    answer = client.get("/history", params=parameters)
    if answer.status_code != 200 or total not in (None, answer.json()["total"]):
        raise BenchmarkError(f"The history answered {answer.status_code}: {answer.text[:200]}")


def thumbnails(folder: Path) -> Figure:
    """One after the other, each from a file with noise in it."""
    folder.mkdir(parents=True)
    png = _png(LARGE_SIDE)
    with closing(History(folder, read_for_history)) as history:
        for number, texts in enumerate(itertools.islice(_texts(), LARGE)):
            (folder / f"{number}.png").write_bytes(insert_text(png, texts))
        times: list[float] = []
        for path in sorted(folder.glob("*.png")):
            began = perf_counter()
            history.thumbnail_of(path)
            times.append(perf_counter() - began)
    shutil.rmtree(folder)
    what = f"history: a thumbnail of {LARGE_SIDE} px, written"
    return seconds(what, times, beside=f"{sum(times):.2f} s for {LARGE}")


def _texts() -> Iterator[dict[str, str]]:
    """What `webui.provenance.sign` and `recipe` write, for one picture after the other."""
    for turn in itertools.count():
        requests = fresh_requests("postcard", side=256, steps=20, sampler="DPM++ 2M")
        for request in requests:
            seed = turn * 10_000 + (request.seed or 0)
            recipe = Recipe(
                request=request.model_copy(update={"seed": seed}),
                model_sha256="ab" * 32,
                versions={"easel": "0.1.0", "torch": "2", "diffusers": "0"},
                device="cpu",
                dtype="bfloat16",
                layout="channels_last",
                attention="AttnProcessor2_0",
                tainted=False,
            )
            infotext = write_infotext(recipe.request, model_hash="ab" * 5, version="easel")
            yield {KEY: recipe.to_json(), "parameters": infotext}


def _png(side: int) -> bytes:
    noise = np.random.default_rng(0).integers(100, 156, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def _client(history: History) -> TestClient:
    app = FastAPI()
    add_history_routes(app, history, lambda _: PRESET, lambda _: ())

    async def fronted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, LOCAL: True}, receive, send)

    return TestClient(fronted)


def _finish(history: History) -> None:
    if not history.wait(PATIENCE_SECONDS):
        raise BenchmarkError("The pictures were not indexed in ten minutes.")
