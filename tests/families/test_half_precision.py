"""In fp16 and bf16, as these models are run: some of their pipelines mix number formats."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.families import kit, tiny, tiny_modern
from tests.families.test_flux import write_flux
from tests.families.test_sd3 import write_sd3
from tests.families.tiny_sdxl import write_sdxl
from webui.errors import BadRequestError
from webui.settings import ROOT


def write_sd1(folder: Path) -> None:
    shutil.copytree(ROOT / "models" / "postcard", folder)


IN_FP16 = (write_sd1, write_sdxl, write_sd3, write_flux)
IN_BF16: tuple[Callable[[Path], None], ...] = (
    tiny_modern.write_flux2_dev,
    partial(tiny_modern.write_z_image, shift=6.0),
    tiny_modern.write_qwen_image,
)


@pytest.mark.parametrize("write", IN_FP16, ids=["sd1", "sdxl", "sd3", "flux"])
def test_in_fp16_pictures_are_made_and_painted_over(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    with kit.bench_of(tmp_path / "exact", write, sampler="Euler") as bench:
        exact = bench.picture()
    with kit.bench_of(tmp_path / "half", write, dtype="float16", sampler="Euler") as bench:
        pipe: Any = bench.loaded.pipe
        assert pipe.vae.config.force_upcast == (write is not write_sd1)
        assert bench.loaded.denoiser.dtype is torch.float16
        assert pipe.vae.dtype is (torch.float16 if write is write_sd1 else torch.float32)
        assert 0 < kit.differ(bench.picture(), exact) < 4
        check_paints_over(bench)


@pytest.mark.parametrize("write", IN_BF16, ids=["flux2", "z-image", "qwen-image"])
def test_in_bf16_pictures_are_made_and_painted_over(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    with kit.bench_of(tmp_path, write, sampler="Euler") as bench:
        exact = bench.picture()
        pipe: Any = bench.loaded.pipe
        # As the engine's own thread does, whose tensors they are.
        with torch.inference_mode():
            pipe.to(torch.bfloat16)
        bench.forget()
        assert 0 < kit.differ(bench.picture(), exact) < 16
        check_paints_over(bench)


def check_paints_over(bench: kit.Bench) -> None:
    plain = kit.gradient()
    mask = np.zeros((kit.SIDE, kit.SIDE), np.uint8)
    mask[16:48, 16:48] = 255
    names = {"init": bench.bring(plain), "mask": bench.bring(mask, "mask")}
    made = bench.picture(**names, mask_blur=0, strength=0.7)
    assert (made[mask == 0] == plain.astype(np.int16)[mask == 0]).all()
    assert kit.differ(made[mask > 0], plain.astype(np.int16)[mask > 0]) > 1


def write_loud_sdxl(folder: Path, *, force_upcast: bool) -> None:
    """One whose VAE computes with numbers that fp16 has not, as the published one's does."""
    write_sdxl(folder)
    with tiny.same_weights():
        vae: Any = tiny.tiny_vae(scaling_factor=0.13025, force_upcast=force_upcast)
    vae.decoder.conv_in.weight.data *= 2e5
    vae.save_pretrained(folder / "vae")


def test_a_vae_whose_numbers_are_too_large_for_fp16_is_computed_in_fp32(tmp_path: Path) -> None:
    loud = partial(write_loud_sdxl, force_upcast=True)
    with kit.bench_of(tmp_path / "exact", loud, sampler="Euler") as bench:
        exact = bench.picture()
    with kit.bench_of(tmp_path / "half", loud, dtype="float16", sampler="Euler") as bench:
        assert kit.differ(bench.picture(), exact) < 4
        sizes = bench.sizes
        assert (sizes.itemsize, sizes.vae_itemsize) == (2, 4)
        assert sizes.vae == sum(one.nbytes for one in bench.loaded.networks["vae"].parameters())
    # That of a model whose VAE was mended is taken at its word.
    mended = partial(write_loud_sdxl, force_upcast=False)
    with (
        kit.bench_of(tmp_path / "mended", mended, dtype="float16", sampler="Euler") as bench,
        pytest.raises(BadRequestError, match="no picture but invalid numbers"),
    ):
        bench.picture()
