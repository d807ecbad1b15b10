"""Controls the whole way on the embedded model, with random ControlNets beside it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from numpy.typing import NDArray
from PIL import Image

from tests.fakes import gradient
from tests.guards import use_guard
from tests.test_engine import SESSION, Scripted, psnr, reused, saved, silent
from webui.cli.building import build_engine
from webui.engine import Engine
from webui.errors import RefusedError
from webui.events import Event, Failed, Finished, HintMade, StageDone
from webui.generator import Cancel, Session
from webui.levels import Level
from webui.library.uploads import Uploads
from webui.provenance.pngtext import read_text
from webui.request import GenerationRequest
from webui.settings import ROOT, Settings

PROMPT = "a person in a red shirt on a beach by day"
POSE: dict[str, Any] = {
    "width": 256,
    "height": 256,
    "people": [[[60.0 + 8 * n, 40.0 + 10 * n, True] for n in range(18)]],
}
OTHER_POSE = POSE | {"people": [[[200.0 - 8 * n, 40.0 + 10 * n, True] for n in range(18)]]}
CONTROL: dict[str, Any] = {"pose": POSE}


@dataclass(frozen=True)
class Desk:
    """The real engine with two ControlNets, and a shelf to bring pictures to."""

    engine: Engine
    uploads: Uploads

    def run(self, **asked: Any) -> list[Event]:
        recipe = {"seed": 5, "steps": 4, "prompt": PROMPT} | asked
        return list(
            self.engine.generate(GenerationRequest.model_validate(recipe), SESSION, Cancel())
        )

    def made(self, **asked: Any) -> NDArray[Any]:
        (picture,) = saved(self.run(**asked))
        return np.asarray(Image.open(picture.path)).astype(np.float64)

    def bring(self, picture: Image.Image) -> str:
        file = io.BytesIO()
        picture.save(file, "PNG")
        return self.uploads.take(file.getvalue()).id


def write_controlnet(folder: Path, seed: int) -> None:
    """A small random ControlNet that fits the embedded model's UNet."""
    kind: Any = UNet2DConditionModel
    unet = kind.from_config(kind.load_config(ROOT / "models" / "postcard" / "unet"))
    torch.default_generator.manual_seed(seed)
    made: Any = ControlNetModel
    net = made.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 8))
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if "controlnet_" in name:
                weight.normal_(std=0.2)
    net.half().save_pretrained(folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    models = folder / "models"
    write_controlnet(models / "controlnet" / "a-pose", 1)
    write_controlnet(models / "controlnet" / "b-canny", 2)
    settings = Settings(models=models, outputs=folder / "outputs", state=folder / "state")
    engine = build_engine(settings, silent)
    yield Desk(engine, Uploads(settings.state / "uploads"))
    engine.close()


@pytest.fixture
def desk(built: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    use_guard(built.engine, monkeypatch, Scripted())
    return built


@pytest.fixture(scope="module")
def plain(built: Desk) -> NDArray[Any]:
    with pytest.MonkeyPatch.context() as patch:
        use_guard(built.engine, patch, Scripted())
        return built.made()


def test_a_pose_steers_and_leaves_no_trace(desk: Desk, plain: NDArray[Any]) -> None:
    steered = desk.made(controls=[CONTROL])
    assert psnr(steered, plain) < 35
    assert psnr(desk.made(controls=[CONTROL | {"pose": OTHER_POSE}]), steered) < 60
    assert psnr(desk.made(steps=5), plain) < 45
    assert psnr(desk.made(), plain) > 99


def test_weight_start_and_end_say_how_much(desk: Desk, plain: NDArray[Any]) -> None:
    def moved(**values: Any) -> float:
        return -psnr(desk.made(controls=[CONTROL | values]), plain)

    assert moved(weight=0) < -99
    assert moved(weight=0.2) < moved(weight=1)
    times = [moved(start=start, end=end) for start, end in ((0, 1), (0, 0.5), (0.5, 1), (0.9, 1))]
    assert len(set(times)) == 4
    assert min(times) > -60


def test_several_act_together_with_an_init_picture_and_a_mask(
    desk: Desk, plain: NDArray[Any]
) -> None:
    picture = desk.bring(Image.fromarray(plain.astype(np.uint8)))
    mask = Image.new("L", (256, 256))
    mask.paste(255, (64, 64, 192, 192))
    begun = {"init": picture, "mask": desk.bring(mask.convert("RGB")), "mask_blur": 0}
    canny = {"kind": "canny", "picture": desk.bring(gradient(300, 200, 1))}
    for area in ("whole", "masked"):
        asked = begun | {"inpaint_area": area, "strength": 1.0}
        one = desk.made(**asked)
        two = desk.made(**asked, controls=[CONTROL])
        both = desk.made(**asked, controls=[CONTROL, canny])
        assert psnr(one, two) < 40
        assert psnr(two, both) < 45
        outside = np.ones((256, 256), bool)
        outside[64:192, 64:192] = False
        assert (both[outside] == plain[outside]).all()


def test_without_controls_there_are_no_stages_of_them(desk: Desk) -> None:
    names = [event.name for event in desk.run() if isinstance(event, StageDone)]
    assert not {"control", "hint"} & set(names)


def test_the_recipe_is_whole_and_a_network_from_outside_taints(desk: Desk) -> None:
    picture = desk.bring(gradient(64, 64, 2))
    canny = {"kind": "canny", "picture": picture}
    recipes: list[dict[str, Any]] = []
    for controls in ([CONTROL], [CONTROL, canny]):
        (made,) = saved(desk.run(controls=controls))
        recipes.append(json.loads(read_text(Path(made.path).read_bytes())["easel"]))
    assert [recipe["tainted"] for recipe in recipes] == [True, True]
    pose, edges = recipes[1]["request"]["controls"]
    assert (pose["model"], edges["model"]) == ("a-pose", "b-canny")
    assert pose["pose"] == POSE
    again = desk.run(**recipes[1]["request"])
    assert isinstance(again[-1], Finished)
    assert reused(again)["denoise"]


def test_the_hints_are_shown_in_the_place_of_their_units(desk: Desk) -> None:
    picture = desk.bring(Image.new("RGB", (64, 64), "white"))
    none = {"kind": "canny", "picture": picture, "preprocessor": "none"}
    request = {"steps": 1, "controls": [CONTROL | {"weight": 0}, none, CONTROL]}
    watching = Session(id="tests", previews=True)
    asked = GenerationRequest.model_validate(request)
    events = list(desk.engine.generate(asked, watching, Cancel()))
    hints = [event for event in events if isinstance(event, HintMade)]
    assert [hint.control for hint in hints] == [1, 2]
    shown = [np.asarray(Image.open(io.BytesIO(hint.jpeg)).convert("L")) for hint in hints]
    assert shown[0].min() > 250
    assert 0 < (shown[1] > 60).mean() < 0.3
    assert not any(isinstance(event, HintMade) for event in desk.run(**request))


FAILURES: list[tuple[dict[str, Any], str]] = [
    ({"kind": "depth", "picture": "0" * 64}, "The picture is not here"),
    ({"pose": POSE, "model": "c"}, "Unknown ControlNet 'c'"),
]


@pytest.mark.parametrize(("control", "says"), FAILURES)
def test_what_is_missing_stops_the_request(control: dict[str, Any], says: str, desk: Desk) -> None:
    last = desk.run(controls=[control])[-1]
    assert isinstance(last, Failed)
    assert says in last.message
    assert last.field == "controls.0"


def test_a_network_that_is_missing_stops_the_request_before_a_step(desk: Desk) -> None:
    picture = desk.bring(gradient(64, 64, 2))
    control = {"kind": "pose", "picture": picture, "preprocessor": "openpose"}
    events = desk.run(controls=[control])
    assert isinstance(events[-1], Failed)
    assert "body_pose_model.safetensors" in events[-1].message
    assert "denoise" not in reused(events)


def test_a_picture_is_judged_before_anything_is_made_of_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Suspicious(Scripted):
        def check_brought(self, data: bytes, level: Level, *, field: str, **_: object) -> None:
            raise RefusedError("Refused.", field=field)

    use_guard(desk.engine, monkeypatch, Suspicious())
    picture = desk.bring(gradient(64, 64, 2))
    events = desk.run(controls=[{"kind": "canny", "picture": picture}])
    assert [type(event) for event in events][-1] is Failed
    assert not any(isinstance(event, StageDone) for event in events)
    assert isinstance(desk.run(controls=[CONTROL])[-1], Finished)
