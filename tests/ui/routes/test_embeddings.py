from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI

from tests.generation.folders import write_json, write_sd1
from tests.library.weights import put
from tests.ui.routes.client import client_of
from webui.library.checkpoints import CheckpointShelf
from webui.library.embeddings import EmbeddingShelf
from webui.library.hashes import HashBook
from webui.library.wildcards import WildcardShelf
from webui.ui.routes.embeddings import add_embeddings_routes
from webui.ui.routes.looking import Looker


def test_every_embedding_is_told_of_and_no_path(tmp_path: Path) -> None:
    models = tmp_path / "models"
    put(models / "embeddings" / "a" / "ink.safetensors", {"<meadow>": (2, 768)})
    (models / "embeddings" / "old.pt").write_bytes(b"")
    app = FastAPI()
    add_embeddings_routes(app, EmbeddingShelf((models,), HashBook(tmp_path / "hashes.json")))
    answer = client_of(app).get("/embeddings")
    ink, old = answer.json()["embeddings"]
    assert ink == {
        "name": "ink",
        "file": "embeddings/a/ink.safetensors",
        "family": "SD 1",
        "vectors": 2,
        "word": "meadow",
        "problem": None,
    }
    assert "weights_only" in old["problem"]
    assert str(tmp_path) not in answer.text


def test_a_look_tells_of_those_in_a_prompt_and_of_words_like_them(tmp_path: Path) -> None:
    models = tmp_path / "models"
    made = write_sd1(models, "meadow")
    config = {"num_hidden_layers": 12, "hidden_size": 768}
    write_json(made.path / "text_encoder" / "config.json", config)
    put(models / "embeddings" / "ink.safetensors", {"emb_params": (8, 768)})
    put(models / "embeddings" / "glow.safetensors", {"clip_l": (4, 768), "clip_g": (4, 1280)})
    hashes = HashBook(tmp_path / "state" / "hashes.json")
    shelf, embeddings = CheckpointShelf((models,), hashes), EmbeddingShelf((models,), hashes)
    looker = Looker(shelf, WildcardShelf(()), embeddings=embeddings)
    asked = {"model": "meadow", "prompt": "red ink, glow", "negative_prompt": "<glow>"}
    seen = looker.look(asked)
    assert seen["prompt"]["embeddings"] == [{"name": "ink", "vectors": 8}]
    assert [remark["why"] for remark in seen["prompt"]["remarks"]] == ["SDXL"]
    (encoder,) = seen["prompt"]["encoders"]
    assert encoder["tokens"] == 1 + 8 + 1 + len("glow")
    assert "made for SDXL" in seen["negative_prompt"]["problem"]
    assert seen["negative_prompt"]["embeddings"] == []
