from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.controlnets.controlnet_qwenimage import QwenImageControlNetModel
from diffusers.pipelines.qwenimage.pipeline_qwenimage_controlnet import QwenImageControlNetPipeline
from numpy.typing import NDArray
from PIL import Image

from tests.families import kit, tiny_modern
from tests.families.against_diffusers import CHECKS, check_same_picture, encodings
from tests.families.kit import Bench
from webui.errors import BadRequestError

NOISE = (16, 8, 8)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("qwen")
    tiny_modern.write_qwen_controlnet(folder / "models" / "controlnet" / "edges")
    with kit.bench_of(folder, tiny_modern.write_qwen_image, sampler="Euler") as made:
        yield made


@pytest.mark.parametrize("check", CHECKS)
def test_it_does_what_every_family_does(bench: Bench, check: Callable[[Bench], None]) -> None:
    check(bench)


@pytest.mark.parametrize("words", ["a blue lake", "a much longer list of what is not to be seen"])
def test_it_is_read_and_run_as_by_diffusers(bench: Bench, words: str) -> None:
    pipe: Any = bench.loaded.pipe
    prompt, negative = encodings(bench, negative_prompt=words)
    assert negative is not None
    for text, own in (("a red hill", prompt), (words, negative)):
        with torch.no_grad():
            theirs, mask = pipe.encode_prompt(text)
        assert mask is None
        assert torch.equal(own.tokens, theirs[0])
    asked = {"cfg": 4.5, "negative_prompt": words}
    check_same_picture(bench, NOISE, asked, {"true_cfg_scale": 4.5, "negative_prompt": words})


def test_at_a_cfg_of_one_it_is_not_guided(bench: Bench) -> None:
    _, negative = encodings(bench, cfg=1.0)
    assert negative is None
    check_same_picture(bench, NOISE, {"cfg": 1.0}, {"true_cfg_scale": 1.0})
    assert kit.differ(bench.picture(cfg=1.0), bench.picture(cfg=4.0)) > 0


@pytest.mark.parametrize("changes", [{"guidance": 3.0}, {"clip_skip": 2}])
def test_what_it_has_no_use_for_is_refused(bench: Bench, changes: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError) as refused:
        bench.picture(**changes)
    assert refused.value.field in changes


@pytest.mark.parametrize(
    "spelled",
    ["transformer.transformer_blocks.1.attn.to_q", "lora_unet_transformer_blocks_1_attn_to_q"],
)
def test_a_lora_acts_and_is_gone_to_the_bit(bench: Bench, spelled: str) -> None:
    kit.check_lora(bench, {spelled: "transformer:transformer_blocks.1.attn.to_q"}, spelled[-18:])


def controls(bench: Bench, hint: NDArray[np.uint8] | None = None, **changes: Any) -> dict[str, Any]:
    picture = bench.bring(kit.gradient() if hint is None else hint)
    unit = {"kind": "other", "model": "edges", "picture": picture, "preprocessor": "none"}
    return {"controls": [unit | changes]}


def test_a_controlnet_steers_it_as_in_diffusers_pipeline(bench: Bench) -> None:
    own = bench.latents(steps=4, cfg=3.0, negative_prompt="fog", **controls(bench, weight=0.7))
    pipe: Any = bench.loaded.pipe
    net: Any = QwenImageControlNetModel
    untyped: Any = QwenImageControlNetPipeline
    folder = bench.settings.models / "controlnet" / "edges"
    theirs = untyped(**pipe.components, controlnet=net.from_pretrained(folder))
    theirs.set_progress_bar_config(disable=True)
    drawn = torch.randn(NOISE, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        made = theirs(
            "a red hill",
            negative_prompt="fog",
            true_cfg_scale=3.0,
            control_image=Image.fromarray(kit.gradient()),
            controlnet_conditioning_scale=0.7,
            width=kit.SIDE,
            height=kit.SIDE,
            num_inference_steps=4,
            latents=pipe._pack_latents(drawn[None, None], 1, *NOISE),
            output_type="pt",
        ).images
        decoded = bench.loaded.backbone.decode_latents(pipe, own)
    assert torch.allclose((decoded / 2 + 0.5).clamp(0, 1), made, atol=1e-3)


def test_a_controlnet_acts_in_its_time_and_by_its_weight(bench: Bench) -> None:
    plain = bench.picture()
    whole = kit.differ(bench.picture(**controls(bench)), plain)
    weak = kit.differ(bench.picture(**controls(bench, weight=0.1)), plain)
    late = kit.differ(bench.picture(**controls(bench, start=0.7)), plain)
    assert 0 < weak < whole
    assert 0 < late < whole
    other = bench.picture(**controls(bench, kit.gradient(3)))
    assert kit.differ(other, bench.picture(**controls(bench))) > 0
    assert (bench.picture() == plain).all()


def test_a_controlnet_for_other_models_is_refused(bench: Bench) -> None:
    config = bench.settings.models / "controlnet" / "wide" / "config.json"
    config.parent.mkdir()
    said = json.loads((config.parent.parent / "edges" / "config.json").read_text())
    config.write_text(json.dumps(said | {"joint_attention_dim": 3584}))
    with pytest.raises(BadRequestError, match="made for other models"):
        bench.picture(**controls(bench, model="wide"))
