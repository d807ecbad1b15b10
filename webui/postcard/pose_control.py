"""The pose ControlNet: a copy of the UNet's encoder that has learnt to read drawn skeletons.

It learns from figures in the model's own poses and in free ones the model has never drawn, so that
any skeleton a person can take is followed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor

from webui.generation.poses import draw_pose
from webui.poses import Pose
from webui.postcard.canvas import SIZE
from webui.postcard.captions import caption
from webui.postcard.edges import (
    new_controlnet,
    place,
    predict_controlled,
    read_pipeline,
    save_model,
    seed_initial_weights,
    tensor_of,
)
from webui.postcard.figure import Posture, Skeleton, posture_skeleton
from webui.postcard.latents import (
    CAPTIONS_PER_SCENE,
    Sample,
    TrainingSet,
    make_training_set,
    subject_weights,
)
from webui.postcard.record import record_steering
from webui.postcard.scenes import Person, draw_scene, random_scene
from webui.postcard.training import Budget, Rates, Trainer, fit, step_generator
from webui.postcard.unet import new_scheduler, random_batch

CHANNELS = (8, 16, 32, 48)
"""Of the layers that bring a hint to the latents' size."""
RATES = Rates(adam=1e-3, average=0.995)
BATCH = 8
SCENES = 3_200
STEPS = 4_000
FREE = 0.85
"""Share of the figures in free poses."""
_DROPPED = 0.25
_SKEW = 1.3
_WRISTS, _ANKLES = (4, 7), (10, 13)
_WRIST_WEIGHT, _ANKLE_WEIGHT, _REACH = 6.0, 3.0, 10.0
_SEED = 41
_MARGIN = 9.0


@dataclass(frozen=True)
class PoseTraining:
    """What a training works on and how much it may take."""

    model: Path
    work: Path
    out: Path
    minutes: float | None
    steps: int = STEPS
    scenes: int = SCENES
    threads: int = 1


def train_pose(training: PoseTraining) -> None:
    """Train from the checkpoint, if there is one, and write the ControlNet to `out`."""
    device = torch.device("cpu")
    torch.set_num_threads(training.threads)
    torch.set_flush_denormal(True)
    training.work.mkdir(parents=True, exist_ok=True)
    pipeline = read_pipeline(training.model)
    data_file = training.work / "pose.set.safetensors"
    if not data_file.exists():
        make_training_set(
            pipeline.vae,
            pipeline.text_encoder,
            pipeline.tokenizer,
            scenes=training.scenes,
            seed=_SEED,
            drawn=posed_sample,
            threads=training.threads,
        ).save(data_file)
    unet = place(pipeline.unet, device, torch.float32)
    seed_initial_weights(_SEED)
    controlnet = new_controlnet(unet, CHANNELS)
    place(unet.requires_grad_(False), device, torch.bfloat16, torch.channels_last)
    budget = Budget(training.steps, training.minutes)
    checkpoint = training.work / "pose.safetensors"
    data = TrainingSet.load(data_file)
    weights = learn(unet, controlnet, data, budget, checkpoint, threads=training.threads)
    place(controlnet, device, torch.float32).load_state_dict(weights)
    save_model(place(controlnet, device, torch.float16), training.out)
    (training.out / "facts.json").write_text('{"kind": "pose"}\n', "utf-8")
    record_steering(
        training.out,
        {
            "steps": budget.step,
            "seconds": round(budget.seconds),
            "scenes": training.scenes,
            "seed": _SEED,
        },
    )


def learn(
    unet: UNet2DConditionModel,
    controlnet: ControlNetModel,
    data: TrainingSet,
    budget: Budget,
    checkpoint: Path,
    *,
    batch: int = BATCH,
    threads: int = 1,
) -> dict[str, Tensor]:
    """Train the ControlNet beside the frozen UNet; return its averaged weights in fp32."""
    for model in (unet, controlnet):
        model.set_attn_processor(AttnProcessor())
    trainer = Trainer(controlnet, RATES, torch.device("cpu"), threads)
    alphas = new_scheduler().alphas_cumprod

    def loss_of(part: int) -> Tensor:
        generator = step_generator(_SEED * 2 + part, budget.step)
        size = batch // trainer.parts
        given = random_batch(data, generator, alphas, size, dropped=_DROPPED, skew=_SKEW)
        hints = torch.stack([hint_of(points.numpy()) for points in data.skeletons[given.scenes]])
        return given.loss(
            predict_controlled(
                unet, controlnet, given.noisy, given.timesteps, given.captions, hints
            )
        )

    return fit(trainer, budget, checkpoint, loss_of, name="pose", flat=0.4)


def hint_of(skeleton: Skeleton) -> Tensor:
    """Return the drawn skeleton as a ControlNet takes it, 3 x 256 x 256 in 0..1."""
    drawn: NDArray[np.uint8] = np.array(draw_pose(pose_of(skeleton), SIZE, SIZE))
    return tensor_of(drawn).permute(2, 0, 1).float() / 255


def pose_of(skeleton: Skeleton) -> Pose:
    """Return a skeleton as the pose a request holds, every joint to be seen."""
    person = tuple((x, y, True) for x, y in skeleton.tolist())
    return Pose(width=SIZE, height=SIZE, people=(person,))


def posed_sample(random: Random) -> Sample:
    """Return a figure drawn by lot; in a free pose its captions do not speak of what it does."""
    scene = random_scene(random)
    while scene.person is None:
        scene = random_scene(random)
    skeleton = None
    if random.random() < FREE:
        scene = dataclasses.replace(scene, person=_standing(scene.person))
        skeleton = free_skeleton(random)
    drawing = draw_scene(scene, skeleton=skeleton)
    texts = [caption(scene, random) for _ in range(CAPTIONS_PER_SCENE)]
    if skeleton is not None:
        texts = [without_action(text) for text in texts]
    assert drawing.skeleton is not None
    weights = subject_weights(scene, drawing.image) + limb_weights(drawing.skeleton)
    return Sample(drawing.image, weights, tuple(texts), drawing.skeleton)


def limb_weights(skeleton: Skeleton) -> NDArray[np.float32]:
    """Return 32 x 32 loss weights on hands and feet, which are hardly larger than a latent pixel.

    Without them a hand is lost in the sleeve: what it adds to the error is little.
    """
    centres = (np.arange(32, dtype=np.float32) + 0.5) * (SIZE / 32)
    weights = np.zeros((32, 32), np.float32)
    for joints, weight in ((_WRISTS, _WRIST_WEIGHT), (_ANKLES, _ANKLE_WEIGHT)):
        for x, y in skeleton[list(joints)]:
            away = (centres[None] - x) ** 2 + (centres[:, None] - y) ** 2
            weights += weight * np.exp(-away / (2 * _REACH**2), dtype=np.float32)
    return weights


def _standing(person: Person) -> Person:
    return dataclasses.replace(person, pose="standing")


def without_action(text: str) -> str:
    """Return the caption of a standing person without the word for it."""
    for words in ("standing still", "standing upright", "standing"):
        text = text.replace(f" {words}", "")
    return text


def free_skeleton(random: Random) -> Skeleton:
    """Return a skeleton by lot with both hands and feet apart from the head and in the picture."""
    while True:
        skeleton = posture_skeleton(
            free_posture(random), random.uniform(92, 164), size=random.uniform(0.86, 1.04)
        )
        hands_and_feet = skeleton[[4, 7, 10, 13]]
        inside = (hands_and_feet > _MARGIN).all() and (hands_and_feet < SIZE - _MARGIN).all()
        if inside and np.linalg.norm(skeleton[[4, 7]] - skeleton[0], axis=1).min() > 34:
            return skeleton


def free_posture(random: Random) -> Posture:
    """Return limb angles by lot, each joint within what a person can bend."""
    right, left = random.uniform(-165, 15), random.uniform(-15, 165)
    right_leg, left_leg = random.uniform(-70, 12), random.uniform(-12, 70)
    return Posture(
        arms=(
            right,
            right + random.uniform(-70, 100),
            left,
            left + random.uniform(-100, 70),
        ),
        legs=(
            right_leg,
            right_leg + random.uniform(-40, 60),
            left_leg,
            left_leg + random.uniform(-60, 40),
        ),
        lean=random.uniform(-14, 14),
        lift=random.choice((0.0, 0.0, random.uniform(0, 30))),
    )
