"""The embedded model's LoRAs and pose ControlNet, as committed, through the engine."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.guards import use_guard
from tests.test_engine import SESSION, Scripted, saved, silent
from webui.cli.building import build_engine
from webui.engine import Engine
from webui.events import LoraApplied
from webui.generator import Cancel
from webui.library.controlnets import WEIGHTS, ControlNetShelf
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.postcard.canvas import Image as Pixels
from webui.postcard.edges import read_tensors
from webui.postcard.limbs import limb_distances
from webui.postcard.looks import LOOKS, LookName
from webui.postcard.pose_control import pose_of
from webui.postcard.steering import STATISTICS, fresh_poses, look_prompts
from webui.request import GenerationRequest
from webui.settings import ROOT, Settings


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with the folders it has by itself for what it reads."""
    folder = tmp_path_factory.mktemp("postcard")
    engine = build_engine(Settings(outputs=folder / "outputs", state=folder / "state"), silent)
    yield engine
    engine.close()


@pytest.fixture
def engine(built: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    use_guard(built, monkeypatch, Scripted())
    return built


def made(engine: Engine, **asked: Any) -> Pixels:
    request = GenerationRequest.model_validate({"steps": 8} | asked)
    events = list(engine.generate(request, SESSION, Cancel()))
    for event in events:
        if isinstance(event, LoraApplied):
            assert event.matched == event.total > 0
    (picture,) = saved(events)
    return np.asarray(Image.open(picture.path))


def row(look: LookName, weight: float) -> dict[str, Any]:
    return {"name": f"postcard-{look}", "weight": weight}


@pytest.mark.parametrize("look", sorted(LOOKS))
def test_a_look_grows_with_the_strength_of_its_lora(engine: Engine, look: LookName) -> None:
    prompts = look_prompts(look, 3)
    means = [
        np.mean(
            [
                STATISTICS[look](made(engine, prompt=text, seed=seed, loras=[row(look, weight)]))
                for seed, text in enumerate(prompts)
            ]
        )
        for weight in (0.0, 0.5, 1.0)
    ]
    assert means == sorted(means)
    assert means[2] > means[0] + 1


def test_two_loras_change_both(engine: Engine) -> None:
    text = f"{look_prompts('neon', 1)[0]}, {LOOKS['papercut'].trigger}"
    plain = made(engine, prompt=text, seed=0)
    both = made(engine, prompt=text, seed=0, loras=[row("neon", 1), row("papercut", 1)])
    for look in ("neon", "papercut"):
        assert STATISTICS[look](both) > STATISTICS[look](plain) + 2


def test_a_drawn_pose_moves_the_limbs_onto_it(engine: Engine) -> None:
    with_control: list[float] = []
    without: list[float] = []
    for asked in fresh_poses(3, seed=31):
        common: dict[str, Any] = {"prompt": asked.text, "seed": asked.seed, "steps": 10}
        pose = {"pose": pose_of(asked.skeleton).model_dump()}
        steered = made(engine, **common, controls=[pose])
        with_control.append(limb_distances(steered, asked.skeleton, asked.person).mean())
        plain = made(engine, **common)
        without.append(limb_distances(plain, asked.skeleton, asked.person).mean())
    assert np.mean(with_control) < 0.08
    assert np.mean(with_control) < np.mean(without) / 2


def test_the_cards_say_what_the_loras_are(tmp_path: Path) -> None:
    shelf = LoraShelf((ROOT / "loras",), HashBook(tmp_path / "hashes.json"))
    for look, about in LOOKS.items():
        card = shelf.find(f"postcard-{look}")
        assert card.size <= 1_000_000
        assert stat.S_IMODE(card.path.stat().st_mode) & 0o444 == 0o444
        assert card.facts.problem is None
        assert (card.facts.family, card.facts.kind, card.facts.rank) == ("SD 1", "locon", 6)
        assert card.facts.triggers == (about.trigger,)


def test_the_pose_controlnet_is_small_and_says_its_kind(tmp_path: Path) -> None:
    shelf = ControlNetShelf((ROOT / "models",), HashBook(tmp_path / "hashes.json"))
    found = shelf.find("postcard-pose")
    assert (found.kind, found.class_name) == ("pose", "ControlNetModel")
    weights = found.path / WEIGHTS
    assert weights.stat().st_size <= 9_000_000
    assert {tensor.dtype for tensor in read_tensors(weights).values()} == {torch.float16}
    for file in found.path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o444 == 0o444
