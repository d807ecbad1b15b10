from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.library import weights as w
from tests.work import files_opened, lines_run
from webui.errors import BrokenFileError
from webui.generation.families import FAMILIES
from webui.library.catalogue import Card, Catalogue
from webui.library.checkpoints import CheckpointShelf
from webui.library.hashes import HashBook
from webui.library.headers import header_length, read_header
from webui.library.pipeline_folders import PIPELINES
from webui.library.recognised_files import RecognisedFiles
from webui.library.weight_files import find_weights

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
    assert (meadow.precision, meadow.lacks) == ("fp16", ())
    assert cards["harbour"].precision == "fp16"


def test_what_cannot_be_read_among_the_embeddings_is_one(
    models: Path, catalogue: Catalogue
) -> None:
    w.put(models / "embeddings" / "odd.safetensors", {"a": (3, 5)})
    (models / "embeddings" / "old.pt").write_bytes(b"")
    (models / "older.pt").write_bytes(b"")
    found = {card.name: (card.kind, bool(card.problem)) for card in catalogue.cards()}
    assert found["odd"] == found["old"] == ("embedding", True)
    assert found["older"] == ("unknown", True)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.safetensors", b"", "truncated"),
        ("a.safetensors", b"\x10", "truncated"),
        ("a.safetensors", b"<html>not found</html>", "not a safetensors file"),
        ("a.safetensors", b"\2\0\0\0\0\0\0\0[]", "damaged header"),
        ("a.gguf", b"GGUF", "truncated"),
        ("a.gguf", b"<html>", "is not a GGUF file"),
        ("a.ckpt", b"\x80\x02", "torch.load('a.ckpt', map_location='cpu', weights_only=True)"),
        ("a.pt", b"\x80\x02", "'a.safetensors')\""),
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
    assert (card.file, card.kind) == (name, "unknown")
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


def test_a_folder_of_diffusers_is_known_by_its_configurations(
    catalogue: Catalogue, models: Path, hashes: HashBook
):
    put_folder(models / "two", "StableDiffusionPipeline", cross_attention_dim=1024)
    put_folder(models / "xl-turbo", "StableDiffusionXLPipeline")
    scheduler = models / "two" / "scheduler" / "scheduler_config.json"
    scheduler.parent.mkdir()
    scheduler.write_text('{"prediction_type": "v_prediction"}')
    cards = by_file(catalogue)
    assert {file: card.family for file, card in cards.items()} == {
        "two": "SD 2",
        "xl-turbo": "SDXL",
    }
    found = {one.file: one for one in find_weights(models)}
    two, turbo = RecognisedFiles(hashes.folder).of([found["two"], found["xl-turbo"]])
    assert two.recognised.prediction == "v_prediction"
    assert turbo.recognised.distilled is not None
    assert turbo.recognised.distilled.name == "turbo"


PARTS = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "image_encoder": [None, None],
}
SHARDS = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]


def put_whole(path: Path, pipeline: str = "StableDiffusionPipeline") -> Path:
    """A folder with all that its index names, the weights of the UNet in two files."""
    put_folder(path, pipeline, cross_attention_dim=768)
    index = {"_class_name": pipeline, **PARTS}
    (path / "model_index.json").write_text(json.dumps(index))
    for part, file in (("vae", "diffusion_pytorch_model"), ("text_encoder", "model.fp16")):
        w.put(path / part / f"{file}.safetensors", {"a": (2, 2)})
        (path / part / "config.json").write_text('{"a": 1}')
    (path / "unet" / "config.json").write_text('{"cross_attention_dim": 768}')
    for part, file in (("tokenizer", "vocab.json"), ("scheduler", "scheduler_config.json")):
        (path / part).mkdir()
        (path / part / file).write_text("{}")
    (path / "unet" / "diffusion_pytorch_model.safetensors").rename(path / "unet" / SHARDS[0])
    w.put(path / "unet" / SHARDS[1], {"b": (2, 2)})
    places = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
    name = "diffusion_pytorch_model.safetensors.index.json"
    (path / "unet" / name).write_text(json.dumps(places))
    return path


def test_every_pipeline_that_is_run_is_listed_with_its_family():
    run = {name: one.loras for one in FAMILIES for name in (one.pipeline, *one.also)}
    # Stable Diffusion 2 has the pipelines of 1, and is told by its width.
    told = {name: "SD 1" if family == "SD 2" else family for name, family in run.items()}
    assert told.items() <= PIPELINES.items()


@pytest.mark.parametrize("pipeline", ["WanPipeline", "PixArtSigmaPipeline", "LTXPipeline"])
def test_a_folder_of_a_pipeline_that_is_not_served_says_so(
    catalogue: Catalogue, models: Path, pipeline: str
):
    put_whole(models / "video", pipeline)
    (card,) = catalogue.cards()
    assert (card.kind, card.family) == ("model", "unknown")
    assert card.problem == (
        f"video is a {pipeline}, which is not served: take a model of Stable Diffusion, FLUX,"
        " Z-Image or Qwen-Image."
    )


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("model_index.json", "{", "has a damaged model_index.json: fetch it again."),
        ("model_index.json", '{"_class_name": 3}', "has a damaged model_index.json"),
        ("scheduler", None, "is incomplete, scheduler is missing: fetch it again."),
        ("tokenizer", None, "is incomplete, tokenizer is missing"),
        ("vae", None, "is incomplete, vae is missing"),
        ("unet/config.json", "[]", "is incomplete, unet/config.json is missing or damaged"),
        ("text_encoder/model.fp16.safetensors", None, "the weights of text_encoder are missing"),
        (f"unet/{SHARDS[1]}", None, f"is incomplete, unet/{SHARDS[1]} is missing"),
        (f"unet/{SHARDS[1]}", "short", f"{SHARDS[1]} is truncated"),
        ("unet/config.json", '{"quantization_config": {"quant_method": "gptq"}}', "packed by gptq"),
    ],
)
def test_what_a_folder_lacks_is_told_and_what_comes_is_noticed(
    catalogue: Catalogue, models: Path, hashes: HashBook, file: str, text: str | None, says: str
):
    harbour = put_whole(models / "harbour")
    assert [card.problem for card in catalogue.cards()] == [None]
    harm = harbour / file
    if text is not None:
        harm.write_text(text)
    elif harm.is_dir():
        shutil.rmtree(harm)
    else:
        harm.unlink()
    (card,) = catalogue.cards()
    assert says in (card.problem or "")
    with pytest.raises(BrokenFileError) as raised:
        CheckpointShelf((models,), hashes).find("harbour")
    assert (raised.value.message, raised.value.field) == (card.problem, "model")
    shutil.rmtree(harbour)
    put_whole(harbour)
    assert [card.problem for card in catalogue.cards()] == [None]


def test_a_folder_of_pickles_names_the_way_to_convert_it(catalogue: Catalogue, models: Path):
    vae = put_whole(models / "harbour") / "vae" / "diffusion_pytorch_model.safetensors"
    vae.rename(vae.with_suffix(".bin"))
    problem = catalogue.cards()[0].problem or ""
    assert problem.startswith("harbour holds weights as pickles, which can hold programs")
    assert "from_pretrained('.', use_safetensors=False" in problem


def test_100_files_are_read_once_and_by_the_next_process_not_at_all(
    tmp_path: Path, models: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
):
    """As a collection is: checkpoints of SDXL among smaller things, with headers of full size."""
    kinds = [
        w.put(models / "0.safetensors", w.sdxl()),
        w.put(models / "1.safetensors", w.sd1()),
        w.put(models / "2.safetensors", w.flux(), "BF16"),
        w.put(models / "3.safetensors", w.vae()),
        w.put(models / "4.safetensors", EMBEDDING),
    ]
    for n in range(5, 100):
        (models / f"{n}.safetensors").hardlink_to(kinds[n % 5])
    again = Catalogue((models,), (), HashBook(tmp_path / "state" / "hashes.json"))
    cache = tmp_path / "state" / "models.json"
    opened = files_opened(monkeypatch)
    assert len(catalogue.cards()) == 100
    assert sorted(path for path in opened if path != cache) == sorted(models.iterdir())
    opened.clear()
    for one in (catalogue, again):
        assert lines_run(one.cards) < 200 * 100
    assert opened == [cache]


def test_only_what_changed_is_read_again(
    catalogue: Catalogue, models: Path, monkeypatch: pytest.MonkeyPatch
):
    w.put(models / "ink.safetensors", EMBEDDING)
    w.put(models / "pen.safetensors", EMBEDDING)
    catalogue.cards()
    read: list[str] = []

    def reading(begin: bytes, *, size: int, file: str) -> int:
        read.append(file)
        return header_length(begin, size=size, file=file)

    monkeypatch.setattr("webui.library.alike.header_length", reading)
    w.put(models / "pen.safetensors", LORA)
    assert by_file(catalogue)["pen.safetensors"].kind == "lora"
    assert read == ["pen.safetensors"]
    (models / "ink.safetensors").unlink()
    assert list(by_file(catalogue)) == ["pen.safetensors"]
