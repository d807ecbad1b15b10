from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.generation.folders import write_json, write_sd1
from tests.library import weights
from webui.cli.building import CONFIGS
from webui.errors import BadRequestError, BrokenFileError
from webui.generation.facts import check_clip_skip, read_facts
from webui.generation.families import SD1
from webui.generation.sampling import Sampling
from webui.generation.unused import refuse_unused
from webui.library.checkpoints import CheckpointShelf, Model
from webui.library.hashes import HashBook
from webui.request import GenerationRequest
from webui.settings import ROOT


def test_the_embedded_model_says_what_suits_it(tmp_path: Path):
    shelf = CheckpointShelf((ROOT / "models",), HashBook(tmp_path / "hashes.json"))
    facts = read_facts(shelf.folder("postcard"))
    assert (facts.width, facts.height, facts.text_layers) == (256, 256, 3)
    assert facts.own == Sampling(20, 5.0, "DPM++ 2M", "normal")
    assert facts.useful_cfg[0] <= facts.own.cfg <= facts.useful_cfg[1] < SD1.useful_cfg[1]
    assert facts.useful_steps[0] <= facts.own.steps <= facts.useful_steps[1]
    assert not (tmp_path / "hashes.json").exists()


def test_configurations_alone_are_enough_and_the_family_says_the_rest(tmp_path: Path):
    facts = read_facts(write_sd1(tmp_path, "meadow"))
    assert (facts.name, facts.family) == ("meadow", SD1)
    assert (facts.width, facts.height, facts.text_layers) == (512, 512, 12)
    assert (facts.useful_cfg, facts.useful_steps) == (SD1.useful_cfg, SD1.useful_steps)
    assert facts.unused == ("guidance", "refiner", "refiner_start")
    picky = dataclasses.replace(SD1, refused=MappingProxyType({"clip_skip": "no_clip"}))
    assert dataclasses.replace(facts, family=picky).unused[-1] == "clip_skip"


@pytest.mark.parametrize(
    ("name", "side"), [("sd_xl_turbo_1.0_fp16", 512), ("DreamShaperXL_Turbo_v2", 1024)]
)
def test_sdxl_turbo_makes_small_pictures_and_what_was_merged_from_it_large_ones(
    name: str, side: int, tmp_path: Path
) -> None:
    weights.put(tmp_path / "models" / f"{name}.safetensors", weights.sdxl())
    shelf = CheckpointShelf((tmp_path / "models",), HashBook(tmp_path / "hashes.json"), CONFIGS)
    assert read_facts(shelf.folder(name)).width == side


def test_a_field_without_use_is_refused_with_the_reason() -> None:
    picky = dataclasses.replace(SD1, refused=MappingProxyType({"clip_skip": "no_clip"}))
    refuse_unused(GenerationRequest(), picky)
    with pytest.raises(BadRequestError, match="without CLIP") as error:
        refuse_unused(GenerationRequest(clip_skip=2), picky)
    assert error.value.field == "clip_skip"


def test_the_trained_size_follows_the_configuration(tmp_path: Path):
    assert read_facts(write_sd1(tmp_path, "meadow", sample_size=96)).width == 768


def test_a_model_brings_its_own_facts_in_part_or_whole(tmp_path: Path):
    model = write_sd1(tmp_path, "quick")
    write_json(model.path / "facts.json", {"cfg": [1, 1.5]})
    assert read_facts(model).useful_cfg == (1.0, 1.5)
    assert read_facts(model).useful_steps == SD1.useful_steps
    write_json(model.path / "facts.json", {"cfg": [1, 2], "steps": [4, 8]})
    assert read_facts(model).useful_steps == (4, 8)
    # What the family is run with comes within what the model says is worth it.
    assert read_facts(model).own == replace(SD1.own, steps=8, cfg=2.0)
    write_json(model.path / "facts.json", {"own": {"steps": 6, "sampler": "LCM"}})
    assert read_facts(model).own == replace(SD1.own, steps=6, sampler="LCM")


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"cgf": [1, 2]}, "did you mean 'cfg'"),
        ({"cfg": [2, 1]}, "lowest and the highest"),
        ({"cfg": [1]}, "lowest and the highest"),
        ({"cfg": [1, 2, 3]}, "lowest and the highest"),
        ({"cfg": []}, "lowest and the highest"),
        ({"cfg": 3}, "lowest and the highest"),
        ({"cfg": [1, 90]}, "at most 30"),
        ({"cfg": [1, float("nan")]}, "cfg is nan"),
        ({"steps": [4, "many"]}, "steps is 'many'"),
        ({"steps": [0, 8]}, "at least 1"),
        ({"steps": [None, 8]}, "lowest and the highest"),
        ({"own": {"steps": 0}}, "at least 1"),
        ({"own": {"seed": 1}}, "Unknown key 'seed' in own"),
        ({"own": 4}, "must name fields"),
        ([1, 2], "remove or mend it"),
        ("{", "remove or mend it"),
        ("[" * 10_000, "remove or mend it"),
    ],
)
def test_own_facts_that_make_no_sense_are_an_error(own: Any, says: str, tmp_path: Path):
    model = write_sd1(tmp_path, "meadow")
    write_json(model.path / "facts.json", own)
    with pytest.raises(BrokenFileError, match=says) as caught:
        read_facts(model)
    assert caught.value.field == "model"
    assert "'meadow'" in caught.value.message


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("unet/config.json", "no json"),
        ("unet/config.json", {}),
        ("unet/config.json", {"sample_size": None}),
        ("unet/config.json", {"sample_size": [64, 64]}),
        ("unet/config.json", '{"sample_size": Infinity}'),
        ("unet/config.json", {"sample_size": 10**40}),
        ("unet/config.json", {"sample_size": -64}),
        ("unet/config.json", {"sample_size": 0}),
        ("vae/config.json", {"block_out_channels": 4}),
        ("vae/config.json", {"block_out_channels": [1] * 500}),
        ("vae/config.json", {"block_out_channels": []}),
        ("vae/config.json", "[]"),
        ("text_encoder/config.json", {"num_hidden_layers": "12"}),
        ("text_encoder/config.json", {}),
    ],
)
def test_a_damaged_configuration_is_an_error_that_names_it(file: str, data: Any, tmp_path: Path):
    model = write_sd1(tmp_path, "meadow")
    write_json(model.path / file, data)
    with pytest.raises(BrokenFileError, match=file) as caught:
        read_facts(model)
    assert caught.value.field == "model"


def test_a_family_that_is_not_served_is_an_error(tmp_path: Path):
    model = write_sd1(tmp_path, "meadow")
    other = Model(model.name, model.path, "KandinskyPipeline")
    with pytest.raises(BadRequestError, match="KandinskyPipeline"):
        read_facts(other)


@pytest.mark.parametrize("clip_skip", [0, 13])
def test_clip_skip_stays_within_the_encoder(clip_skip: int):
    check_clip_skip(1, 12)
    check_clip_skip(12, 12)
    with pytest.raises(BadRequestError, match="12 layers") as caught:
        check_clip_skip(clip_skip, 12)
    assert caught.value.field == "clip_skip"
