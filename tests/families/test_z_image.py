from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from diffusers.models.controlnets.controlnet_z_image import ZImageControlNetModel
from diffusers.pipelines.z_image.pipeline_z_image_controlnet import ZImageControlNetPipeline
from diffusers.pipelines.z_image.pipeline_z_image_controlnet_inpaint import (
    ZImageControlNetInpaintPipeline,
)
from PIL import Image

from tests.families import kit, tiny_modern
from tests.families.against_diffusers import check_same_picture, encodings
from tests.families.kit import Bench
from webui.errors import BadRequestError
from webui.generation.advice import advise
from webui.generation.facts import read_facts
from webui.generation.families import Z_IMAGE, Z_IMAGE_TURBO

NOISE = (16, 8, 8)
VERSIONS = ("1.0", "2.0", "2.1")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    write = partial(tiny_modern.write_z_image, shift=6.0)
    folder = tmp_path_factory.mktemp("base")
    for name in VERSIONS:
        tiny_modern.write_z_controlnet(folder / "models" / "controlnet" / name, name)
    with kit.bench_of(folder, write, sampler="Euler") as made:
        yield made


@pytest.fixture(scope="module")
def turbo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    write = partial(tiny_modern.write_z_image, shift=3.0)
    with kit.bench_of(tmp_path_factory.mktemp("turbo"), write, sampler="Euler") as made:
        yield made


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


def controls(bench: Bench, **changes: Any) -> dict[str, Any]:
    picture = bench.bring(kit.gradient())
    unit = {"kind": "other", "model": "2.1", "picture": picture, "preprocessor": "none"}
    return {"controls": [unit | changes]}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_controlnet_steers_it_as_in_diffusers_pipeline(base: Bench, version: str) -> None:
    asked = {"cfg": 3.0, "negative_prompt": "fog", "steps": 2}
    own = base.latents(**asked, **controls(base, model=version, weight=0.7))
    base.forget()
    plain = base.latents(**asked)
    pipe: Any = base.loaded.pipe
    net: Any = ZImageControlNetModel
    untyped: Any = ZImageControlNetPipeline
    folder = base.settings.models / "controlnet" / version
    theirs = untyped(**pipe.components, controlnet=net.from_pretrained(folder))
    theirs.set_progress_bar_config(disable=True)
    with torch.no_grad():
        made = theirs(
            "a red hill",
            negative_prompt="fog",
            guidance_scale=2.0,
            control_image=Image.fromarray(kit.gradient()),
            controlnet_conditioning_scale=0.7,
            width=kit.SIDE,
            height=kit.SIDE,
            num_inference_steps=2,
            latents=torch.randn(NOISE, generator=torch.Generator().manual_seed(5))[None],
            output_type="latent",
        ).images
    assert torch.allclose(own, made, atol=1e-4)
    assert (own - plain).abs().mean() > 1e-2


def test_one_that_can_fill_in_sees_the_mask_as_in_diffusers_pipeline(base: Bench) -> None:
    picture, mask = kit.gradient(2), kit.square_mask()
    anew = kit.painted_anew(base, picture, mask)
    own = base.latents(cfg=1.0, steps=2, **controls(base), **anew)
    pipe: Any = base.loaded.pipe
    net: Any = ZImageControlNetModel
    untyped: Any = ZImageControlNetInpaintPipeline
    folder = base.settings.models / "controlnet" / "2.1"
    theirs = untyped(**pipe.components, controlnet=net.from_pretrained(folder))
    theirs.set_progress_bar_config(disable=True)
    drawn = torch.randn(NOISE, generator=torch.Generator().manual_seed(5))[None]
    with torch.no_grad():
        made = theirs(
            "a red hill",
            guidance_scale=0.0,
            image=Image.fromarray(picture),
            mask_image=Image.fromarray(mask),
            control_image=Image.fromarray(kit.gradient()),
            controlnet_conditioning_scale=1.0,
            width=kit.SIDE,
            height=kit.SIDE,
            num_inference_steps=2,
            latents=drawn,
            callback_on_step_end=kit.keeper(base, picture, mask, drawn),
            output_type="latent",
        ).images
    assert torch.allclose(own, made, atol=1e-4)
    assert (own - base.latents(cfg=1.0, steps=2, **anew)).abs().max() > 1e-3


def test_a_controlnet_acts_in_its_time_and_lets_go_of_the_model(base: Bench) -> None:
    plain, whole = base.picture(), base.picture(**controls(base))
    late = base.picture(**controls(base, start=0.7))
    assert 0 < kit.differ(late, plain) < kit.differ(whole, plain)
    two = [*controls(base)["controls"], *controls(base, model="1.0")["controls"]]
    pair = base.pictures(batch=2, controls=two)
    assert kit.differ(pair[0], whole) > 0
    assert abs(pair[1] - base.picture(seed=6, controls=two)).max() <= 2
    base.forget()
    assert (base.picture(**controls(base, weight=0)) == plain).all()
    untyped: Any = base.engine
    kept: Any = [*untyped._painter._controlnets._nets.values()]
    assert kept
    assert not any("noise_refiner" in dict(net.named_children()) for net in kept)


def test_a_single_file_is_the_same_as_a_folder(base: Bench) -> None:
    nets = base.settings.models / "controlnet"
    for version in VERSIONS:
        file = nets / f"{version}-union.safetensors"
        shutil.copy(nets / version / "diffusion_pytorch_model.safetensors", file)
        alone = base.latents(steps=2, **controls(base, model=f"{version}-union"))
        assert torch.equal(alone, base.latents(steps=2, **controls(base, model=version)))
        file.unlink()
