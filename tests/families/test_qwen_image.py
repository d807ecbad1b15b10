from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.controlnets.controlnet_qwenimage import QwenImageControlNetModel
from diffusers.pipelines.qwenimage.pipeline_qwenimage_controlnet import QwenImageControlNetPipeline
from diffusers.pipelines.qwenimage.pipeline_qwenimage_controlnet_inpaint import (
    QwenImageControlNetInpaintPipeline,
)
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save

from tests.families import kit, tiny, tiny_modern
from tests.families.against_diffusers import check_same_picture, encodings
from tests.families.kit import Bench
from tests.ui.controlnet_files import put_weight
from webui.errors import BadRequestError

NOISE = (16, 8, 8)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("qwen")
    tiny_modern.write_qwen_controlnet(folder / "models" / "controlnet" / "edges")
    with kit.bench_of(folder, tiny_modern.write_qwen_image, sampler="Euler") as made:
        yield made


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


def test_lightning_is_run_with_its_own_shift(bench: Bench) -> None:
    layer = "transformer.transformer_blocks.1.attn.to_q"
    # It changes nothing, so that what is left is how it is run.
    still = {"lora_down": torch.ones(1, 32), "lora_up": torch.zeros(32, 1)}
    bench.settings.loras.mkdir(exist_ok=True)
    path = bench.settings.loras / "Qwen-Image-Lightning-4steps-V2.0.safetensors"
    tensors = {f"{layer}.{name}.weight": tensor for name, tensor in still.items()}
    path.write_bytes(save(tensors))
    own = bench.latents(steps=None, loras=[{"name": path.stem}])
    pipe: Any = bench.loaded.pipe
    # As the card of lightx2v/Qwen-Image-Lightning has it.
    card: Any = tiny.flow_scheduler(
        base_shift=math.log(3),
        max_shift=math.log(3),
        shift=1.0,
        shift_terminal=None,
        use_dynamic_shifting=True,
        time_shift_type="exponential",
    )
    drawn = torch.randn(NOISE, generator=torch.Generator().manual_seed(5))[None]
    theirs = type(pipe)(**pipe.components | {"scheduler": card})
    theirs.set_progress_bar_config(disable=True)
    made = theirs(
        "a red hill",
        true_cfg_scale=1.0,
        width=kit.SIDE,
        height=kit.SIDE,
        num_inference_steps=4,
        latents=bench.loaded.backbone.packed(pipe, drawn),
        output_type="latent",
    ).images
    assert torch.allclose(bench.loaded.backbone.packed(pipe, own), made, atol=1e-4)
    assert (own - bench.latents(steps=4, cfg=1.0)).abs().max() > 1e-3


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


def test_one_for_inpainting_sees_the_mask_as_in_diffusers_pipeline(bench: Bench) -> None:
    folder = bench.settings.models / "controlnet" / "inpaint"
    tiny_modern.write_qwen_controlnet(folder, extra_condition_channels=4)
    picture, mask = kit.gradient(), kit.square_mask()
    anew = kit.painted_anew(bench, picture, mask)
    own = bench.latents(steps=2, cfg=1.0, **controls(bench, model="inpaint"), **anew)
    pipe: Any = bench.loaded.pipe
    net: Any = QwenImageControlNetModel
    untyped: Any = QwenImageControlNetInpaintPipeline
    theirs = untyped(**pipe.components, controlnet=net.from_pretrained(folder))
    theirs.set_progress_bar_config(disable=True)
    drawn = torch.randn(NOISE, generator=torch.Generator().manual_seed(5))[None]
    made = theirs(
        "a red hill",
        true_cfg_scale=1.0,
        control_image=Image.fromarray(picture),
        control_mask=Image.fromarray(mask),
        controlnet_conditioning_scale=1.0,
        width=kit.SIDE,
        height=kit.SIDE,
        num_inference_steps=2,
        latents=bench.loaded.backbone.packed(pipe, drawn),
        callback_on_step_end=kit.keeper(bench, picture, mask, drawn),
        output_type="latent",
    ).images
    assert torch.allclose(bench.loaded.backbone.packed(pipe, own), made, atol=1e-4)
    assert (own - bench.latents(steps=2, cfg=1.0, **anew)).abs().max() > 1e-3


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
    put_weight(config.parent)
    with pytest.raises(BadRequestError, match="made for other models"):
        bench.picture(**controls(bench, model="wide"))
