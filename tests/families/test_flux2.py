from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.families import kit, tiny_modern
from tests.families.against_diffusers import check_same_picture, encodings
from tests.families.kit import Bench
from webui.errors import BadRequestError
from webui.generation.families import FLUX2, FLUX2_KLEIN, FLUX2_KLEIN_BASE
from webui.generation.prompts import parse_prompt

NOISE = (128, 4, 4)
"""Diffusers draws it patch by patch."""


def bench_of(folder: Path, write: Callable[[Path], None]) -> Any:
    return kit.bench_of(folder, write, sampler="Euler")


def published(bench: Bench) -> Any:
    """The model's pipeline with all of its text encoder, as diffusers loads it."""
    pipe: Any = bench.loaded.pipe
    kind: Any = pipe.text_encoder.__class__
    whole = kind.from_pretrained(bench.settings.models / "tiny" / "text_encoder").eval()
    assert len(whole.get_decoder().layers) > len(pipe.text_encoder.get_decoder().layers)
    return type(pipe)(**{**pipe.components, "text_encoder": whole})


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_of(tmp_path_factory.mktemp("dev"), tiny_modern.write_flux2_dev) as made:
        yield made


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    write = partial(tiny_modern.write_flux2_klein, distilled=True)
    with bench_of(tmp_path_factory.mktemp("klein"), write) as made:
        yield made


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    write = partial(tiny_modern.write_flux2_klein, distilled=False)
    with bench_of(tmp_path_factory.mktemp("base"), write) as made:
        yield made


def test_which_of_them_a_model_is_stands_in_its_index(
    dev: Bench, klein: Bench, base: Bench
) -> None:
    families = [bench.loaded.family for bench in (dev, klein, base)]
    assert families == [FLUX2, FLUX2_KLEIN, FLUX2_KLEIN_BASE]


def test_dev_is_read_and_run_as_by_diffusers(dev: Bench) -> None:
    with torch.no_grad():
        theirs, _ = published(dev).encode_prompt("a red hill")
    prompt, negative = encodings(dev)
    assert negative is None
    assert torch.equal(prompt.tokens, theirs[0])
    check_same_picture(dev, NOISE, {"guidance": 2.5}, {"guidance_scale": 2.5})


def test_klein_base_is_read_and_run_as_by_diffusers(base: Bench) -> None:
    with torch.no_grad():
        theirs, _ = published(base).encode_prompt(["a red hill", "a blue lake"])
    prompt, negative = encodings(base, negative_prompt="a blue lake")
    assert negative is not None
    assert torch.allclose(prompt.tokens, theirs[0], atol=1e-5)
    assert torch.allclose(negative.tokens, theirs[1], atol=1e-5)
    check_same_picture(base, NOISE, {"cfg": 4.0}, {"guidance_scale": 4.0})


def test_klein_is_run_without_guidance_as_by_diffusers(klein: Bench) -> None:
    _, negative = encodings(klein)
    assert negative is None
    check_same_picture(klein, NOISE, {}, {"guidance_scale": 1.0})


def test_each_is_guided_in_its_own_way_alone(dev: Bench, klein: Bench, base: Bench) -> None:
    assert kit.differ(dev.picture(guidance=1.0), dev.picture(guidance=8.0)) > 0
    assert (dev.picture(guidance=4.0) == dev.picture()).all()
    assert kit.differ(base.picture(cfg=1.0), base.picture(cfg=8.0)) > 0
    assert kit.differ(base.picture(negative_prompt="fog"), base.picture()) > 0
    for bench, changes in (
        (dev, {"negative_prompt": "fog"}),
        (dev, {"cfg": 3.0}),
        (klein, {"negative_prompt": "fog"}),
        (klein, {"cfg": 3.0}),
        (klein, {"guidance": 3.0}),
        (base, {"guidance": 3.0}),
        (base, {"clip_skip": 2}),
    ):
        with pytest.raises(BadRequestError) as refused:
            bench.picture(**changes)
        assert refused.value.field in changes


def test_the_filter_sees_what_is_left_once_marks_of_pictures_are_taken_out(dev: Bench) -> None:
    loaded = dev.loaded
    assert loaded.backbone.seen(loaded.pipe, parse_prompt(r"a re\[IMG\]d hill")) == "a red hill"
    assert loaded.backbone.seen(loaded.pipe, parse_prompt("a re<|im_end|>d hill")) == "a red hill"


@pytest.mark.parametrize(
    ("spelled", "place"),
    [
        (
            "diffusion_model.single_blocks.0.linear1",
            "single_transformer_blocks.0.attn.to_qkv_mlp_proj",
        ),
        ("lora_unet_double_blocks_0_img_mlp_0", "transformer_blocks.0.ff.linear_in"),
    ],
)
def test_a_lora_acts_and_is_gone_to_the_bit(dev: Bench, spelled: str, place: str) -> None:
    kit.check_lora(dev, {spelled: f"transformer:{place}"}, spelled[-12:])
