"""Text encoders and denoiser that are read when they are used, against those that stay."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load, save

from benchmarks.activations_child import most_bytes
from tests.families import kit
from tests.families.kit import Bench
from tests.families.test_embeddings import vectors, write_sd1
from tests.families.test_flux import write_flux
from tests.families.tiny_sdxl import write_sdxl
from tests.generation.test_pipelines import CPU
from webui.errors import BrokenFileError
from webui.events import Saved
from webui.generation.families import SD1
from webui.generation.pipelines import Pipelines
from webui.generation.prompts import parse_prompt
from webui.generation.rereading import Rereader
from webui.library.checkpoints import CheckpointShelf
from webui.library.hashes import HashBook
from webui.provenance.pngtext import read_text
from webui.settings import ROOT, MemoryName

MEMORIES: tuple[MemoryName, ...] = ("resident", "drop")
TEXT = "text_model.encoder.layers.1.self_attn.q_proj"
CROSS = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
CHANGE = {
    "lora_te1_" + TEXT.replace(".", "_"): "text_encoder:" + TEXT.removeprefix("text_model."),
    "lora_te2_" + TEXT.replace(".", "_"): "text_encoder_2:" + TEXT,
    "lora_unet_" + CROSS.replace(".", "_"): f"unet:{CROSS}",
}


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Bench]]:
    """One that keeps all of a tiny SDXL, and one that drops what it does not use."""
    folders = [tmp_path_factory.mktemp(memory) for memory in MEMORIES]
    options: Any = {"sampler": "Euler", "steps": 2}
    with (
        kit.bench_of(folders[0], write_sdxl, memory="resident", **options) as resident,
        kit.bench_of(folders[1], write_sdxl, memory="drop", **options) as dropping,
    ):
        kit.write_lora(resident, "change", CHANGE)
        shutil.copytree(resident.settings.loras, dropping.settings.loras)
        yield resident, dropping


def rereader_of(bench: Bench) -> Rereader:
    return bench.loaded.rereader


def held(bench: Bench) -> set[str]:
    """The networks of which the weights are in memory."""
    return {
        name
        for name, part in bench.loaded.networks.items()
        if all(one.untyped_storage().nbytes() >= one.nbytes for one in part.parameters())
    }


def test_every_picture_is_that_of_a_model_that_stays(benches: tuple[Bench, Bench]) -> None:
    resident, dropping = benches
    asked: list[dict[str, Any]] = [
        {},
        {"loras": [{"name": "change", "weight": 0.8}]},
        {"loras": [{"name": "change", "weight": 0.8}], "prompt": "a lake", "seed": 9},
        {"init": "gradient", "strength": 0.6},
        {},
    ]
    pictures: list[Any] = []
    for changes in asked:
        made: list[Any] = []
        for bench in benches:
            picture = {"init": bench.bring(kit.gradient())} if "init" in changes else {}
            bench.forget()
            made.append(bench.picture(**changes | picture))
        assert np.array_equal(*made), changes
        pictures.append(made[0])
        assert held(dropping) == {"unet", "vae"}
    assert np.array_equal(pictures[0], pictures[-1])
    assert all(kit.differ(pictures[0], other) > 0 for other in pictures[1:-1])
    assert held(resident) == {"unet", "vae", "text_encoder", "text_encoder_2"}


def test_the_file_says_the_same_of_what_made_it(benches: tuple[Bench, Bench]) -> None:
    told: list[dict[str, str]] = []
    for bench in benches:
        (picture,) = [one for one in bench.events(seed=21) if isinstance(one, Saved)]
        told.append(read_text(Path(picture.path).read_bytes()))
    resident, dropping = told
    assert resident["parameters"] == dropping["parameters"]
    assert "Model hash: " in resident["parameters"]


def test_only_a_new_prompt_has_text_encoders_be_read(
    benches: tuple[Bench, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, bench = benches
    bench.picture(seed=31)
    read: list[str] = []
    untyped: Any = rereader_of(bench)
    for name, part in untyped._parts.items():

        def counted(name: str = name, again: Any = part.read) -> Any:
            read.append(name)
            return again()

        monkeypatch.setattr(part, "read", counted)
    bench.picture(seed=32)
    assert read == []
    bench.picture(prompt="a tree")
    assert read == ["text_encoder", "text_encoder_2", "unet"]
    bench.picture(seed=33)
    assert len(read) == 3


def test_an_embedding_is_seen_by_a_text_encoder_that_was_read_again(tmp_path: Path) -> None:
    made: list[Any] = []
    for memory in MEMORIES:
        embeddings = tmp_path / memory / "models" / "embeddings"
        embeddings.mkdir(parents=True)
        (embeddings / "ink.safetensors").write_bytes(save({"emb_params": vectors(1)}))
        with kit.bench_of(tmp_path / memory, write_sd1, memory=memory, steps=2) as bench:
            made.append([bench.picture(), bench.picture(prompt="a red <ink> hill")])
    assert np.array_equal(*made)
    assert kit.differ(*made[0]) > 0


def test_a_transformer_and_its_t5_take_turns_too(tmp_path: Path) -> None:
    made: list[Any] = []
    for memory in MEMORIES:
        with kit.bench_of(tmp_path / memory, write_flux, memory=memory, steps=2) as bench:
            made.append([bench.picture(), bench.picture(prompt="a blue lake")])
    assert np.array_equal(*made)


def test_no_more_is_held_than_the_plan_says(tmp_path: Path) -> None:
    shelf = CheckpointShelf((ROOT / "models",), HashBook(tmp_path / "hashes.json"))
    checkpoint = shelf.find("postcard")
    pipelines = Pipelines(CPU, memory="drop")

    def used() -> None:
        loaded = pipelines.get(checkpoint, SD1)
        for prompt in ("a red hill", "a blue lake"):
            loaded.backbone.encode(loaded.pipe, parse_prompt(prompt), 1)
            loaded.rereader.done_with_text()
            loaded.rereader.bring("unet")

    most = most_bytes(used)
    (mapped,) = (file.stat().st_size for file in checkpoint.path.glob("unet/*.safetensors"))
    sizes = pipelines.sizes(checkpoint, SD1)
    assert most - mapped < sizes.vae + max(sizes.text, sizes.denoiser) + 2 * sizes.leaf
    assert sizes.text > 2 * sizes.leaf
    assert pipelines.plan.needs > most - mapped


def test_files_that_were_changed_are_not_mixed_with_what_was_read_before(tmp_path: Path) -> None:
    with kit.bench_of(tmp_path, write_flux, memory="drop", steps=2) as bench:
        before = bench.picture()
        file = tmp_path / "models" / "tiny" / "text_encoder_2" / "model.safetensors"
        loaded = bench.loaded
        file.write_bytes(save({name: one * 2 for name, one in load(file.read_bytes()).items()}))
        with pytest.raises(BrokenFileError, match="text_encoder_2 has changed"):
            loaded.rereader.bring("text_encoder_2")
        assert kit.differ(bench.picture(), before) > 0
        assert bench.loaded is not loaded
