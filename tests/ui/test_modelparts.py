"""What the page says of a single file whose parts lie elsewhere, or nowhere."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.families.tiny import WORDS
from tests.library import weights
from webui.cli.building import CONFIGS
from webui.generation.families import SD3, family_of
from webui.generation.tokens import EncoderCount, count_tokens
from webui.library.checkpoints import CheckpointShelf, Model
from webui.library.hashes import HashBook
from webui.library.wildcards import WildcardShelf
from webui.ui.modelparts import ModelParts
from webui.ui.routes.looking import Looker

LONG = " ".join(["red"] * 600)


class Clock:
    """Stands still until it is told otherwise."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckpointShelf:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    models = tmp_path / "models"
    weights.put(models / "dev.safetensors", weights.flux())
    weights.put(models / "schnell.safetensors", weights.flux(guidance=False))
    weights.put(models / "third.safetensors", weights.sd3(24))
    return CheckpointShelf((models,), HashBook(tmp_path / "hashes.json"), CONFIGS)


def write_t5_tokenizer(folder: Path) -> None:
    """As large as the published one, whose first words are the tests'."""
    pieces = ["<pad>", "</s>", "<unk>", *(f"\u2581{word}" for word in WORDS)]
    pieces += [f"\u2581w{number}" for number in range(32_000 - len(pieces))]
    # transformers declares no types for it.
    untyped: Any = importlib.import_module("transformers").T5TokenizerFast
    made = untyped(vocab=[(piece, -float(n)) for n, piece in enumerate(pieces)], extra_ids=100)
    made.save_pretrained(folder)


def counts(parts: ModelParts, model: Model, text: str = LONG) -> dict[str, EncoderCount]:
    counted = count_tokens(text, parts.encoders(model, family_of(model)))
    return {encoder.name: encoder for encoder in counted.encoders}


def test_a_file_counts_by_the_tokenizer_beside_it_and_says_what_is_missing(
    shelf: CheckpointShelf, tmp_path: Path
) -> None:
    clock = Clock()
    parts, model = ModelParts(clock), shelf.folder("dev")
    missing = parts.missing(model)
    assert {(one["kind"], one["name"], one["folder"]) for one in missing} == {
        ("vae", "FLUX.1", "models/vae"),
        ("text_encoder", "CLIP-L", "models/text_encoders"),
        ("text_encoder", "T5-XXL", "models/text_encoders"),
        ("tokenizer", "T5-XXL", "models/text_encoders"),
    }
    assert [one["kind"] for one in missing if one["address"]] == ["tokenizer"]
    assert (counts(parts, model)["CLIP-L"].tokens, counts(parts, model)["T5"].tokens) == (600, None)

    write_t5_tokenizer(tmp_path / "models" / "text_encoders" / "t5")
    weights.put(tmp_path / "models" / "vae" / "ae.safetensors", weights.vae(16))
    # It is not looked for again at each letter.
    assert parts.missing(model) == missing
    clock.now = 60.0
    assert [one["kind"] for one in parts.missing(model)] == ["text_encoder"] * 2
    found = counts(parts, model)["T5"]
    assert (found.tokens, found.room, found.lost) == (600, 511, True)
    assert len(LONG[: found.cuts[0]].split()) == 511
    assert counts(parts, shelf.folder("schnell"))["T5"].room == 255


def test_an_encoder_that_a_model_does_without_reads_nothing(shelf: CheckpointShelf) -> None:
    parts, model = ModelParts(), shelf.folder("third")
    assert family_of(model) == SD3
    assert [*counts(parts, model)] == ["CLIP-L + CLIP-G"]
    assert "T5-XXL" not in {one["name"] for one in parts.missing(model)}


def test_a_look_tells_it_but_for_a_vae_where_one_is_chosen(shelf: CheckpointShelf) -> None:
    looker = Looker(shelf, WildcardShelf(()))
    kinds = [one["kind"] for one in looker.look({"model": "dev"})["missing"]]
    chosen = [one["kind"] for one in looker.look({"model": "dev", "vae": "any"})["missing"]]
    assert kinds.count("vae") == 1
    assert chosen == [kind for kind in kinds if kind != "vae"]
    assert looker.look({"model": "none of these"})["missing"] == []
