"""Comparisons with the pipelines of diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.families import kit, tiny
from tests.families.kit import Bench
from webui.generation.backbones.base import Encoding
from webui.generation.schedulers import make_scheduler


def encodings(bench: Bench, **changes: Any) -> tuple[Encoding, Encoding | None]:
    """Ours, of the prompt and of the negative prompt where there is guidance."""
    loaded = bench.loaded
    untyped: Any = bench.engine
    plan = untyped._planner.plan(bench.request(**changes))
    made = loaded.backbone.condition(
        loaded.pipe,
        [one.prompts[0] for one in plan.prompts[0]],
        lambda prompt: loaded.backbone.encode(loaded.pipe, prompt, 1),
    )
    return made.prompt, made.negative_prompt


def check_same_picture(
    bench: Bench, noise: tuple[int, ...], ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    """What our steps lead to is, decoded, the picture that diffusers' pipeline makes.

    Args:
        noise: The shape in which the pipeline is given its noise.
        ours, theirs: What the two are asked for beside the prompt.
    """
    own = bench.latents(steps=4, sampler="Euler", **ours)
    loaded = bench.loaded
    pipe: Any = loaded.pipe
    drawn = torch.randn(noise, generator=torch.Generator().manual_seed(5))
    if type(pipe).__name__ == "QwenImagePipeline":
        drawn = pipe._pack_latents(drawn[None, None], 1, *noise)
    else:
        drawn = drawn[None]
    made = pipe(
        prompt="a red hill",
        width=kit.SIDE,
        height=kit.SIDE,
        num_inference_steps=4,
        latents=drawn,
        output_type="pt",
        **theirs,
    ).images
    with torch.no_grad():
        decoded = loaded.backbone.decode_latents(pipe, own)
    assert torch.allclose((decoded / 2 + 0.5).clamp(0, 1), made, atol=1e-3)
    assert decoded.std() > 0.01


@dataclass(frozen=True)
class Ways:
    """The pipelines of diffusers that start from a picture.

    Attributes:
        ours, theirs: What the two are asked for beside the prompt.
        encodes: Whether they take pixels alone, which they draw latents of before the noise: they
            are given what they start from as well, and where they inpaint it is noise alone.
    """

    img2img: Any
    inpaint: Any
    ours: Mapping[str, Any] = field(default_factory=dict[str, Any])
    theirs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    encodes: bool = False


def check_starts_as_diffusers(bench: Bench, ways: Ways) -> None:
    picture = kit.gradient()
    own = bench.latents(init=bench.bring(picture), strength=0.5, steps=8, **ways.ours)
    latents = _latents(bench, picture)
    # It takes latents for what they are; of pictures it draws latents by the seed.
    begun: dict[str, Any] = {"image": latents}
    if ways.encodes:
        scheduler: Any = _scheduler(bench)
        scheduler.set_timesteps(sigmas=[1 - step / 8 for step in range(8)])
        level = scheduler.sigmas[4]
        mixed = (1 - level) * latents + level * _noise(bench)
        begun = {"image": Image.fromarray(picture), "latents": mixed}
    their = _from_picture(bench, ways.img2img, ways, strength=0.5, **begun)
    assert torch.allclose(own, their, atol=1e-4)


def check_inpaints_as_diffusers(bench: Bench, ways: Ways) -> None:
    """Under a mask of whole latent pixels, all of them covered for the whole time.

    diffusers looks at one pixel of the mask for each of the latents, where here all that a latent
    has to do with count, and knows no shares of the steps.
    """
    picture = kit.gradient()
    mask = np.zeros((kit.SIDE, kit.SIDE), np.uint8)
    mask[16:48, 16:48] = 255
    names = {"init": bench.bring(picture), "mask": bench.bring(mask, "mask"), "mask_blur": 0}
    strength = 1.0 if ways.encodes else 0.5
    own = bench.latents(**names, strength=strength, steps=8, **ways.ours)
    begun: dict[str, Any]
    if ways.encodes:
        begun = {"image": Image.fromarray(picture), "latents": _noise(bench)}
    else:
        latents = _latents(bench, picture)
        begun = {"image": latents, "masked_image_latents": latents}
    their = _from_picture(
        bench, ways.inpaint, ways, mask_image=Image.fromarray(mask), strength=strength, **begun
    )
    assert torch.allclose(own, their, atol=1e-4)


def _latents(bench: Bench, picture: Any) -> torch.Tensor:
    planes = torch.as_tensor(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        return bench.loaded.backbone.encode_picture(bench.loaded.pipe, planes)


def _noise(bench: Bench) -> torch.Tensor:
    shape = bench.loaded.backbone.latents_shape(bench.loaded.pipe, kit.SIDE, kit.SIDE)
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))[None]


def _scheduler(bench: Bench) -> Any:
    config = bench.loaded.scheduler_config
    if not bench.loaded.family.flow:
        return make_scheduler(config, "Euler", "normal")
    trained = {name: value for name, value in config.items() if not name.startswith("_")}
    return tiny.flow_scheduler(**trained)


def _from_picture(bench: Bench, kind: Any, ways: Ways, **begun: Any) -> torch.Tensor:
    loaded = bench.loaded
    pipe: Any = loaded.pipe
    known = inspect.signature(kind).parameters
    parts = {name: part for name, part in pipe.components.items() if name in known}
    asked = {
        "requires_safety_checker": False,
        "add_watermarker": False,
        "requires_aesthetics_score": pipe.config.get("requires_aesthetics_score"),
        "force_zeros_for_empty_prompt": pipe.config.get("force_zeros_for_empty_prompt"),
    }
    said = {name: value for name, value in asked.items() if name in known}
    plain = kind(**(parts | {"scheduler": _scheduler(bench)} | said))
    plain.set_progress_bar_config(disable=True)
    with torch.no_grad():
        made = plain(
            "a red hill",
            width=kit.SIDE,
            height=kit.SIDE,
            num_inference_steps=8,
            generator=torch.Generator().manual_seed(5),
            output_type="latent",
            **begun,
            **ways.theirs,
        ).images
    shape = loaded.backbone.latents_shape(pipe, kit.SIDE, kit.SIDE)
    return loaded.backbone.unpacked(pipe, made, shape)
