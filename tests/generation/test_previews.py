from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from PIL import Image

from webui.generation import previews
from webui.generation.latent_maps import LatentMap
from webui.generation.previews import PreviewPace, predicted_original, to_jpeg, to_rgb

BETAS = {"beta_start": 0.00085, "beta_end": 0.02, "beta_schedule": "scaled_linear"}


def test_the_map_is_linear_and_clamped():
    latents = torch.tensor([[0.5, 2.0], [0.0, 0.0]]).T.reshape(1, 2, 1, 2).flip(3)
    rgb = to_rgb(latents, LatentMap(((1, 0, 0), (0, 1, 0)), (0, 0, -1)))
    assert rgb.shape == (1, 2, 3)
    assert rgb[..., 2].tolist() == [[0, 0]]
    assert rgb[..., 0].max() <= 255


def test_a_jpeg_is_small_and_keeps_the_colour():
    rgb = np.full((32, 16, 3), (200, 40, 40), np.uint8)
    picture = Image.open(io.BytesIO(to_jpeg(rgb)))
    assert picture.size == (128, 256)
    assert np.abs(np.asarray(picture).mean((0, 1)) - (200, 40, 40)).max() < 4


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, EulerDiscreteScheduler])
def test_the_finished_latents_are_recovered_from_a_perfect_answer(
    prediction: str, scheduler_class: type
):
    scheduler = scheduler_class(prediction_type=prediction, **BETAS)
    scheduler.set_timesteps(10)
    picture, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timestep = 500
    kept = scheduler.alphas_cumprod[timestep]
    sample = kept.sqrt() * picture + (1 - kept).sqrt() * noise
    answer = noise if prediction == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * picture
    if scheduler_class is EulerDiscreteScheduler:
        sample = sample / kept.sqrt()
    found = predicted_original(sample, answer, timestep, scheduler)
    assert torch.allclose(found, picture, atol=1e-4)


def test_a_costly_preview_makes_the_next_one_wait(monkeypatch: pytest.MonkeyPatch):
    now = 0.0
    monkeypatch.setattr(previews.time, "perf_counter", lambda: now)
    pace = PreviewPace()
    pace.spent(0.01)
    now = 0.4
    assert not pace.due()
    now = 0.6
    assert pace.due()
    pace.spent(0.4)
    now = 4.0
    assert not pace.due()
    now = 6.0
    assert pace.due()
