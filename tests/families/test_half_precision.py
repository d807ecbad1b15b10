"""In bf16, as these models are run: some of their pipelines mix number formats."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.families import kit, tiny_modern

WRITERS: tuple[Callable[[Path], None], ...] = (
    tiny_modern.write_flux2_dev,
    partial(tiny_modern.write_z_image, shift=6.0),
    tiny_modern.write_qwen_image,
)


@pytest.mark.parametrize("write", WRITERS, ids=["flux2", "z-image", "qwen-image"])
def test_pictures_are_made_and_painted_over(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with kit.bench_of(tmp_path, write, sampler="Euler") as bench:
        exact = bench.picture()
        pipe: Any = bench.loaded.pipe
        # As the engine's own thread does, whose tensors they are.
        with torch.inference_mode():
            pipe.to(torch.bfloat16)
        bench.forget()
        assert 0 < kit.differ(bench.picture(), exact) < 16
        plain = kit.gradient()
        mask = np.zeros((kit.SIDE, kit.SIDE), np.uint8)
        mask[16:48, 16:48] = 255
        names = {"init": bench.bring(plain), "mask": bench.bring(mask, "mask")}
        made = bench.picture(**names, mask_blur=0, strength=0.7)
        assert (made[mask == 0] == plain.astype(np.int16)[mask == 0]).all()
        assert kit.differ(made[mask > 0], plain.astype(np.int16)[mask > 0]) > 1
