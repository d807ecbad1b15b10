"""Random ControlNets of the real class beside a random UNet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.controlnet.pipeline_controlnet import StableDiffusionControlNetPipeline
from diffusers.pipelines.controlnet.pipeline_controlnet_union_sd_xl import (
    StableDiffusionXLControlNetUnionPipeline,
)
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import (
    StableDiffusionXLPipeline,
)
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from webui.errors import BrokenFileError, OutOfMemoryError
from webui.generation import steering as steering_module
from webui.generation.backbones.base import Conditioning, Encoding
from webui.generation.control import Control
from webui.generation.devices import Device
from webui.generation.hints import Hint
from webui.generation.masked import Masked
from webui.generation.speed import Call
from webui.generation.speeding import sped
from webui.generation.steering import ControlNets, Steering, as_input, steered, steers
from webui.generation.timeline import Moment, Timeline, followed
from webui.generation.weight_sizes import net_sizes
from webui.library.controlnets import ControlNetFolder, ControlNetShelf
from webui.library.hashes import HashBook

CPU = Device("cpu", torch.float32, "contiguous", "for tests")
STEPS = 5


def unet(channels: int = 4, **more: Any) -> Any:
    torch.default_generator.manual_seed(1)
    kind: Any = UNet2DConditionModel
    return kind(
        **more,
        sample_size=8,
        in_channels=channels,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
    ).requires_grad_(False)


def controlnet(seed: int) -> Any:
    kind: Any = ControlNetModel
    torch.default_generator.manual_seed(seed)
    net = kind.from_unet(unet(), conditioning_embedding_out_channels=(4, 4, 8, 8)).requires_grad_(
        False
    )
    return awakened(net)


def awakened(net: Any) -> Any:
    """The ControlNet, its last layers random: they begin at zero, and so would have no effect."""
    for name, weight in net.named_parameters():
        if "controlnet_" in name or "spatial_ch_projs" in name:
            weight.normal_(std=0.3)
    return net


def union(seed: int = 2, **more: Any) -> Any:
    torch.default_generator.manual_seed(seed)
    kind: Any = ControlNetUnionModel
    net = kind(
        **({"addition_time_embed_dim": 4} | more),
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=12,
        attention_head_dim=2,
        norm_num_groups=4,
        conditioning_embedding_out_channels=(4, 4, 8, 8),
        num_trans_channel=8,
        num_trans_head=2,
        num_proj_channel=8,
    )
    return awakened(net.eval().requires_grad_(False))


@pytest.fixture(scope="module")
def pipe() -> Any:
    return pipe_of(unet())


def pipe_of(network: Any) -> Any:
    kind: Any = StableDiffusionPipeline
    parts = dict.fromkeys(
        ("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor")
    )
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    made = kind(**parts, unet=network, scheduler=scheduler, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def nets() -> tuple[Any, Any]:
    return controlnet(2), controlnet(3)


def steering(
    net: Any,
    *,
    weight: float = 1.0,
    start: float = 0.0,
    end: float = 1.0,
    hint: int = 5,
    kind: int | None = None,
) -> Steering:
    folder = ControlNetFolder("net", Path(), "ControlNetModel", "pose", {})
    about = Hint("0" * 64, "none", None, "crop", 64, 64)
    picture = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(hint))
    control = Control(0, about, None, folder, kind, weight, start, end)
    return Steering.of(control, net, picture.to(torch.uint8))


def latents(pipe: Any, *steerings: Steering, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with steered(pipe, steerings, pictures=1):
        return pipe(
            prompt_embeds=torch.ones(1, 4, 12),
            negative_prompt_embeds=torch.zeros(1, 4, 12),
            width=64,
            height=64,
            num_inference_steps=STEPS,
            guidance_scale=scale,
            generator=generator,
            output_type="latent",
            return_dict=False,
        )[0]


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().mean())


@pytest.fixture
def plain(pipe: Any) -> torch.Tensor:
    return latents(pipe)


def test_it_equals_the_pipeline_of_diffusers(pipe: Any, nets: tuple[Any, Any]) -> None:
    """Two ControlNets with weights of their own, as MultiControlNet adds them up."""
    kind: Any = StableDiffusionControlNetPipeline
    ours = [steering(nets[0], weight=0.7), steering(nets[1], weight=0.4, hint=6)]
    theirs = kind(**pipe.components, controlnet=list(nets), requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        image=[one.hint for one in ours],
        prompt_embeds=torch.ones(1, 4, 12),
        negative_prompt_embeds=torch.zeros(1, 4, 12),
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        controlnet_conditioning_scale=[0.7, 0.4],
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        return_dict=False,
    )[0]
    assert distance(latents(pipe, *ours), expected) < 1e-5


@pytest.fixture(scope="module")
def pooled() -> Any:
    """As ControlNet 1.1's for shuffled pictures is."""
    net = controlnet(2)
    net.register_to_config(global_pool_conditions=True)
    return net


@pytest.mark.parametrize("scale", [3.0, 1.0])
def test_one_of_shuffled_pictures_equals_the_pipeline_of_diffusers(
    pipe: Any, nets: tuple[Any, Any], pooled: Any, scale: float
) -> None:
    kind: Any = StableDiffusionControlNetPipeline
    ours = steering(pooled, weight=0.7)
    theirs = kind(**pipe.components, controlnet=pooled, requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        image=ours.hint,
        prompt_embeds=torch.ones(1, 4, 12),
        negative_prompt_embeds=torch.zeros(1, 4, 12),
        num_inference_steps=STEPS,
        guidance_scale=scale,
        controlnet_conditioning_scale=0.7,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        return_dict=False,
    )[0]
    assert distance(latents(pipe, ours, scale=scale), expected) < 1e-5
    alike = steering(nets[0], weight=0.7)
    assert distance(latents(pipe, alike, scale=scale), expected) > 1e-3


def encoding(value: float) -> Encoding:
    return Encoding(torch.full((4, 12), value), None)


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("prompts", [1, 2])
def test_one_of_shuffled_pictures_steers_every_prompt_and_no_negative_one(
    pipe: Any, pooled: Any, pictures: int, prompts: int
) -> None:
    """Also where guidance is skipped, as here in the second call."""
    seen: list[list[bool]] = []

    def look(_: Any, __: Any, kwargs: dict[str, Any]) -> None:
        rows = kwargs["mid_block_additional_residual"]
        seen.append([not row.any() for row in rows])

    calls = [Call(guided=number != 1, reused=False) for number in range(STEPS)]
    several = [Conditioning(encoding(n + 1), encoding(0)) for n in range(prompts)]
    timeline = Timeline((Moment(STEPS, tuple((one, 1.0) for one in several)),))
    with (
        followed(pipe, pipe.unet, timeline, steps=STEPS, pictures=pictures),
        steered(pipe, [steering(pooled)], pictures=pictures),
        sped(pipe.unet, calls, pictures=pictures, guided=True),
    ):
        handle = pipe.unet.register_forward_pre_hook(look, with_kwargs=True)
        try:
            pipe(
                prompt_embeds=torch.ones(pictures, 4, 12),
                negative_prompt_embeds=torch.zeros(pictures, 4, 12),
                width=64,
                height=64,
                num_inference_steps=STEPS,
                guidance_scale=3.0,
                output_type="latent",
            )
        finally:
            handle.remove()
    whole = [True] * pictures + [False] * pictures * prompts
    assert seen == [whole, whole[pictures:], *[whole] * (STEPS - 2)]
    assert not pipe.unet._forward_pre_hooks


def test_one_of_shuffled_pictures_steers_beside_another(
    pipe: Any, pooled: Any, nets: tuple[Any, Any]
) -> None:
    alone = [latents(pipe, steering(net)) for net in (pooled, nets[1])]
    together = latents(pipe, steering(pooled), steering(nets[1]))
    assert all(distance(together, one) > 1e-3 for one in alone)


POOLED: dict[str, Any] = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + 10,
}
"""Of a UNet that is told the picture's size and the text's one vector, as union models expect."""


@pytest.mark.parametrize("kinds", [(0,), (0, 3)])
def test_a_union_model_equals_the_pipeline_of_diffusers(kinds: tuple[int, ...]) -> None:
    network, net = unet(**POOLED), union(**POOLED)
    parts: dict[str, Any] = {
        "unet": network,
        "scheduler": DDIMScheduler(clip_sample=False, steps_offset=1),
        "force_zeros_for_empty_prompt": False,
        "add_watermarker": False,
    }
    parts |= dict.fromkeys(("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    ours, theirs = (
        kind(**parts, **more)
        for kind, more in (
            (cast(Any, StableDiffusionXLPipeline), {}),
            (cast(Any, StableDiffusionXLControlNetUnionPipeline), {"controlnet": net}),
        )
    )
    weights = (0.7, 0.4)[: len(kinds)]
    units = [
        steering(net, kind=kind, weight=weight, hint=kind)
        for kind, weight in zip(kinds, weights, strict=True)
    ]
    expected = made(
        theirs,
        control_image=[unit.hint for unit in units],
        control_mode=[*kinds],
        controlnet_conditioning_scale=[*weights],
    )
    plain = made(ours)
    with steered(ours, units, pictures=1):
        steered_one = made(ours)
    assert distance(steered_one, expected) < 1e-5
    assert distance(plain, expected) > 1e-3


def made(pipe: Any, **more: Any) -> torch.Tensor:
    """Latents of a pipeline with two text encoders."""
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        prompt_embeds=torch.ones(1, 4, 12),
        negative_prompt_embeds=torch.zeros(1, 4, 12),
        pooled_prompt_embeds=torch.ones(1, 10),
        negative_pooled_prompt_embeds=torch.zeros(1, 10),
        width=64,
        height=64,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        return_dict=False,
        **more,
    )[0]


def test_the_hints_of_one_union_model_share_a_pass_and_others_have_their_own(
    pipe: Any, nets: tuple[Any, Any]
) -> None:
    """Stable Diffusion 1's sizes, where diffusers has no pipeline for it."""
    net, calls = union(), list[str]()

    def count(module: Any, *_: object) -> None:
        calls.append(type(module).__name__)

    handles = [each.register_forward_hook(count) for each in (net, nets[0])]
    try:
        units = [
            steering(net, kind=0),
            steering(nets[0]),
            steering(net, kind=3, hint=6, end=0.4),
            steering(nets[0], hint=6),
        ]
        together = latents(pipe, *units)
    finally:
        for handle in handles:
            handle.remove()
    assert calls == ["ControlNetUnionModel", "ControlNetModel", "ControlNetModel"] * STEPS
    assert distance(together, latents(pipe, *units[:2])) > 1e-4
    retold = steering(net, kind=4)
    assert distance(latents(pipe, units[0]), latents(pipe, retold)) > 1e-5


def test_weight_moves_the_picture_and_nothing_stays_behind(
    pipe: Any, nets: tuple[Any, Any], plain: torch.Tensor
) -> None:
    apart = [distance(latents(pipe, steering(nets[0], weight=w)), plain) for w in (0, 0.3, 1)]
    assert apart[0] == 0
    assert 0 < apart[1] < apart[2]
    assert torch.equal(latents(pipe), plain)
    assert not pipe.unet._forward_pre_hooks


def test_a_hint_for_inpainting_says_where_all_is_to_be_new(nets: tuple[Any, Any]) -> None:
    plain = steering(nets[0])
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    mask[..., 20:40, 8:24] = True
    inpainting = replace(plain.control, kind="inpaint")
    own = Steering.of(inpainting, nets[0], plain.drawn, Masked(torch.zeros(1, 3, 64, 64), mask))
    # As `make_inpaint_condition` in the card of control_v11p_sd15_inpaint has it.
    assert torch.equal(own.hint, torch.where(mask, -1.0, plain.hint))
    assert own.frame[30, 10].tolist() == [0, 0, 0]
    assert (own.frame[0] == plain.frame[0]).all()


def test_another_hint_makes_another_picture(pipe: Any, nets: tuple[Any, Any]) -> None:
    one, other = (latents(pipe, steering(nets[0], hint=hint)) for hint in (5, 6))
    assert distance(one, other) > 1e-4


def test_start_and_end_choose_the_steps(
    pipe: Any, nets: tuple[Any, Any], plain: torch.Tensor
) -> None:
    calls: list[int] = []

    def count(*_: object) -> None:
        calls.append(1)

    handle = nets[0].register_forward_hook(count)
    try:
        counts: list[int] = []
        for start, end in ((0, 1), (0, 0.6), (0.6, 1), (0.5, 0.51)):
            calls.clear()
            changed = latents(pipe, steering(nets[0], start=start, end=end))
            assert distance(changed, plain) > 0
            counts.append(len(calls))
    finally:
        handle.remove()
    assert counts == [5, 3, 2, 1]


def test_the_time_is_counted_in_whole_calls() -> None:
    control = steering(controlnet(2), start=0.2, end=0.6).control
    assert [steers(control, call, 10) for call in range(10)] == [False] * 2 + [True] * 4 + [
        False
    ] * 4


def test_an_error_in_the_middle_leaves_the_unet_as_it_was(
    pipe: Any, nets: tuple[Any, Any], plain: torch.Tensor
) -> None:
    small = torch.zeros(3, 16, 16, dtype=torch.uint8)
    broken = Steering.of(steering(nets[0]).control, nets[0], small)
    with pytest.raises(RuntimeError):
        latents(pipe, broken)
    assert torch.equal(latents(pipe), plain)


def test_a_unet_for_inpainting_shows_its_latents_alone(nets: tuple[Any, Any]) -> None:
    network = unet(9)
    sample, text = torch.randn(2, 9, 8, 8), torch.ones(2, 4, 12)
    pipe = pipe_of(network)
    pipe._num_timesteps = 1
    apart = network(sample, 5, encoder_hidden_states=text).sample
    with steered(pipe, [steering(nets[0])], pictures=1):
        together = network(sample, 5, encoder_hidden_states=text).sample
    assert distance(apart, together) > 1e-4


def test_a_controlnet_trained_on_bgr_is_given_bgr() -> None:
    net = controlnet(2)
    red = torch.zeros(3, 8, 8, dtype=torch.uint8)
    red[0] = 255
    assert torch.equal(as_input(red, net)[0, :, 0, 0], torch.tensor([1.0, 0, 0]))
    net.register_to_config(controlnet_conditioning_channel_order="bgr")
    assert torch.equal(as_input(red, net)[0, :, 0, 0], torch.tensor([0, 0, 1.0]))


def folder(path: Path, seed: int) -> ControlNetFolder:
    net = controlnet(seed)
    net.save_pretrained(path / str(seed))
    return ControlNetFolder(
        str(seed), path / str(seed), "ControlNetModel", "", net.config, f"{seed}" * 64
    )


def test_they_stay_in_memory_while_they_are_used(tmp_path: Path) -> None:
    one, other = folder(tmp_path, 2), folder(tmp_path, 3)
    kept = ControlNets(CPU)
    assert not kept.holds([one], "resident")
    first = kept.get([one])
    both = kept.get([other, one, one])
    assert both[1] is both[2] is first[0]
    assert kept.holds([one, other], "turns")
    assert not kept.holds([one, other], "stream")
    assert kept.get([other]) == (both[0],)
    assert not kept.holds([one], "resident")
    assert kept.bytes_on("cpu") == sum(weight.nbytes for weight in both[0].parameters())
    assert not any(parameter.requires_grad for parameter in both[0].parameters())


def test_fp16_weights_alone_are_loaded_and_counted(tmp_path: Path) -> None:
    net = controlnet(1).half()
    net.save_pretrained(tmp_path / "controlnet" / "a", variant="fp16")
    found = ControlNetShelf((tmp_path,), HashBook(tmp_path / "hashes.json")).find("a")
    device = Device("cpu", torch.float16, "contiguous", "as asked")
    keeper = ControlNets(device)
    (loaded,) = keeper.get((found,))
    own = net.state_dict()
    assert all(torch.equal(own[name], weight) for name, weight in loaded.state_dict().items())
    assert net_sizes(found, torch.float16).denoiser == keeper.bytes_on("cpu") > 0


def test_a_union_model_is_loaded_as_one(tmp_path: Path) -> None:
    net = union()
    net.save_pretrained(tmp_path / "union")
    found = ControlNetFolder(
        "union", tmp_path / "union", "ControlNetUnionModel", "", net.config, "3" * 64
    )
    (loaded,) = ControlNets(CPU).get([found])
    assert isinstance(loaded, ControlNetUnionModel)
    assert torch.equal(loaded.state_dict()["task_embedding"], net.task_embedding)


def test_one_that_does_not_load_says_so(tmp_path: Path) -> None:
    found = folder(tmp_path, 2)
    (found.path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BrokenFileError, match="'2' could not be loaded") as error:
        ControlNets(CPU).get([found])
    assert error.value.field == "controls"


def test_one_there_is_no_memory_for_is_not_called_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(steering_module, "place", no_room)
    with pytest.raises(OutOfMemoryError, match="not enough memory for the ControlNet '2'"):
        ControlNets(CPU).get([folder(tmp_path, 2)])
