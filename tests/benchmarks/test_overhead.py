from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from benchmarks import overhead
from benchmarks.measure import BenchmarkError, Run
from benchmarks.workbench import Workbench
from tests.fakes import gradient


def test_both_models_are_compared_on_pictures_that_are_the_same(bench: Workbench):
    figures = overhead.run(bench)
    for model in ("postcard, 64 px, 2 steps", "tiny, 64 px, 2 steps"):
        mine = [figure for figure in figures if figure.what.startswith(model)]
        compared = mine[0]
        assert "bare pipeline call" in compared.what
        assert compared.asked == overhead.ASKED
        assert isinstance(compared.value, float)
        assert math.isfinite(compared.value)
        assert len(compared.samples["ours"]) == len(compared.samples["plain"]) == 1
        stages = {figure.what.rpartition(" ")[2] for figure in mine if ": stage " in figure.what}
        assert stages >= {"load", "text", "denoise", "decode", "check"}


def test_rounding_is_no_difference_and_another_picture_is_one():
    picture = gradient(64, 64, seed=1)
    pixels = np.asarray(picture).astype(np.int16)
    noise = np.random.default_rng(0).integers(-2, 3, pixels.shape)
    rounded = Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
    overhead.require_same_picture(picture, rounded)
    for other in (gradient(64, 64, seed=3), picture.resize((32, 32))):
        with pytest.raises(BenchmarkError, match="different pictures"):
            overhead.require_same_picture(picture, other)


def test_the_share_of_previews_counts_all_of_them_over_the_denoising():
    def run(*previews: float) -> Run:
        return Run(5, 1, (1, 1), 6, stages={"denoise": 4.0}, previews=previews)

    figure = overhead.preview_share("x", [run(0.1, 0.3), run(0.2), run(0.1, 0.3, 0.8)])
    assert figure.value == pytest.approx(10.0)
    assert figure.met
    assert figure.beside.startswith("2 previews a picture of 0.250 s")
