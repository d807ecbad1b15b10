"""A small classifier that has seen drawings only, to judge generated pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from numpy.typing import NDArray
from torch import Tensor, nn

from webui.postcard.canvas import Image
from webui.postcard.edges import read_tensors, seed_initial_weights, tensor_of, write_tensors
from webui.postcard.scenes import Scene, draw_scene, random_scene
from webui.postcard.training import Budget, Rates, Trainer, learning_rate
from webui.postcard.vocabulary import COLOURS, POSES, SETTINGS, THINGS, TIMES

ATTRIBUTES = ("setting", "time", "pose", "shirt", "trousers", "object", "object colour")
_CLASSES = (
    len(SETTINGS),
    len(TIMES),
    len(POSES),
    len(COLOURS),
    len(COLOURS),
    len(THINGS) + 1,
    len(COLOURS),
)
_ABSENT = -1
_SIDE = 96
_RATES = Rates(adam=2e-3, average=0.98)
STEPS = 700


class Judge(nn.Module):
    """Four strided stages and one linear head for every attribute; input N x 3 x 96 x 96."""

    def __init__(self, width: int = 32) -> None:
        """Build an untrained judge."""
        super().__init__()
        widths = (3, width, 2 * width, 3 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.GroupNorm(8, after),
                nn.ReLU(),
                nn.Conv2d(after, after, 3, padding=1),
                nn.GroupNorm(8, after),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(4 * width * 36, count) for count in _CLASSES)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return one N x classes tensor of logits for every attribute."""
        features = F.dropout(self.body(x).flatten(1), 0.2, self.training)
        return [head(features).float() for head in self.heads]


def classes_of(scene: Scene) -> list[int]:
    """Return the scene's class for every attribute, -1 where the scene has none."""
    person, item = scene.person, scene.object
    return [
        SETTINGS.index(scene.setting),
        TIMES.index(scene.time),
        POSES.index(person.pose) if person else _ABSENT,
        COLOURS.index(person.shirt) if person else _ABSENT,
        COLOURS.index(person.trousers) if person else _ABSENT,
        THINGS.index(item.thing) if item else len(THINGS),
        COLOURS.index(item.colour) if item else _ABSENT,
    ]


def judge_input(images: Sequence[Image]) -> Tensor:
    """Return 256 x 256 pictures as the judge reads them, N x 3 x 96 x 96 in -1..1."""
    small = [cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for image in images]
    return tensor_of(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _drawn_batch(random: Random, size: int) -> tuple[Tensor, Tensor]:
    scenes = [random_scene(random) for _ in range(size)]
    x = judge_input([draw_scene(scene).image for scene in scenes])
    return x, torch.tensor([classes_of(scene) for scene in scenes])


def _spoiled(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift, blur and noise drawings a little, so that softer pictures are read as well."""
    down, right = (int(torch.randint(-3, 4, (1,), generator=generator)) for _ in range(2))
    x = torch.roll(x, (down, right), (2, 3))
    if torch.rand(1, generator=generator).item() < 0.5:
        x = F.avg_pool2d(x, 3, 1, 1)
    strength = 0.1 * torch.rand(1, generator=generator).item()
    return x + strength * torch.randn(x.shape, generator=generator)


def train_judge(steps: int = STEPS, seed: int = 21, batch: int = 48) -> Judge:
    """Train a judge on fresh drawings, on the CPU."""
    seed_initial_weights(seed)
    judge = Judge()
    trainer = Trainer(judge, _RATES, torch.device("cpu"))
    budget = Budget(steps)

    def loss_of(part: int) -> Tensor:
        number = (seed + part) * 1_000_003 + budget.step
        x, classes = _drawn_batch(Random(number), batch // trainer.parts)
        generator = torch.Generator().manual_seed(number)
        logits = judge(
            _spoiled(x, generator).bfloat16().contiguous(memory_format=torch.channels_last)
        )
        losses = [
            F.cross_entropy(head, classes[:, index], ignore_index=_ABSENT)
            for index, head in enumerate(logits)
        ]
        return torch.stack(losses).nan_to_num().sum()

    while budget.progress < 1:
        trainer.update(loss_of, learning_rate(budget, flat=0.3))
        budget.step += 1
    trainer.use_averages()
    return judge.float().eval()


def load_or_train_judge(file: Path | None) -> Judge:
    """Return the judge kept in `file` (safetensors); train it, and keep it, when there is none."""
    if file is not None and file.exists():
        judge = Judge()
        judge.load_state_dict(read_tensors(file))
        return judge.eval()
    judge = train_judge()
    if file is not None:
        write_tensors(judge.state_dict(), file)
    return judge


@torch.no_grad()
def verdicts(judge: Judge, images: Sequence[Image], scenes: Sequence[Scene]) -> NDArray[np.float64]:
    """Return N x attributes: 1 right, 0 wrong, NaN where the scene has no such attribute."""
    logits = judge(judge_input(images))
    guesses = torch.stack([head.argmax(-1) for head in logits], 1).numpy()
    wanted = np.array([classes_of(scene) for scene in scenes])
    return np.where(wanted == _ABSENT, np.nan, (guesses == wanted).astype(np.float64))


def judge_accuracy(judge: Judge, count: int = 400, seed: int = 22) -> dict[str, float]:
    """Return the judge's own accuracy on fresh drawings, by attribute."""
    random = Random(seed)
    scenes = [random_scene(random) for _ in range(count)]
    right = verdicts(judge, [draw_scene(scene).image for scene in scenes], scenes)
    means = np.nanmean(right, axis=0)
    return {name: round(float(m), 3) for name, m in zip(ATTRIBUTES, means, strict=True)}
