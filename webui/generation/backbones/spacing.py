"""How far a picture's size moves the noise levels up, where a model's scheduler asks for it."""

from __future__ import annotations

from typing import Any


def shift_of(scheduler: Any, patches: int) -> float:
    """The shift for a picture of so many patches, as diffusers' pipelines work it out."""
    # Imported here: it brings T5 along, and most models have no use for either.
    from diffusers.pipelines.flux import pipeline_flux

    known = scheduler.config.get
    # diffusers does not declare its arguments.
    untyped: Any = pipeline_flux
    return untyped.calculate_shift(
        patches,
        known("base_image_seq_len", 256),
        known("max_image_seq_len", 4096),
        known("base_shift", 0.5),
        known("max_shift", 1.15),
    )
