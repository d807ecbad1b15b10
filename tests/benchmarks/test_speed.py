from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.speed import psnr, ssim
from benchmarks.token_merging import matching


def test_likeness_falls_with_the_noise() -> None:
    generator = np.random.default_rng(1)
    plain = np.tile(np.linspace(0, 255, 32), (32, 1))[..., None].repeat(3, -1)
    assert (psnr(plain, plain), ssim(plain, plain)) == (99.0, pytest.approx(1))
    little, much = (plain + generator.normal(0, spread, plain.shape) for spread in (2.0, 20.0))
    assert psnr(plain, plain + 2) == pytest.approx(42.11, abs=0.01)
    assert psnr(plain, little) > psnr(plain, much)
    assert 1 > ssim(plain, little) > ssim(plain, much) > 0


def test_merging_joins_what_is_alike_and_gives_every_token_an_answer() -> None:
    tokens = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(1))
    join, part = matching(tokens, 4, 0)
    assert torch.equal(part(join(tokens)), tokens)
    # Every square of four holds one token four times, so that merging loses nothing.
    squares = tokens[:, :4].view(2, 2, 1, 2, 1, 8).expand(2, 2, 2, 2, 2, 8).reshape(2, 16, 8)
    join, part = matching(squares, 4, 12)
    assert join(squares).shape == (2, 4, 8)
    assert torch.allclose(part(join(squares)), squares, atol=1e-6)
