"""LoRAs and pose ControlNet: what they learn from, that they learn, and how they are measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from webui.library.headers import read_header
from webui.postcard import lora, pose_control
from webui.postcard.canvas import SIZE
from webui.postcard.captions import UNCONDITIONAL
from webui.postcard.edges import (
    add_lora,
    new_controlnet,
    predict_controlled,
    seed_initial_weights,
    tensor_bytes,
    write_tensors,
)
from webui.postcard.figure import Posture, pose_skeleton, posture_skeleton
from webui.postcard.latents import CAPTIONS_PER_SCENE, TrainingSet, plain_sample
from webui.postcard.limbs import limb_distances
from webui.postcard.looks import LOOKS, NEON, LookName
from webui.postcard.scenes import Person, Scene, draw_scene
from webui.postcard.steering import STATISTICS, fresh_poses
from webui.postcard.text_encoder import WIDTH
from webui.postcard.training import Budget, step_generator
from webui.postcard.unet import new_scheduler, new_unet, random_batch
from webui.postcard.vocabulary import POSES


def small_set() -> TrainingSet:
    generator = torch.Generator().manual_seed(0)
    count = 4
    rows = count * CAPTIONS_PER_SCENE + len(UNCONDITIONAL)
    skeletons = [pose_skeleton(pose, 128, Random(3)) for pose in POSES[:count]]
    return TrainingSet(
        latents=torch.randn(count, 4, 32, 32, generator=generator).half(),
        weights=torch.ones(count, 32, 32).half(),
        captions=torch.randn(rows, 77, WIDTH, generator=generator).bfloat16(),
        skeletons=torch.tensor(np.stack(skeletons)),
    )


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_a_look_is_seen_in_its_statistic_and_named_in_its_captions(look: LookName) -> None:
    measure = STATISTICS[look]
    plain, styled = (
        [draw(Random(n)) for n in range(8)] for draw in (plain_sample, LOOKS[look].sample)
    )
    values = [[measure(sample.image) for sample in samples] for samples in (plain, styled)]
    assert all(before < after for before, after in zip(*values, strict=True))
    assert np.mean(values[1]) > np.mean(values[0]) + 2
    for sample in styled:
        assert len(sample.captions) == CAPTIONS_PER_SCENE
        assert all(LOOKS[look].trigger in text for text in sample.captions)


def test_the_neon_palette_keeps_what_is_lighter_lighter() -> None:
    sums = [0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in NEON]
    assert sums == sorted(sums)


def test_narrowed_matrices_are_the_nearest_of_that_rank() -> None:
    generator = torch.Generator().manual_seed(1)
    down = torch.randn(8, 6, 3, 3, generator=generator)
    up = torch.randn(10, 8, 1, 1, generator=generator)
    narrow_down, narrow_up = lora.narrowed(down, up, 5)
    assert (narrow_down.shape, narrow_up.shape) == ((5, 6, 3, 3), (10, 5, 1, 1))
    whole = (up.flatten(1) @ down.flatten(1)).numpy()
    kept = (narrow_up.flatten(1) @ narrow_down.flatten(1)).numpy()
    sizes = np.linalg.svd(whole, compute_uv=False)
    assert np.linalg.norm(whole - kept) == pytest.approx(np.linalg.norm(sizes[5:]), rel=1e-4)


def trained(tmp_path: Path, steps: int) -> tuple[UNet2DConditionModel, dict[str, Tensor]]:
    seed_initial_weights(0)
    unet = new_unet()
    add_lora(unet, lora.RANK, lora.LAYERS)
    checkpoint = tmp_path / "lora.safetensors"
    return unet, lora.learn(unet, small_set(), Budget(steps), checkpoint, batch=2)


def test_a_lora_learns_beside_frozen_weights(tmp_path: Path) -> None:
    seed_initial_weights(0)
    before = {name: value.clone() for name, value in new_unet().state_dict().items()}
    unet, weights = trained(tmp_path, 3)
    assert all(".lora_" in name for name in weights)
    assert any(value.abs().max() > 0 for name, value in weights.items() if "lora_B" in name)
    for name, value in unet.state_dict().items():
        if ".lora_" not in name:
            kept = before[name.replace(".base_layer", "")]
            assert torch.equal(value.float(), kept.bfloat16().float())


def test_a_lora_file_says_what_it_is(tmp_path: Path) -> None:
    _, weights = trained(tmp_path, 2)
    tensors = lora.kohya_names(weights)
    training = lora.LoraTraining("neon", Path("models/postcard"), tmp_path, tmp_path, None)
    file = lora.lora_file(tmp_path, "neon")
    write_tensors(tensors, file, lora.metadata(tensors, training, Budget(2, step=2)))
    header = read_header(file)
    data = file.read_bytes()[header.data_start :]
    assert data == tensor_bytes(tensors)
    assert header.metadata["sshs_model_hash"] == hashlib.sha256(data).hexdigest()
    assert header.metadata["modelspec.trigger_phrase"] == "neon night style"
    assert json.loads(header.metadata["ss_tag_frequency"]) == {"drawn": {"neon night style": 320}}
    layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    assert {f"{layer}.{part}" for part in ("alpha", "lora_down.weight", "lora_up.weight")} < set(
        header.shapes
    )
    assert len(header.shapes) == 3 * len(weights) // 2


def test_a_controlnet_learns_beside_a_frozen_unet(tmp_path: Path) -> None:
    seed_initial_weights(0)
    unet = new_unet().requires_grad_(False).bfloat16()
    controlnet = new_controlnet(unet, pose_control.CHANNELS)
    data = small_set()
    alphas = new_scheduler().alphas_cumprod
    hints = torch.stack([pose_control.hint_of(points.numpy()) for points in data.skeletons])

    def loss() -> float:
        given = random_batch(data, step_generator(1, 0), alphas, 4)
        with torch.no_grad():
            return float(
                given.loss(
                    predict_controlled(
                        unet,
                        controlnet,
                        given.noisy,
                        given.timesteps,
                        given.captions,
                        hints[given.scenes],
                    )
                )
            )

    controlnet.bfloat16()
    before = loss()
    assert before == loss()
    checkpoint = tmp_path / "pose.safetensors"
    weights = pose_control.learn(unet, controlnet, data, Budget(12), checkpoint, batch=4)
    assert loss() < before
    size = sum(value.numel() for value in weights.values()) * 2
    assert size < 8.97e6, "with its header the file must stay below 9 MB"


def test_free_poses_stay_in_the_picture_and_are_not_named() -> None:
    random = Random(5)
    for _ in range(30):
        skeleton = pose_control.free_skeleton(random)
        assert ((skeleton > 0) & (skeleton < SIZE)).all()
    text = "a person standing still in a red shirt in a room"
    assert pose_control.without_action(text) == "a person in a red shirt in a room"
    samples = [pose_control.posed_sample(Random(n)) for n in range(40)]
    assert all(sample.skeleton is not None for sample in samples)
    silent = [s for s in samples if not any("standing" in text for text in s.captions)]
    assert len(silent) > 20


def test_hints_show_every_joint() -> None:
    skeleton = pose_skeleton("arms outstretched", 128)
    hint = (pose_control.hint_of(skeleton) * 255).round().numpy().astype(int)
    x, y = (round(float(value)) for value in skeleton[7])
    assert tuple(hint[:, y, x]) == (0, 255, 85)


def test_limbs_are_found_where_they_were_drawn_and_not_elsewhere() -> None:
    soft: list[float] = []
    for prompt in fresh_poses(8, seed=9):
        image = draw_scene(prompt.scene, skeleton=prompt.skeleton).image
        right = limb_distances(image, prompt.skeleton, prompt.person)
        assert right.max() <= 0.05
        softened = np.asarray(cv2.GaussianBlur(image, (0, 0), 3), np.uint8)
        soft.append(limb_distances(softened, prompt.skeleton, prompt.person).mean())
        moved = prompt.skeleton + np.float32(40)
        wrong = limb_distances(image, moved, prompt.person)
        assert wrong.mean() > 0.1
        empty = np.full_like(image, 127)
        assert limb_distances(empty, prompt.skeleton, prompt.person).mean() > 0.2
    assert np.mean(soft) < 0.03


def test_the_mannequin_is_fitted_without_favour_for_any_direction() -> None:
    person = Person("standing", "red", "white", "black", False, 0)
    scene = Scene("meadow", "day", person, None, 3)
    for turned in range(0, 360, 45):
        arms = (turned + 20.0, turned - 20.0, -turned - 10.0, 20.0 - turned)
        skeleton = posture_skeleton(Posture(arms), 128)
        image = draw_scene(scene, skeleton=skeleton).image
        if np.linalg.norm(skeleton[[4, 7]] - skeleton[0], axis=1).min() > 34:
            assert limb_distances(image, skeleton, person).max() <= 0.05, turned


def test_hands_and_feet_weigh_more() -> None:
    skeleton = pose_skeleton("arms outstretched", 128)
    weights = pose_control.limb_weights(skeleton)
    at = {joint: weights[*(skeleton[joint][::-1] // 8).astype(int)] for joint in range(18)}
    assert min(at[joint] for joint in (4, 7)) > min(at[joint] for joint in (10, 13)) > 1
    assert max(at[joint] for joint in (0, 2, 5)) < 0.1
