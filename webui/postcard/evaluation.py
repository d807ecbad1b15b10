"""What the finished model can do, in numbers: adherence, colours, reconstruction, size, time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

from webui.postcard.canvas import Image
from webui.postcard.captions import caption
from webui.postcard.colours import expected_skeleton, measured_clothes
from webui.postcard.judge import ATTRIBUTES, Judge, judge_accuracy, verdicts
from webui.postcard.pipeline import sample
from webui.postcard.scenes import Scene, draw_scene, random_scene
from webui.postcard.vae import measure_vae

FRESH_SEED = 770_001
"""Seed of the evaluation's scenes and prompts; training draws with other seeds."""

REQUIRED = {
    "setting": 0.95,
    "time": 0.95,
    "pose": 0.75,
    "shirt": 0.90,
    "trousers": 0.90,
    "object": 0.70,
}


@dataclass(frozen=True)
class Prompt:
    """A scene to ask for, the words that ask for it, and the seed of the noise."""

    scene: Scene
    text: str
    seed: int


def fresh_prompts(count: int, seed: int = FRESH_SEED) -> list[Prompt]:
    """Return prompts that name all but hair and side, for the noise seeds 0, 1, ..."""
    random = Random(seed)
    prompts: list[Prompt] = []
    for number in range(count):
        scene = random_scene(random)
        prompts.append(Prompt(scene, caption(scene, random, complete=True), number))
    return prompts


def pictures_of(pipeline: StableDiffusionPipeline, prompts: Sequence[Prompt]) -> list[Image]:
    """Return the picture of every prompt at 20 steps and guidance 5."""
    return sample(pipeline, [p.text for p in prompts], [p.seed for p in prompts])


def judged(judge: Judge, prompts: Sequence[Prompt], images: Sequence[Image]) -> dict[str, float]:
    """Return the share the judge finds right, by attribute; "object" where one was asked for."""
    scenes = [prompt.scene for prompt in prompts]
    right = verdicts(judge, images, scenes)
    with_object = np.array([scene.object is not None for scene in scenes])
    column = ATTRIBUTES.index("object")
    shares = {name: float(np.nanmean(right[:, i])) for i, name in enumerate(ATTRIBUTES)}
    shares["object"] = float(right[with_object, column].mean())
    shares["no object where none was asked"] = float(right[~with_object, column].mean())
    return {name: round(share, 3) for name, share in shares.items()}


def measured(prompts: Sequence[Prompt], images: Sequence[Image]) -> dict[str, float]:
    """Return the share of shirts and trousers whose pixels have the colour asked for."""
    shirts: list[bool] = []
    trousers: list[bool] = []
    for prompt, image in zip(prompts, images, strict=True):
        person = prompt.scene.person
        if person is not None:
            found = measured_clothes(image, expected_skeleton(prompt.scene, person))
            shirts.append(found[0] == person.shirt)
            trousers.append(found[1] == person.trousers)
    return {
        "shirt": round(float(np.mean(shirts)), 3),
        "trousers": round(float(np.mean(trousers)), 3),
    }


def seconds_per_picture(pipeline: StableDiffusionPipeline) -> float:
    """Return the median wall time of one picture at 20 steps with guidance, warm."""
    sample(pipeline, ["a person on a beach"], [0])
    times: list[float] = []
    for seed in range(3):
        start = time.perf_counter()
        sample(pipeline, ["a person on a beach"], [seed])
        times.append(time.perf_counter() - start)
    return round(sorted(times)[1], 2)


def size_in_mb(folder: Path) -> float:
    """Return the size of all weights in the folder, in MB (10^6 bytes)."""
    return round(sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 1e6, 2)


def unseen_drawings(count: int, seed: int = FRESH_SEED + 1) -> Image:
    """Return `count` drawings no training draws, count x 256 x 256 x 3."""
    random = Random(seed)
    return np.stack([draw_scene(random_scene(random)).image for _ in range(count)])


@dataclass(frozen=True)
class Figures:
    """Everything measured of one model."""

    prompts: int
    judge: dict[str, float]
    """Shares of the prompts' parts the judge finds right."""
    judge_on_drawings: dict[str, float]
    """The judge's own accuracy on fresh drawings."""
    pixels: dict[str, float]
    """Shares of clothes whose measured pixels have the colour asked for."""
    vae_psnr_db: float
    latent_deviations: list[float]
    weights_mb: float
    seconds_per_picture: float
    threads: int


def evaluate(
    pipeline: StableDiffusionPipeline, judge: Judge, folder: Path, count: int = 200
) -> Figures:
    """Return every figure of the model in `folder`, which `pipeline` was loaded from."""
    prompts = fresh_prompts(count)
    images = pictures_of(pipeline, prompts)
    decibels, deviations = measure_vae(pipeline.vae, unseen_drawings(64))
    return Figures(
        prompts=count,
        judge=judged(judge, prompts, images),
        judge_on_drawings=judge_accuracy(judge),
        pixels=measured(prompts, images),
        vae_psnr_db=round(decibels, 2),
        latent_deviations=deviations,
        weights_mb=size_in_mb(folder),
        seconds_per_picture=seconds_per_picture(pipeline),
        threads=torch.get_num_threads(),
    )


def table(figures: Figures) -> str:
    """Return the adherence figures as a Markdown table beside what is asked for."""
    rows = ["| right in | asked | judge | judge on drawings | pixels |", "|---|---|---|---|---|"]
    for name, required in REQUIRED.items():
        pixels = f"{figures.pixels[name]:.1%}" if name in figures.pixels else ""
        judge, own = figures.judge[name], figures.judge_on_drawings[name]
        rows.append(f"| {name} | >= {required:.0%} | {judge:.1%} | {own:.1%} | {pixels} |")
    return "\n".join(rows)
