"""Which stages are reused, and what is made anew, for each kind of change to a request."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image
from safetensors import torch as safetensors

from tests.fakes import gradient
from tests.guards import use_guard
from tests.test_controls import OTHER_POSE, POSE, write_controlnet
from tests.test_engine import Scripted, reused, silent
from tests.test_engine_loras import loaded_by, write_loras
from tests.test_starting_pictures import Desk, disc
from webui.cli.building import build_engine
from webui.generation import painting, pipelines
from webui.generation.backbones import clip
from webui.generation.steering import ControlNets
from webui.library.uploads import Uploads
from webui.settings import ROOT, Settings

SIDE = 128
MAKERS = {
    "encode_prompt": "text",
    "encode_start": "init",
    "encode_mask": "mask",
    "make_hint": "hint",
    "denoise": "denoise",
    "decode": "decode",
}
"""What makes the results of the stages; a text stage makes up to three, a hint stage one a unit."""

CONTROL: dict[str, Any] = {"pose": POSE, "model": "a-pose"}
EDGES: dict[str, Any] = {
    "kind": "canny",
    "picture": "EDGES",
    "model": "b-canny",
    "low": 5,
    "high": 9,
}
INK: dict[str, Any] = {"name": "ink", "weight": 0.5}
BOTH: dict[str, Any] = {"name": "both", "weight": 0.5}

PICTURES: dict[str, Callable[[], Any]] = {
    "INIT": lambda: gradient(SIDE, SIDE, 3),
    "OTHER": lambda: gradient(SIDE, SIDE, 4),
    "EDGES": lambda: gradient(SIDE, SIDE, 1),
    "MASK": lambda: Image.fromarray(disc(SIDE, SIDE, 30, 30, 90, 100)),
    "OTHER MASK": lambda: Image.fromarray(disc(SIDE, SIDE, 15, 50, 60, 115)),
}


@dataclass(frozen=True)
class Bench:
    """A desk with what the requests below name, and the names it gave the pictures."""

    desk: Desk
    names: dict[str, str]
    made: Counter[str]

    def request(self, changes: dict[str, Any]) -> dict[str, Any]:
        base: dict[str, Any] = {
            "prompt": "a house on a beach",
            "negative_prompt": "fog",
            "steps": 2,
            "loras": [INK, BOTH],
            "controls": [CONTROL, EDGES],
            "init": "INIT",
            "mask": "MASK",
        }
        text = json.dumps(base | changes)
        for name, known_as in self.names.items():
            text = text.replace(f'"{name}"', f'"{known_as}"')
        return json.loads(text)

    def run(self, changes: dict[str, Any]) -> dict[str, bool]:
        """The stages that ran, and whether each was reused; `made` is what was made anew."""
        self.made.clear()
        stages = reused(self.desk.run(**self.request(changes)))
        assert "save" in stages
        return {name: again for name, again in stages.items() if name in ALL}


def write_vae(file: Path) -> None:
    """The embedded model's VAE with other colours."""
    (own,) = (ROOT / "models" / "postcard" / "vae").glob("*.safetensors")
    files = cast(Any, safetensors)
    tensors = files.load_file(own)
    tensors["decoder.conv_out.bias"] = tensors["decoder.conv_out.bias"] + 0.5
    file.parent.mkdir(parents=True)
    files.save_file(tensors, file)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    for seed, name in enumerate(("a-pose", "b-canny", "c-pose")):
        write_controlnet(folder / "models" / "controlnet" / name, seed)
    write_vae(folder / "models" / "vae" / "soft.safetensors")
    settings = Settings(
        models=folder / "models",
        outputs=folder / "outputs",
        state=folder / "state",
        loras=folder / "loras",
    )
    engine = build_engine(settings, silent)
    write_loras(folder / "loras", loaded_by(engine, folder))
    desk = Desk(engine, Uploads(settings.state / "uploads"))
    made = Counter[str]()
    with pytest.MonkeyPatch.context() as patch:
        use_guard(engine, patch, Scripted())
        for maker, name in MAKERS.items():
            home = clip if maker == "encode_prompt" else painting
            patch.setattr(home, maker, counted(made, name, getattr(home, maker)))
        names = {
            name: desk.bring(make(), "mask" if "MASK" in name else "picture")
            for name, make in PICTURES.items()
        }
        bench = Bench(desk, names, made)
        bench.run({})
        yield bench
    engine.close()


def counted(made: Counter[str], name: str, make: Callable[..., Any]) -> Callable[..., Any]:
    def counting(*given: Any, **named: Any) -> Any:
        made[name] += 1
        return make(*given, **named)

    return counting


ALL = frozenset({"load", "text", "init", "mask", "control", "hint", "denoise", "decode"})
DRAWN = ALL - {"denoise", "decode"}
"""What is reused wherever only the picture itself is another one."""

Row = tuple[dict[str, Any], frozenset[str], dict[str, int]]


def loras(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"loras": list(rows)}


def pose(**values: Any) -> dict[str, Any]:
    return {"controls": [CONTROL | values, EDGES]}


def edges(**values: Any) -> dict[str, Any]:
    return {"controls": [CONTROL, EDGES | values]}


TEXT_TO_PICTURE: dict[str, Any] = {"init": None, "mask": None, "controls": []}
SIZED = {"init": 1, "mask": 1, "hint": 2}
ROWS: dict[str, Row] = {
    "nothing": ({}, ALL, {}),
    "seed": ({"seed": 6}, DRAWN, {}),
    "prompt": ({"prompt": "a car"}, DRAWN - {"text"}, {"text": 1}),
    "negative prompt": ({"negative_prompt": "rain"}, DRAWN - {"text"}, {"text": 1}),
    "clip skip": ({"clip_skip": 2}, DRAWN - {"text"}, {"text": 3}),
    "steps": ({"steps": 3}, DRAWN, {}),
    "cfg": ({"cfg": 3.0}, DRAWN, {}),
    "no guidance": ({"cfg": 1.0}, DRAWN, {}),
    "sampler": ({"sampler": "Euler"}, DRAWN, {}),
    "schedule": ({"schedule": "karras"}, DRAWN, {}),
    "the model's own, set by hand": (
        {"cfg": 5.0, "sampler": "DPM++ 2M", "schedule": "normal"},
        ALL,
        {},
    ),
    "prediction": ({"prediction": "epsilon"}, DRAWN, {}),
    "speed": ({"speed": "quick"}, DRAWN, {}),
    "batch": ({"batch": 2}, DRAWN, {}),
    "VAE": ({"vae": "soft"}, DRAWN - {"load", "init"}, {"init": 1}),
    "width": ({"width": 192}, DRAWN - {"init", "mask", "hint"}, SIZED),
    "LoRA: order": (loras(BOTH, INK), ALL, {}),
    "LoRA: a muted row": (loras(INK, BOTH, {"name": "gone", "enabled": False}), ALL, {}),
    "LoRA: a row of weight 0": (loras(INK, BOTH, {"name": "text", "weight": 0}), ALL, {}),
    "LoRA: another name of its file": (loras(INK | {"name": "copy"}, BOTH), ALL, {}),
    "LoRA: strength, denoiser alone": (loras(INK | {"weight": 0.6}, BOTH), DRAWN, {}),
    "LoRA: strength, text encoder too": (
        loras(INK, BOTH | {"weight": 0.6}),
        DRAWN - {"text"},
        {"text": 3},
    ),
    "LoRA: strength, the text's held": (
        loras(INK, BOTH | {"weight": 0.7, "text_encoder_weight": 0.5}),
        DRAWN,
        {},
    ),
    "LoRA: strength in the text encoder": (
        loras(INK, BOTH | {"text_encoder_weight": 0.7}),
        DRAWN - {"text"},
        {"text": 3},
    ),
    "LoRA: start": (loras(INK, BOTH | {"start": 0.5}), DRAWN, {}),
    "LoRA: end": (loras(INK | {"end": 0.5}, BOTH), DRAWN, {}),
    "LoRA: off, denoiser alone": (loras(BOTH), DRAWN, {}),
    "LoRA: off, text encoder too": (loras(INK), DRAWN - {"text"}, {"text": 3}),
    "pose": (pose(pose=OTHER_POSE), DRAWN - {"hint"}, {"hint": 1}),
    "control: picture": (edges(picture="OTHER"), DRAWN - {"hint"}, {"hint": 1}),
    "control: weight": (pose(weight=0.5), DRAWN, {}),
    "control: start": (pose(start=0.5), DRAWN, {}),
    "control: end": (edges(end=0.5), DRAWN, {}),
    "control: muted": (pose(weight=0), DRAWN, {}),
    "control: ControlNet": (pose(model="c-pose"), DRAWN - {"control"}, {}),
    "control: threshold": (edges(low=4), DRAWN - {"hint"}, {"hint": 1}),
    "control: resolution": (edges(resolution=64), DRAWN - {"hint"}, {"hint": 1}),
    "control: resize": (edges(resize="fill"), DRAWN - {"hint"}, {"hint": 1}),
    "control: preprocessor": (
        {
            "controls": [
                CONTROL,
                {k: v for k, v in EDGES.items() if k not in ("low", "high")}
                | {"preprocessor": "none"},
            ]
        },
        DRAWN - {"hint"},
        {"hint": 1},
    ),
    "init": ({"init": "OTHER"}, DRAWN - {"init", "mask"}, {"init": 1, "mask": 1}),
    "strength": ({"strength": 0.5}, DRAWN, {}),
    "mask": ({"mask": "OTHER MASK"}, DRAWN - {"mask"}, {"mask": 1}),
    "mask blur": ({"mask_blur": 9}, ALL - {"decode"}, {"decode": 1}),
    "mask grow": ({"mask_grow": 3}, DRAWN - {"mask"}, {"mask": 1}),
    "soft mask": ({"soft_mask": True}, DRAWN - {"mask"}, {"mask": 1}),
    "inpaint fill: noise": ({"inpaint_fill": "noise"}, DRAWN, {}),
    "inpaint fill: blur": ({"inpaint_fill": "blur"}, DRAWN - {"init"}, {"init": 1}),
    "inpaint area": (
        {"inpaint_area": "masked", "inpaint_padding": 8},
        DRAWN - {"init", "mask", "hint"},
        SIZED,
    ),
    "outpaint": ({"outpaint": (8, 0, 0, 0)}, DRAWN - {"init", "mask", "hint"}, SIZED),
    "mode: text to picture": (TEXT_TO_PICTURE, frozenset({"load", "text"}), {}),
    "mode: control alone": (
        TEXT_TO_PICTURE | {"controls": [CONTROL, EDGES], "width": SIDE, "height": SIDE},
        frozenset({"load", "text", "control", "hint"}),
        {},
    ),
    "mode: whole picture": ({"mask": None}, DRAWN - {"mask"}, {}),
    "mode: no control": ({"controls": []}, DRAWN - {"control", "hint"}, {}),
}


@pytest.mark.parametrize("change", ROWS)
def test_only_what_a_change_reaches_is_made_anew(bench: Bench, change: str) -> None:
    changes, stages, made = ROWS[change]
    found = bench.run(changes)
    assert {name for name, again in found.items() if again} == stages
    drawn = {} if "decode" in stages or "denoise" in stages else {"denoise": 1, "decode": 1}
    assert bench.made == made | drawn
    assert all(bench.run(changes).values())
    bench.run({})
    assert not bench.made


def test_another_vae_decodes_what_was_denoised_without_a_picture_to_start_from(
    bench: Bench,
) -> None:
    own = bench.run(TEXT_TO_PICTURE)
    assert own
    found = bench.run(TEXT_TO_PICTURE | {"vae": "soft"})
    assert {name for name, again in found.items() if not again} <= {"load", "decode"}
    assert not found["decode"]
    assert bench.made == {"decode": 1}
    assert all(bench.run(TEXT_TO_PICTURE).values())


MODES: dict[str, dict[str, Any]] = {
    "text to picture": TEXT_TO_PICTURE | {"loras": []},
    "picture to picture": {"mask": None, "controls": [], "loras": []},
    "inpainting": {"controls": [], "loras": []},
    "ControlNet": TEXT_TO_PICTURE | {"controls": [CONTROL, EDGES], "loras": []},
    "all at once": {},
    "a stack": TEXT_TO_PICTURE,
}
SLACK = 2**20
"""Bytes; a copy of the smallest network would be several times as much."""


def test_all_modes_and_stacks_share_one_set_of_components(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sized = {"width": SIDE, "height": SIDE}
    for changes in MODES.values():
        bench.run(sized | changes)
    monkeypatch.setattr(pipelines, "load_model", never)
    monkeypatch.setattr(ControlNets, "_load", never)
    engine: Any = bench.desk.engine
    painter = engine._painter
    networks = [painter._pipelines.loaded.pipe.components[name] for name in NETWORKS]
    networks += painter._controlnets._nets.values()
    before = [places(network) for network in networks]
    held = tensors_alive() - painter._cache.bytes_held
    for seed in (21, 22):
        for changes in MODES.values():
            found = bench.run(sized | changes | {"seed": seed})
            assert found["load"]
            assert found.get("control", True)
            assert not found["denoise"]
    bench.run(sized | MODES["text to picture"] | {"seed": 23})
    assert [places(network) for network in networks] == before
    assert abs(tensors_alive() - painter._cache.bytes_held - held) < SLACK


NETWORKS = ("unet", "vae", "text_encoder")


def never(*_: object) -> None:
    raise AssertionError("something was loaded")


def places(network: torch.nn.Module) -> list[int]:
    """Where each parameter lies in memory."""
    return [parameter.data_ptr() for parameter in network.parameters()]


def tensors_alive() -> int:
    """Bytes of all tensors that are left, each storage counted once."""
    gc.collect()
    # Fake ones, as the compiler leaves them, hold nothing.
    found = (one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter))
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage() for one in found}
    return sum(storage.nbytes() for storage in storages.values())
