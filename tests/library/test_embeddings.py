from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.library.weights import put
from webui.library.embeddings import EmbeddingCard, EmbeddingShelf
from webui.library.hashes import HashBook


def shelf_in(tmp_path: Path) -> EmbeddingShelf:
    return EmbeddingShelf((tmp_path / "models",), HashBook(tmp_path / "state" / "hashes.json"))


def cards(tmp_path: Path) -> dict[str, EmbeddingCard]:
    return {card.name: card for card in shelf_in(tmp_path).cards()}


def test_every_customary_layout_is_told_of_by_its_header(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "embeddings"
    put(folder / "ink.safetensors", {"emb_params": (8, 768)}, ss_output_name="ink")
    put(folder / "wide.safetensors", {"emb_params": (2, 1024)}, "F32")
    put(folder / "both.safetensors", {"clip_l": (4, 768), "clip_g": (4, 1280)})
    put(folder / "meadow" / "learned_embeds.safetensors", {"<meadow>": (768,)})
    found = {name: card.facts for name, card in cards(tmp_path).items()}
    told = {name: (f.family, f.vectors, f.widths, f.word) for name, f in found.items()}
    assert told == {
        "ink": ("SD 1", 8, (768,), None),
        "wide": ("SD 2", 2, (1024,), None),
        "both": ("SDXL", 4, (768, 1280), None),
        "learned_embeds": ("SD 1", 1, (768,), "meadow"),
    }
    assert not any(facts.problem for facts in found.values())


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "embeddings"
    put(folder / "sd1" / "ink.safetensors", {"emb_params": (8, 768)})
    put(folder / "xl" / "Ink.safetensors", {"clip_l": (4, 768), "clip_g": (4, 1280)})
    found = cards(tmp_path)
    assert list(found) == ["sd1/ink", "xl/Ink"]
    assert found["xl/Ink"].names == ("xl/Ink", "Ink")


@pytest.mark.parametrize(
    ("shapes", "dtype", "says"),
    [
        ({"emb_params": (8, 512)}, "F16", "is no embedding that is known here"),
        ({"a": (8, 768), "b": (8, 64, 3)}, "F16", "is no embedding that is known here"),
        ({"clip_l": (4, 768), "clip_g": (3, 1280)}, "F16", "holds 3 and 4 vectors"),
        ({"emb_params": (76, 768)}, "F16", "holds 76 vectors, and 1 to 75 fit"),
        ({"emb_params": (0, 768)}, "F16", "holds 0 vectors"),
        ({"emb_params": (2, 768)}, "F8_E4M3", "is stored as F8_E4M3"),
    ],
)
def test_an_odd_file_is_listed_with_one_sentence(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], dtype: str, says: str
) -> None:
    put(tmp_path / "models" / "embeddings" / "odd.safetensors", shapes, dtype)
    problem = cards(tmp_path)["odd"].facts.problem
    assert problem is not None
    assert problem.startswith(f"odd.safetensors {says}")
    assert problem.count(".") == 2


def test_cut_files_and_pickles_are_listed_and_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "embeddings"
    whole = put(folder / "cut.safetensors", {"emb_params": (8, 768)})
    whole.write_bytes(whole.read_bytes()[:-9])
    (folder / "old.pt").write_bytes(b"\x80\x02")
    (folder / "old.pt").chmod(0)
    (folder / "older.bin").write_bytes(b"")
    problems = {name: card.facts.problem or "" for name, card in cards(tmp_path).items()}
    assert "truncated" in problems["cut"]
    assert all("weights_only" in problems[name] for name in ("old", "older"))
    assert shelf_in(tmp_path).known_hashes() == ()


def test_another_content_has_another_hash(tmp_path: Path) -> None:
    file = put(tmp_path / "models" / "embeddings" / "ink.safetensors", {"emb_params": (8, 768)})
    shelf = shelf_in(tmp_path)
    (first,) = shelf.known_hashes()
    put(file, {"emb_params": (9, 768)})
    assert first[0] == "ink"
    assert shelf.known_hashes() == (("ink", hashlib.sha256(file.read_bytes()).hexdigest()),)
    assert shelf.cards()[0].facts.vectors == 9
