"""What the LoRAs and the pose ControlNet do, in numbers: looks by strength, limbs by skeleton."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType

import cv2
import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

from webui.postcard.canvas import Image
from webui.postcard.captions import caption
from webui.postcard.edges import (
    place,
    read_controlnet,
    run_controlled,
    set_loras,
)
from webui.postcard.figure import Skeleton
from webui.postcard.limbs import limb_distances
from webui.postcard.looks import LOOKS, OUTFIT, LookName
from webui.postcard.pipeline import load_pipeline, sample
from webui.postcard.pose_control import free_skeleton, hint_of, without_action
from webui.postcard.scenes import Person, Scene, draw_scene, random_scene
from webui.postcard.vocabulary import COLOURS

STRENGTHS = (0.0, 0.5, 1.0)
SEEDS = 20
POSES = 50
_SEED = 770_041
_READABLE = 0.05
_ALIKE = 18.0
"""Largest distance in CIELAB from a colour that counts as that colour."""
_WITHIN = 0.06
"""Mean distance of hands, feet and head from the skeleton that is asked for."""


@dataclass(frozen=True)
class PoseFigures:
    """How near the limbs are to the skeleton, as shares of the picture's height."""

    poses: int
    mean: float
    by_limb: dict[str, float]
    within: float
    """Share of the limbs that are at most 6 % away."""
    without_control: float
    on_drawings: float
    """What the measuring itself misses on drawings of the same scenes."""


@dataclass(frozen=True)
class PosedPrompt:
    """A scene with a figure in a free pose, the words for it, and the seed of the noise."""

    scene: Scene
    person: Person
    skeleton: Skeleton
    text: str
    seed: int


def fresh_poses(count: int = POSES, seed: int = _SEED) -> list[PosedPrompt]:
    """Return free poses and prompts whose drawing the measuring reads rightly.

    Some limbs cannot be seen even in a drawing, such as a hand on sand of the skin's colour.
    """
    random = Random(seed)
    prompts: list[PosedPrompt] = []
    while len(prompts) < count:
        scene = random_scene(random)
        if scene.person is None:
            continue
        shirt, trousers = random.sample([c for c in COLOURS if c != "black"], 2)
        person = dataclasses.replace(scene.person, pose="standing", shirt=shirt, trousers=trousers)
        scene = dataclasses.replace(scene, person=person)
        skeleton = free_skeleton(random)
        text = without_action(caption(scene, random, complete=True))
        drawing = draw_scene(scene, skeleton=skeleton).image
        if limb_distances(drawing, skeleton, person).max() <= _READABLE:
            prompts.append(PosedPrompt(scene, person, skeleton, text, len(prompts)))
    return prompts


def measure_pose(
    model: Path, controlnet: Path, count: int = POSES
) -> tuple[PoseFigures, list[Image]]:
    """Return the figures of the ControlNet in that folder, and its pictures."""
    device = torch.device("cpu")
    pipeline = load_pipeline(model, device)
    net = place(read_controlnet(controlnet), device, torch.bfloat16, torch.channels_last)
    prompts = fresh_poses(count)
    texts, seeds = [p.text for p in prompts], [p.seed for p in prompts]
    plain = sample(pipeline, texts, seeds)
    steered = [
        run_controlled(pipeline, net, p.text, hint_of(p.skeleton)[None], p.seed) for p in prompts
    ]
    drawings = [draw_scene(p.scene, skeleton=p.skeleton).image for p in prompts]
    with_control, without, drawn = (
        np.stack(
            [
                limb_distances(image, p.skeleton, p.person)
                for image, p in zip(images, prompts, strict=True)
            ]
        )
        for images in (steered, plain, drawings)
    )
    limbs = ("head", "hand", "hand", "foot", "foot")
    return (
        PoseFigures(
            poses=count,
            mean=_rounded(with_control.mean()),
            by_limb={
                limb: _rounded(with_control[:, [n == limb for n in limbs]].mean())
                for limb in dict.fromkeys(limbs)
            },
            within=_rounded((with_control <= _WITHIN).mean()),
            without_control=_rounded(without.mean()),
            on_drawings=_rounded(drawn.mean()),
        ),
        steered,
    )


def _rounded(value: float) -> float:
    return round(float(value), 4)


def magenta(image: Image) -> float:
    """Return how much more red and blue than green there is (the neon's axis), -255..255."""
    red, green, blue = image.reshape(-1, 3).mean(0)
    return float((red + blue) / 2 - green)


def white_edges(image: Image) -> float:
    """Return how much thin light lines stand out of what is around them, 0..255."""
    light = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))
    return float(cv2.morphologyEx(light, cv2.MORPH_TOPHAT, disk).mean())


def outfit(image: Image) -> float:
    """Return the share of pixels, in percent, that have one of Marlo's colours.

    Hat and scarf, shirt and trousers; sand, snow and sunsets have them too, and keep them.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    worn = cv2.cvtColor(np.array([OUTFIT], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    nearest = np.stack([np.linalg.norm(lab - colour, axis=-1) for colour in worn]).min(axis=0)
    return float((nearest < _ALIKE).mean() * 100)


STATISTICS: Mapping[LookName, Callable[[Image], float]] = MappingProxyType(
    {"neon": magenta, "papercut": white_edges, "marlo": outfit}
)


@dataclass(frozen=True)
class LookFigures:
    """A look's statistic by strength, the mean over the seeds."""

    strengths: tuple[float, ...]
    means: tuple[float, ...]
    monotone: float
    """Share of the seeds at which it grows with every strength."""


def look_prompts(look: LookName, count: int = SEEDS) -> list[str]:
    """Return prompts that ask for the look by its trigger words, for the noise seeds 0, 1, ..."""
    random = Random(_SEED + 1)
    prompts: list[str] = []
    while len(prompts) < count:
        scene = random_scene(random)
        if scene.person is not None:
            prompts.append(LOOKS[look].prompt(scene, random))
    return prompts


def measure_look(
    pipeline: StableDiffusionPipeline, look: LookName, file: Path, count: int = SEEDS
) -> tuple[LookFigures, list[Image]]:
    """Return the look's figures, and the pictures of all strengths, one row each."""
    texts, seeds = look_prompts(look, count), list(range(count))
    rows: list[list[Image]] = []
    for strength in STRENGTHS:
        set_loras(pipeline, {look: (file, strength)})
        rows.append(sample(pipeline, texts, seeds))
    set_loras(pipeline, {})
    values = np.array([[STATISTICS[look](image) for image in row] for row in rows])
    grows = (np.diff(values, axis=0) > 0).all(axis=0)
    return (
        LookFigures(
            strengths=STRENGTHS,
            means=tuple(round(float(mean), 2) for mean in values.mean(axis=1)),
            monotone=round(float(grows.mean()), 3),
        ),
        [image for row in rows for image in row[:6]],
    )


def measure_pair(
    pipeline: StableDiffusionPipeline, files: Mapping[LookName, Path], count: int = SEEDS
) -> dict[str, tuple[float, float]]:
    """Return each look's statistic without any and with all of them at once, at strength 1."""
    looks: Sequence[LookName] = list(files)
    texts, seeds = look_prompts(looks[0], count), list(range(count))
    texts = [", ".join((text, *(LOOKS[look].trigger for look in looks[1:]))) for text in texts]
    set_loras(pipeline, {})
    plain = sample(pipeline, texts, seeds)
    set_loras(pipeline, {look: (file, 1.0) for look, file in files.items()})
    stacked = sample(pipeline, texts, seeds)
    set_loras(pipeline, {})
    return {
        look: (
            round(float(np.mean([STATISTICS[look](image) for image in plain])), 2),
            round(float(np.mean([STATISTICS[look](image) for image in stacked])), 2),
        )
        for look in looks
    }
