"""Comparisons with the pipelines of diffusers, for families whose prompts are plain text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.families import kit
from tests.families.kit import Bench
from webui.generation.backbones.base import Encoding

CHECKS: tuple[Callable[[Bench], None], ...] = (
    kit.check_repeats,
    kit.check_batch,
    kit.check_prompt_acts,
    kit.check_cancel,
    kit.check_previews,
    kit.check_reuse,
    kit.check_starts_from_picture,
    kit.check_inpaints,
)


def encodings(bench: Bench, **changes: Any) -> tuple[Encoding, Encoding | None]:
    """Ours, of the prompt and of the negative prompt where there is guidance."""
    loaded = bench.loaded
    untyped: Any = bench.engine
    plan = untyped._resolved(bench.request(**changes))
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
