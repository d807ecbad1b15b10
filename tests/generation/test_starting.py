"""What keeps a masked picture as it is, on numbers; and a model made for inpainting, whole."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.fakes import gradient
from tests.generation.test_samplers import MODEL
from tests.guards import use_guard
from tests.test_engine import SESSION, Scripted, saved, silent
from tests.test_starting_pictures import Desk, disc
from webui.cli.building import build_engine
from webui.generation.schedulers import make_scheduler
from webui.generation.starting import Keeper, Start, first_latents
from webui.generation.strength import noise_level
from webui.generator import Cancel
from webui.library.uploads import Uploads
from webui.request import SAMPLERS, GenerationRequest, SamplerName
from webui.settings import ROOT, Settings

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

STEPS = 10
files: Any = importlib.import_module("safetensors.torch")


def scheduler_of(name: SamplerName, skipped: int = 0) -> Any:
    config = MODEL | {"prediction_type": "epsilon"}
    scheduler: Any = make_scheduler(config, name, "normal", skipped=skipped)
    scheduler.set_timesteps(STEPS)
    return scheduler


def grid(*values: float) -> torch.Tensor:
    """A mask of one row."""
    return torch.tensor(values).reshape(1, 1, 1, -1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_the_mask_keeps_ends_as_it_began(name: SamplerName) -> None:
    scheduler = scheduler_of(name, skipped=3)
    latents, noise = torch.randn(1, 4, 1, 3), torch.randn(2, 4, 1, 3)
    keeper = Keeper(Start(latents, grid(0, 1, 0)), noise, scheduler)
    x = torch.full((2, 4, 1, 3), 9.0)
    calls = len(scheduler.timesteps)
    for call in range(calls):
        x = keeper.after(call, torch.full((2, 4, 1, 3), 9.0))
    assert (x[..., 1] == 9).all()
    assert torch.equal(x[..., [0, 2]], latents[..., [0, 2]].expand(2, -1, -1, -1))


@pytest.mark.parametrize("name", ["Euler", "DPM++ 2M", "DDPM"])
def test_on_the_way_it_carries_the_noise_of_the_step(name: SamplerName) -> None:
    scheduler = scheduler_of(name)
    latents, noise = torch.zeros(1, 4, 32, 32), torch.randn(1, 4, 32, 32)
    keeper = Keeper(Start(latents, torch.zeros(1, 1, 32, 32)), noise, scheduler)
    kept = keeper.after(0, torch.zeros_like(noise))
    level = noise_level(scheduler, 1)
    shrink = 1.0 if name == "Euler" else (1 + level**2) ** 0.5
    torch.testing.assert_close(kept, level * noise / shrink)


def test_a_grey_pixel_is_free_for_its_share_of_the_steps() -> None:
    scheduler = scheduler_of("Euler")
    mask = grid(0.0, 0.25, 0.5, 1.0)
    zero = torch.zeros(1, 1, 1, 4)
    keeper = Keeper(Start(zero, mask), zero, scheduler)
    free = np.array(
        [(keeper.after(call, zero + 9) == 9).numpy().reshape(4) for call in range(STEPS)]
    )
    assert free.sum(axis=0).tolist() == [0, 3, 5, 10]
    assert (free[:-1] <= free[1:]).all(), "once free, it stays free"


def test_without_a_picture_or_a_mask_nothing_is_put_back() -> None:
    x = torch.randn(1, 4, 2, 2)
    for start in (Start(), Start(latents=torch.zeros(1, 4, 2, 2))):
        assert Keeper(start, x, scheduler_of("Euler")).after(0, x) is x


def test_noise_in_place_of_the_picture_lies_under_the_mask_alone() -> None:
    scheduler = scheduler_of("Euler", skipped=5)
    latents, noise = torch.zeros(1, 4, 1, 64), torch.zeros(2, 4, 1, 64)
    mask = torch.cat([torch.zeros(1, 1, 1, 32), torch.ones(1, 1, 1, 32)], dim=3)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    start = Start(latents, mask, noise_under_mask=True)
    first = first_latents(start, noise, scheduler, generators)
    assert (first[..., :32] == 0).all()
    assert first[..., 32:].std() == pytest.approx(1, abs=0.2)
    assert not torch.equal(first[0], first[1])
    with pytest.raises(ValueError, match="starts from a picture"):
        first_latents(Start(), noise, scheduler, generators)


def write_inpainting_model(model: Path) -> None:
    """The embedded model with a denoiser of 9 channels, whose further ones it barely hears."""
    shutil.copytree(ROOT / "models" / "postcard", model)
    config = json.loads((model / "unet" / "config.json").read_text())
    (model / "unet" / "config.json").write_text(json.dumps(config | {"in_channels": 9}))
    index = json.loads((model / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionInpaintPipeline"
    (model / "model_index.json").write_text(json.dumps(index))
    (weights,) = (model / "unet").glob("*.safetensors")
    tensors: dict[str, torch.Tensor] = files.load_file(weights)
    heard = tensors["conv_in.weight"]
    more = torch.randn((heard.shape[0], 5, 3, 3), generator=torch.Generator().manual_seed(0)) * 0.02
    tensors["conv_in.weight"] = torch.cat([heard, more.to(heard)], dim=1)
    files.save_file(tensors, weights)


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("nine")
    write_inpainting_model(folder / "models" / "painter")
    settings = Settings(
        models=folder / "models", outputs=folder / "outputs", state=folder / "state"
    )
    engine = build_engine(settings, silent)
    with pytest.MonkeyPatch.context() as patch:
        use_guard(engine, patch, Scripted())
        yield Desk(engine, Uploads(settings.state / "uploads"))
    engine.close()


class Heard:
    """What the denoiser of an engine is given, call by call."""

    def __init__(self, desk: Desk) -> None:
        # Loaded by the first request.
        assert saved(desk.run(model="painter", steps=1))
        engine: Any = desk.engine
        self.pipe: Any = engine._painter._pipelines.loaded.pipe
        self.inputs: list[torch.Tensor] = []
        self._handle = self.pipe.unet.conv_in.register_forward_pre_hook(self._note)

    def _note(self, module: torch.nn.Module, given: tuple[torch.Tensor]) -> None:
        self.inputs.append(given[0].float().clone())

    def end(self) -> None:
        self._handle.remove()


@pytest.fixture
def heard(nine: Desk) -> Iterator[Heard]:
    heard = Heard(nine)
    yield heard
    heard.end()


def test_a_model_of_9_channels_sees_the_mask_and_the_picture_without_it(
    nine: Desk, heard: Heard
) -> None:
    init = gradient(256, 256, 3)
    mask = disc(256, 256, 64, 64, 192, 192)
    asked = {"init": nine.bring(init), "mask": nine.bring(mask, "mask"), "model": "painter"}
    (made,) = saved(nine.run(prompt="a beach by day", seed=8, steps=3, **asked))
    assert {given.shape for given in heard.inputs} == {(2, 9, 32, 32)}
    seen = heard.inputs[0]
    cells = mask.reshape(32, 8, 32, 8).max(axis=(1, 3)) > 127
    assert ((seen[:, 4] > 0.5).numpy() == cells).all()
    grey = np.where(mask[..., None] > 127, 127, np.asarray(init)).astype(np.float32) / 127.5 - 1
    planes = torch.as_tensor(grey).permute(2, 0, 1)[None].to(heard.pipe.vae.dtype)
    with torch.inference_mode():
        latents = heard.pipe.vae.encode(planes).latent_dist.mode().float()
    assert (seen[:1, 5:] - latents).abs().mean() < 0.02 * latents.abs().mean()
    after = np.asarray(Image.open(Path(made.path)).convert("RGB"))
    assert (after[:40] == np.asarray(init)[:40]).all()
    assert (after[100:150, 100:150] != np.asarray(init)[100:150, 100:150]).any()


def test_a_model_of_9_channels_makes_pictures_from_text_alone(nine: Desk, heard: Heard) -> None:
    assert saved(nine.run(prompt="a beach by day", seed=9, steps=2, model="painter"))
    assert {given.shape for given in heard.inputs} == {(2, 9, 32, 32)}
    assert (heard.inputs[0][:, 4] == 1).all()


class StoppedSoon(Cancel):
    """Stops a job in mid-run."""

    asked = 0

    def is_set(self) -> bool:
        self.asked += 1
        return self.asked > 2


def test_the_shared_denoiser_is_left_as_it_was(nine: Desk, heard: Heard) -> None:
    request = GenerationRequest(model="painter", init=nine.bring(gradient(256, 256, 1)), steps=4)
    events = list(nine.engine.generate(request, SESSION, StoppedSoon()))
    assert events[-1].event == "cancelled"
    assert not heard.pipe.unet._forward_pre_hooks
    assert not heard.pipe.unet._forward_hooks
