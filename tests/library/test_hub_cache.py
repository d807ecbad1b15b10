"""The hub's own cache on the shelf: whole models alone, read only, among much that is not ours."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.library import weights as w
from tests.library.test_catalogue import EMBEDDING, LORA, put_whole
from webui.cli.building import shelves_in
from webui.errors import NotFoundError
from webui.library.catalogue import Catalogue
from webui.library.checkpoints import CheckpointShelf
from webui.library.hashes import HashBook
from webui.settings import Settings

CONFIGS = Path(__file__).parents[2] / "webui" / "generation" / "configs"


def put_in_hub(cache: Path, repository: str, put: Callable[[Path], object]) -> Path:
    """A repository's snapshot as `huggingface_hub` lays it out: links to what is called by hash."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / "abc"
    put(snapshot)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text("abc")
    (root / "blobs").mkdir(exist_ok=True)
    for number, file in enumerate(sorted(snapshot.rglob("*"))):
        if file.is_file() and not file.is_symlink():
            blob = root / "blobs" / str(number)
            shutil.move(file, blob)
            file.symlink_to(blob)
    return snapshot


def stock(cache: Path) -> None:
    """Two models that can be used, and what other programs leave there."""
    put_in_hub(cache, "painter/meadow", put_whole)
    put_in_hub(cache, "painter/single", lambda at: w.put(at / "lake.safetensors", w.sd1()))
    put_in_hub(cache, "video/large", lambda at: put_whole(at, "WanPipeline"))
    put_in_hub(cache, "painter/half", lambda at: shutil.rmtree(put_whole(at) / "vae"))
    put_in_hub(cache, "words/large", lambda at: w.put(at / "model.safetensors", w.t5()))
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for shard in shards:
        put_in_hub(cache, "words/huge", lambda at, name=shard: w.put(at / name, {"a": (2, 2)}))
    put_in_hub(cache, "words/old", lambda at: w.put(at / "pytorch_model.bin", {"a": (2, 2)}))
    put_in_hub(cache, "words/q4", lambda at: w.put_gguf(at / "words-q4.gguf", {"a": (32, 32)}))
    put_in_hub(cache, "someone/lora", lambda at: w.put(at / "ink.safetensors", LORA))
    put_in_hub(cache, "someone/fog", lambda at: w.put(at / "fog.safetensors", EMBEDDING))
    put_in_hub(cache, "painter/parts", lambda at: w.put(at / "flux.safetensors", w.flux()))
    (cache / "models--words--empty").mkdir()
    (cache / "datasets--words--many" / "snapshots" / "abc").mkdir(parents=True)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    stock(tmp_path / "hub")
    return tmp_path / "hub"


def test_whole_models_alone_are_on_the_shelf_after_ones_own(tmp_path: Path, cache: Path):
    hashes = HashBook(tmp_path / "state" / "hashes.json")
    w.put(tmp_path / "models" / "lake.safetensors", w.sd1())
    own = (tmp_path / "models",)
    cards = {card.name: card for card in Catalogue(own, (), hashes, cache).cards()}
    assert {name: card.in_hub for name, card in cards.items()} == {
        "lake": False,
        "painter/meadow": True,
        "painter/single/lake": True,
    }
    shelf = CheckpointShelf(own, hashes, CONFIGS, cache)
    assert shelf.names() == ("lake", "painter/meadow", "painter/single/lake")
    for name in shelf.names():
        assert shelf.find(name).name == name
        assert shelf.folder(name).facts is not None
    # A name that is one's own never comes to mean what another program has fetched.
    assert shelf.folder("lake").file == tmp_path / "models" / "lake.safetensors"
    for name in ("painter/half", "words/large", "video/large", "painter", "../meadow", "a\0b"):
        with pytest.raises(NotFoundError, match="Unknown model"):
            shelf.folder(name)


def test_one_model_is_found_without_a_look_at_all_the_others(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    shelf = CheckpointShelf((), HashBook(tmp_path / "hashes.json"), CONFIGS, cache)
    looked: list[str] = []
    true = Path.is_file

    def is_file(path: Path) -> bool:
        looked.append(path.relative_to(cache).parts[0])
        return true(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    shelf.folder("painter/meadow")
    assert set(looked) == {"models--painter--meadow"}


def test_nothing_is_read_twice_and_nothing_of_other_programs(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    catalogue = Catalogue((), (), HashBook(tmp_path / "hashes.json"), cache)
    opened: list[str] = []
    true: Any = Path.open

    def opening(path: Path, *rest: Any, **more: Any) -> Any:
        if path.suffix in (".safetensors", ".gguf", ".bin"):
            opened.append(path.relative_to(cache).parts[0])
        return true(path, *rest, **more)

    monkeypatch.setattr(Path, "open", opening)
    catalogue.cards()
    assert not {"models--words--large", "models--words--huge", "models--words--old"} & {*opened}
    assert opened
    opened.clear()
    catalogue.cards()
    assert opened == []


def test_it_is_left_out_where_that_is_said_and_not_listed_twice(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    models = tmp_path / "models"
    models.mkdir()

    def names(**said: object) -> set[str]:
        settings = Settings(state=tmp_path / "state", **said)  # pyright: ignore[reportArgumentType]
        return {*shelves_in(settings).models.names()}

    assert "painter/meadow" in names(models=models)
    assert names(models=models, hub_cache=False) == {"postcard"}
    own = names(models=cache)
    assert "meadow" in own
    assert "painter/meadow" not in own
    assert names(models=cache.parent) == own
