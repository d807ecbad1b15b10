from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.work import finite
from webui.library.catalogue import Catalogue
from webui.library.hashes import HashBook
from webui.library.hashing import BackgroundHasher


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


@pytest.fixture
def hashes(tmp_path: Path) -> HashBook:
    return HashBook(tmp_path / "state" / "hashes.json")


@pytest.fixture
def catalogue(models: Path, hashes: HashBook) -> Catalogue:
    return Catalogue((models,), (), hashes)


@pytest.fixture
def hasher(catalogue: Catalogue, hashes: HashBook) -> Iterator[BackgroundHasher]:
    one = BackgroundHasher(catalogue, hashes)
    yield one
    one.stop()


def put(path: Path, count: int = 8) -> Path:
    path.write_bytes(save({"emb_params": np.ones((count, 768), np.float16)}))
    return path


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(3_000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within a minute")


def test_every_file_gets_its_hashes_and_new_ones_do_too(
    models: Path, catalogue: Catalogue, hasher: BackgroundHasher
):
    ink = put(models / "ink.safetensors")
    (models / "old.ckpt").write_bytes(b"\x80")
    hasher.start()
    wait_until(lambda: all(card.sha256 for card in catalogue.cards()))
    cards = {card.name: card for card in catalogue.cards()}
    assert cards["ink"].sha256 == hashlib.sha256(ink.read_bytes()).hexdigest()
    assert cards["ink"].auto_v3 is not None
    assert cards["old"].auto_v3 is None
    put(models / "pen.safetensors", 4)
    hasher.start()
    wait_until(lambda: all(card.sha256 for card in catalogue.cards()))
    wait_until(lambda: hasher.left == 0)


def test_the_smallest_file_comes_first_and_each_is_read_once(
    models: Path, catalogue: Catalogue, hashes: HashBook, monkeypatch: pytest.MonkeyPatch
):
    for name, count in (("large", 64), ("small", 1), ("middle", 8)):
        put(models / f"{name}.safetensors", count)
    order: list[str] = []
    true = HashBook.digests

    def digests(self: HashBook, path: Path, *rest: object) -> list[str]:
        order.append(path.stem)
        return true(self, path, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(HashBook, "digests", digests)
    hasher = BackgroundHasher(catalogue, hashes)
    hasher.start()
    wait_until(lambda: all(card.sha256 for card in catalogue.cards()))
    hasher.stop()
    assert order == ["small", "middle", "large"]


def test_a_file_that_goes_in_its_turn_is_survived(
    models: Path, catalogue: Catalogue, hashes: HashBook, monkeypatch: pytest.MonkeyPatch
):
    put(models / "gone.safetensors", 1)
    put(models / "stays.safetensors", 8)
    true = HashBook.digests

    def digests(self: HashBook, path: Path, *rest: object) -> list[str]:
        if path.stem == "gone":
            path.unlink(missing_ok=True)
        return true(self, path, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(HashBook, "digests", digests)
    hasher = BackgroundHasher(catalogue, hashes)
    hasher.start()
    wait_until(lambda: [bool(card.sha256) for card in catalogue.cards()] == [True])
    hasher.stop()


def test_it_waits_while_the_engine_is_busy_and_stops_in_the_middle(
    models: Path, catalogue: Catalogue, hashes: HashBook
):
    put(models / "ink.safetensors")
    busy = threading.Event()
    busy.set()
    hasher = BackgroundHasher(catalogue, hashes, busy=busy.is_set)
    hasher.start()
    wait_until(lambda: hasher.left == 1)
    with finite():
        # It is as busy as before.
        hasher.stop()
    assert [card.sha256 for card in catalogue.cards()] == [None]
    busy.clear()
    hasher.start()
    wait_until(lambda: all(card.sha256 for card in catalogue.cards()))
    hasher.stop()


def test_the_weights_of_a_folder_are_hashed_too(
    models: Path, catalogue: Catalogue, hasher: BackgroundHasher
):
    (models / "harbour" / "unet").mkdir(parents=True)
    (models / "harbour" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    weights = put(models / "harbour" / "unet" / "part.safetensors")
    hasher.start()
    wait_until(lambda: catalogue.cards()[0].sha256 is not None)
    name = f"unet/part.safetensors {hashlib.sha256(weights.read_bytes()).hexdigest()}\n"
    assert catalogue.cards()[0].sha256 == hashlib.sha256(name.encode()).hexdigest()
    wait_until(lambda: hasher.left == 0)
