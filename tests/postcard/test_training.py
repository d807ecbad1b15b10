"""Training: every part learns in a few steps, and goes on exactly where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from webui.postcard.captions import UNCONDITIONAL
from webui.postcard.edges import seed_initial_weights
from webui.postcard.evaluation import unseen_drawings
from webui.postcard.judge import judge_accuracy, train_judge
from webui.postcard.latents import CAPTIONS_PER_SCENE, TrainingSet, fold_normalisation
from webui.postcard.recipe import Training, train
from webui.postcard.text_encoder import (
    WIDTH,
    AttributeReader,
    attribute_loss,
    captioned_batch,
    new_text_encoder,
    train_text_encoder,
)
from webui.postcard.tokenizer import make_tokenizer
from webui.postcard.training import Budget, Rates, Trainer, fit, learning_rate, step_generator
from webui.postcard.unet import new_scheduler, new_unet, train_unet, unet_loss
from webui.postcard.vae import Stage, measure_vae, new_vae, train_vae

_CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    """Return a freshly made vocabulary."""
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def _small_set() -> TrainingSet:
    generator = torch.Generator().manual_seed(0)
    count = 8
    rows = count * CAPTIONS_PER_SCENE + len(UNCONDITIONAL)
    return TrainingSet(
        latents=torch.randn(count, 4, 8, 8, generator=generator).half(),
        weights=torch.ones(count, 8, 8).half(),
        captions=torch.randn(rows, 77, WIDTH, generator=generator).bfloat16(),
        skeletons=torch.full((count, 18, 2), torch.nan),
    )


class _Line(nn.Module):
    """A network small enough to train in no time, with weights for both optimisers."""

    def __init__(self) -> None:
        super().__init__()
        seed_initial_weights(5)
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def _fit_line(checkpoint: Path, steps: int, *, stop: int | None = None) -> dict[str, Tensor]:
    line = _Line()
    trainer = Trainer(line, Rates(adam=1e-2, muon=1e-2, average=0.9), _CPU)
    budget = Budget(steps)

    def loss_of(part: int) -> Tensor:
        if budget.step == stop:
            # The parts of a batch are computed side by side; one of them is stopped first.
            if part == 0:
                trainer.save(checkpoint, budget)
            raise KeyboardInterrupt
        x = torch.randn(16, 6, generator=step_generator(part, budget.step))
        return (line(x.bfloat16()).float() - x.flip(1)).square().mean()

    return fit(trainer, budget, checkpoint, loss_of, name="line", flat=0.5)


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = _fit_line(tmp_path / "whole.safetensors", 12)
    with pytest.raises(KeyboardInterrupt):
        _fit_line(tmp_path / "halves.safetensors", 12, stop=7)
    resumed = _fit_line(tmp_path / "halves.safetensors", 12)
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name])


def _train_part(part: str, tokenizer: CLIPTokenizer, checkpoint: Path) -> dict[str, Tensor]:
    seed_initial_weights(0)
    match part:
        case "vae":
            stages = (Stage(1.0, 64, 2),)
            return train_vae(new_vae(), Budget(4), checkpoint, device=_CPU, stages=stages)
        case "text encoder":
            reader = AttributeReader(new_text_encoder(tokenizer))
            return train_text_encoder(
                reader, tokenizer, Budget(4), checkpoint, device=_CPU, batch=4
            )
        case _:
            return train_unet(new_unet(), _small_set(), Budget(4), checkpoint, device=_CPU, batch=2)


@pytest.mark.parametrize("part", ["vae", "text encoder", "unet"])
def test_every_part_resumes_exactly(
    part: str, tokenizer: CLIPTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _train_part(part, tokenizer, tmp_path / "whole.safetensors")
    update = Trainer.update

    def stop_after_two(trainer: Trainer, loss_of: Callable[[int], Tensor], factor: float) -> float:
        if trainer.updates == 2:
            raise KeyboardInterrupt
        return update(trainer, loss_of, factor)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(Trainer, "update", stop_after_two)
        interrupted.setattr("webui.postcard.training.CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            _train_part(part, tokenizer, tmp_path / "halves.safetensors")
    resumed = _train_part(part, tokenizer, tmp_path / "halves.safetensors")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_the_rate_warms_up_stays_and_falls() -> None:
    assert learning_rate(Budget(1000, step=0), 0.4) < 0.05
    assert learning_rate(Budget(1000, step=300), 0.4) == 1.0
    assert learning_rate(Budget(1000, step=990), 0.4) < 0.02


def test_minutes_bound_a_training_whatever_its_steps() -> None:
    assert Budget(10, minutes=2, step=500, seconds=60).progress == pytest.approx(0.5)


def test_the_autoencoder_carries_colours_untrained_and_gets_better(tmp_path: Path) -> None:
    drawings = unseen_drawings(4)
    seed_initial_weights(0)
    vae = new_vae()
    before, deviations = measure_vae(vae, drawings)
    assert before > 15
    assert min(deviations) > 0.1
    stages = (Stage(1.0, 64, 8),)
    train_vae(vae, Budget(40), tmp_path / "vae.safetensors", device=_CPU, stages=stages)
    after, _ = measure_vae(vae, drawings)
    assert after > before + 1


def test_normalisation_is_folded_without_changing_pictures() -> None:
    drawings = unseen_drawings(4)
    seed_initial_weights(0)
    vae = new_vae()
    before, _ = measure_vae(vae, drawings)
    fold_normalisation(vae, count=16)
    after, deviations = measure_vae(vae, drawings)
    assert after == pytest.approx(before, abs=0.05)
    assert all(0.5 < deviation < 2 for deviation in deviations)


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains at full rates nearly at once, so that something is learnt in a third of the steps."""
    monkeypatch.setattr("webui.postcard.training._WARM_UP", 3)


@pytest.mark.usefixtures("warm")
def test_the_text_encoder_learns_to_read(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    seed_initial_weights(0)
    reader = AttributeReader(new_text_encoder(tokenizer))
    numbers, classes = captioned_batch(tokenizer, Random(9), 32)
    with torch.no_grad():
        before = float(attribute_loss(reader(numbers), classes))
    checkpoint = tmp_path / "text.safetensors"
    train_text_encoder(reader, tokenizer, Budget(10), checkpoint, device=_CPU, batch=8)
    with torch.no_grad():
        after = float(attribute_loss(reader(numbers), classes))
    assert after < before * 0.95


@pytest.mark.usefixtures("warm")
def test_the_unet_learns_its_training_set(tmp_path: Path) -> None:
    data = _small_set()
    seed_initial_weights(0)
    unet = new_unet()
    alphas = new_scheduler().alphas_cumprod

    def loss() -> float:
        with torch.no_grad():
            return float(unet_loss(unet, data, step_generator(1, 0), alphas, 32))

    before = loss()
    train_unet(unet, data, Budget(12), tmp_path / "unet.safetensors", device=_CPU, batch=8)
    assert loss() < before * 0.9


def test_the_judge_learns_from_drawings() -> None:
    accuracy = judge_accuracy(train_judge(steps=40, batch=16), count=60)
    assert accuracy["time"] > 0.5


def test_the_recipe_runs_from_nothing_to_a_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    training = Training(tmp_path / "work", out, _CPU, scenes=16, shortening=0.0005)
    train(training)
    for name in ("model_index.json", "preview.json", "unet/diffusion_pytorch_model.safetensors"):
        assert (out / name).exists()
    finished = sorted((tmp_path / "work").glob("*.done.safetensors"))
    assert len(finished) == 3
    times = [file.stat().st_mtime_ns for file in finished]
    # What is made of the parts is made again each time, which takes a while.
    monkeypatch.setattr("webui.postcard.recipe.assemble", Mock())
    train(training)
    assert [file.stat().st_mtime_ns for file in finished] == times
