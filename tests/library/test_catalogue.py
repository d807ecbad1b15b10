from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from tests.library import weights as w
from webui.library.catalogue import Card, Catalogue
from webui.library.hashes import HashBook
from webui.library.headers import read_header

EMBEDDING = {"emb_params": (8, 768)}
LORA = {
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 768)
}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def hashes(tmp_path: Path) -> HashBook:
    return HashBook(tmp_path / "state" / "hashes.json")


@pytest.fixture
def catalogue(tmp_path: Path, models: Path, hashes: HashBook) -> Catalogue:
    return Catalogue((models,), (tmp_path / "loras",), hashes)


def by_file(catalogue: Catalogue) -> dict[str, Card]:
    return {card.file: card for card in catalogue.cards()}


def put_folder(path: Path, pipeline: str, **unet: object) -> Path:
    """A folder in the diffusers layout with a UNet alone."""
    w.put(path / "unet" / "diffusion_pytorch_model.safetensors", w.ldm_unet(768))
    (path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    (path / "unet" / "config.json").write_text(json.dumps(unet))
    return path


def test_every_kind_of_file_has_a_card(catalogue: Catalogue, models: Path, tmp_path: Path):
    w.put(models / "meadow.safetensors", w.sd1())
    w.put(models / "deep" / "er" / "flux.safetensors", w.flux(), "BF16")
    w.put(models / "vae" / "ae.safetensors", w.vae(16))
    w.put(models / "text_encoders" / "t5xxl.safetensors", w.t5())
    w.put(models / "embeddings" / "ink.safetensors", EMBEDDING)
    w.put(models / "guards" / "own.safetensors", {"a": (1,)})
    w.put(
        models / "controlnet" / "edges" / "diffusion_pytorch_model.safetensors",
        {"controlnet_x_embedder.weight": (3072, 64)},
    )
    w.put(tmp_path / "loras" / "paper.safetensors", LORA)
    put_folder(models / "harbour", "StableDiffusionPipeline", cross_attention_dim=768)
    cards = by_file(catalogue)
    assert {file: (card.name, card.kind, card.family) for file, card in cards.items()} == {
        "meadow.safetensors": ("meadow", "model", "SD 1"),
        "deep/er/flux.safetensors": ("flux", "denoiser", "Flux"),
        "vae/ae.safetensors": ("ae", "vae", "Flux"),
        "text_encoders/t5xxl.safetensors": ("t5xxl", "text encoder", "unknown"),
        "embeddings/ink.safetensors": ("ink", "embedding", "SD 1"),
        "controlnet/edges/diffusion_pytorch_model.safetensors": ("edges", "controlnet", "Flux"),
        "paper.safetensors": ("paper", "lora", "SD 1"),
        "harbour": ("harbour", "model", "SD 1"),
    }
    assert all(card.problem is None for card in cards.values())
    meadow = cards["meadow.safetensors"]
    assert meadow.size == meadow.path.stat().st_size > 2_000_000_000
    assert meadow.modified == meadow.path.stat().st_mtime
    assert (meadow.precision, meadow.config, meadow.lacks) == ("fp16", "sd1", ())
    assert cards["vae/ae.safetensors"].component == "vae-flux"
    assert cards["harbour"].precision == "fp16"


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.safetensors", b"", "truncated"),
        ("a.safetensors", b"\x10", "truncated"),
        ("a.safetensors", b"<html>not found</html>", "not a safetensors file"),
        ("a.safetensors", b"\2\0\0\0\0\0\0\0[]", "damaged header"),
        ("a.gguf", b"GGUF", "truncated"),
        ("a.gguf", b"<html>", "is not a GGUF file"),
        ("a.ckpt", b"\x80\x02", "weights_only"),
        ("a.pt", b"\x80\x02", "saves it as safetensors"),
        ("a.bin", b"", "is a pickle"),
        ("A.PTH", b"", "is a pickle"),
    ],
)
def test_a_file_that_cannot_be_used_is_listed_with_the_reason(
    catalogue: Catalogue, models: Path, name: str, data: bytes, says: str
):
    models.mkdir()
    (models / name).write_bytes(data)
    (card,) = catalogue.cards()
    assert (card.file, card.kind, card.config) == (name, "unknown", None)
    assert says in (card.problem or "")


def test_a_cut_off_checkpoint_says_how_much_is_missing(catalogue: Catalogue, models: Path):
    path = w.put(models / "meadow.safetensors", w.sd1())
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1_000_000)
    assert "the last 1,000,000 bytes are missing" in (catalogue.cards()[0].problem or "")


def test_a_pickle_is_never_opened(catalogue: Catalogue, models: Path):
    models.mkdir()
    (models / "a.ckpt").write_bytes(b"\x80\x02")
    (models / "a.ckpt").chmod(0)
    assert "is a pickle" in (catalogue.cards()[0].problem or "")


def test_hidden_files_dangling_links_and_circles_are_passed_over(
    catalogue: Catalogue, models: Path
):
    w.put(models / ".hidden.safetensors", EMBEDDING)
    w.put(models / "a" / "ink.safetensors", EMBEDDING)
    (models / "gone.safetensors").symlink_to(models / "nowhere")
    (models / "a" / "back").symlink_to(models, target_is_directory=True)
    assert [card.file for card in catalogue.cards()] == ["a/ink.safetensors"]


def test_a_name_that_two_have_is_told_apart(catalogue: Catalogue, models: Path):
    for file in ("ink.safetensors", "a/ink.safetensors", "a/ink.gguf", "pen.safetensors"):
        w.put(models / file, EMBEDDING)
    names = {card.file: card.name for card in catalogue.cards()}
    assert names == {
        "ink.safetensors": "ink",
        "a/ink.safetensors": "a/ink.safetensors",
        "a/ink.gguf": "a/ink.gguf",
        "pen.safetensors": "pen",
    }


def test_hashes_are_none_until_they_are_known(catalogue: Catalogue, models: Path, hashes: HashBook):
    path = w.put(models / "ink.safetensors", EMBEDDING, note="a")
    (card,) = catalogue.cards()
    assert (card.sha256, card.auto_v2, card.auto_v3) == (None, None, None)
    start = read_header(path).data_start
    assert card.data_start == start
    hashes.digests(path, (0, start))
    (card,) = catalogue.cards()
    data = path.read_bytes()
    assert card.sha256 == hashlib.sha256(data).hexdigest()
    assert card.auto_v2 == hashlib.sha256(data).hexdigest()[:10]
    assert card.auto_v3 == hashlib.sha256(data[start:]).hexdigest()[:12]


def test_a_folder_of_diffusers_is_known_by_its_configurations(catalogue: Catalogue, models: Path):
    put_folder(models / "two", "StableDiffusionPipeline", cross_attention_dim=1024)
    put_folder(models / "xl-turbo", "StableDiffusionXLPipeline")
    put_folder(models / "video", "WanPipeline")
    scheduler = models / "two" / "scheduler" / "scheduler_config.json"
    scheduler.parent.mkdir()
    scheduler.write_text('{"prediction_type": "v_prediction"}')
    cards = by_file(catalogue)
    assert {file: card.family for file, card in cards.items()} == {
        "two": "SD 2",
        "xl-turbo": "SDXL",
        "video": "unknown",
    }
    turbo = cards["xl-turbo"].distilled
    assert turbo is not None
    assert turbo.name == "turbo"
    weights = models / "two" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(b"\0" * 20)
    assert "damaged header" in (by_file(catalogue)["two"].problem or "")
    weights.unlink()
    assert "holds no safetensors weights" in (by_file(catalogue)["two"].problem or "")


def test_500_files_are_listed_quickly_and_by_the_next_process_too(
    tmp_path: Path, models: Path, catalogue: Catalogue
):
    """As a collection is: checkpoints of SDXL among smaller things, with headers of full size."""
    kinds = [
        w.put(models / "0.safetensors", w.sdxl()),
        w.put(models / "1.safetensors", w.sd1()),
        w.put(models / "2.safetensors", w.flux(), "BF16"),
        w.put(models / "3.safetensors", w.vae()),
        w.put(models / "4.safetensors", EMBEDDING),
    ]
    for n in range(5, 500):
        (models / f"{n}.safetensors").hardlink_to(kinds[n % 5])
    took: list[float] = []
    again = Catalogue((models,), (), HashBook(tmp_path / "state" / "hashes.json"))
    for one in (catalogue, catalogue, again):
        began = time.process_time()
        assert len(one.cards()) == 500
        took.append(time.process_time() - began)
    # Twice what it takes, since a machine that does other things as well slows each down.
    assert took[0] < 4
    assert took[1] < 0.4
    assert took[2] < 0.4


def test_only_what_changed_is_read_again(
    catalogue: Catalogue, models: Path, monkeypatch: pytest.MonkeyPatch
):
    w.put(models / "ink.safetensors", EMBEDDING)
    w.put(models / "pen.safetensors", EMBEDDING)
    catalogue.cards()
    read: list[str] = []

    def reading(path: Path):
        read.append(path.name)
        return read_header(path)

    monkeypatch.setattr("webui.library.recognised_files.read_header", reading)
    w.put(models / "pen.safetensors", LORA)
    assert by_file(catalogue)["pen.safetensors"].kind == "lora"
    assert read == ["pen.safetensors"]
    (models / "ink.safetensors").unlink()
    assert list(by_file(catalogue)) == ["pen.safetensors"]
