from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch

from tests.families import kit, tiny_modern
from tests.families.against_diffusers import CHECKS, check_same_picture, encodings
from tests.families.kit import Bench
from webui.errors import BadRequestError
from webui.generation.advice import advise
from webui.generation.facts import read_facts
from webui.generation.families import Z_IMAGE, Z_IMAGE_TURBO

NOISE = (16, 8, 8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    write = partial(tiny_modern.write_z_image, shift=6.0)
    with kit.bench_of(tmp_path_factory.mktemp("base"), write, sampler="Euler") as made:
        yield made


@pytest.fixture(scope="module")
def turbo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    write = partial(tiny_modern.write_z_image, shift=3.0)
    with kit.bench_of(tmp_path_factory.mktemp("turbo"), write, sampler="Euler") as made:
        yield made


@pytest.mark.parametrize("check", CHECKS)
def test_it_does_what_every_family_does(base: Bench, check: Callable[[Bench], None]) -> None:
    check(base)


def test_turbo_is_told_by_its_shift(base: Bench, turbo: Bench) -> None:
    assert [bench.loaded.family for bench in (base, turbo)] == [Z_IMAGE, Z_IMAGE_TURBO]


@pytest.mark.parametrize("words", ["a blue lake", "a much longer list of what is not to be seen"])
def test_it_is_read_and_run_as_by_diffusers(base: Bench, words: str) -> None:
    pipe: Any = base.loaded.pipe
    with torch.no_grad():
        theirs, others = pipe.encode_prompt("a red hill", negative_prompt=words)
    prompt, negative = encodings(base, negative_prompt=words)
    assert negative is not None
    assert torch.equal(prompt.tokens, theirs[0])
    assert torch.equal(negative.tokens, others[0])
    # Its scale counts from the prompt's own prediction on, ours from the negative prompt's.
    asked = {"cfg": 4.5, "negative_prompt": words}
    check_same_picture(base, NOISE, asked, {"guidance_scale": 3.5, "negative_prompt": words})


def test_at_a_cfg_of_one_it_is_not_guided(base: Bench) -> None:
    _, negative = encodings(base, cfg=1.0)
    assert negative is None
    check_same_picture(base, NOISE, {"cfg": 1.0}, {"guidance_scale": 0.0})
    assert kit.differ(base.picture(cfg=1.0), base.picture(cfg=4.0)) > 0


def test_turbo_is_run_without_guidance_as_by_diffusers(turbo: Bench) -> None:
    check_same_picture(turbo, NOISE, {}, {"guidance_scale": 0.0})
    assert (turbo.picture(cfg=1.0) == turbo.picture()).all()
    for changes in ({"cfg": 3.0}, {"negative_prompt": "fog"}, {"guidance": 3.0}):
        with pytest.raises(BadRequestError) as refused:
            turbo.picture(**changes)
        assert refused.value.field in changes


def test_its_sides_are_multiples_of_16(base: Bench) -> None:
    with pytest.raises(BadRequestError, match="multiples of 16"):
        base.picture(width=72)


@pytest.mark.parametrize(
    ("spelled", "place"),
    [
        ("diffusion_model.layers.0.attention.to_q", "layers.0.attention.to_q"),
        ("lora_unet_layers_0_attention_out", "layers.0.attention.to_out.0"),
    ],
)
def test_a_lora_acts_and_is_gone_to_the_bit(base: Bench, spelled: str, place: str) -> None:
    kit.check_lora(base, {spelled: f"transformer:{place}"}, spelled[-12:])


def test_turbo_gets_no_advice_about_what_it_does_not_have(turbo: Bench) -> None:
    facts = read_facts(turbo.loaded.checkpoint)
    assert {"cfg", "negative_prompt", "guidance", "clip_skip"} <= set(facts.unused)
    fields = [advice.field for advice in advise(turbo.request(width=1024, height=1024), facts)]
    assert fields == ["steps"]
