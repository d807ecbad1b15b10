"""LoRA, ControlNet, init picture and mask in one request, with both kinds of denoisers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.fakes import gradient
from tests.generation.test_starting import write_inpainting_model
from tests.guards import use_guard
from tests.test_controls import POSE, write_controlnet
from tests.test_engine import Scripted, psnr, silent
from tests.test_engine_loras import loaded_by, write_loras
from tests.test_starting_pictures import Desk, disc
from webui.cli.building import build_engine
from webui.library.uploads import Uploads
from webui.settings import Settings


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("together")
    write_inpainting_model(folder / "models" / "painter")
    write_controlnet(folder / "models" / "controlnet" / "a-pose", 1)
    settings = Settings(
        models=folder / "models",
        outputs=folder / "outputs",
        state=folder / "state",
        loras=folder / "loras",
    )
    engine = build_engine(settings, silent)
    write_loras(folder / "loras", loaded_by(engine, folder))
    with pytest.MonkeyPatch.context() as patch:
        use_guard(engine, patch, Scripted())
        yield Desk(engine, Uploads(settings.state / "uploads"))
    engine.close()


WITHOUT: dict[str, dict[str, Any]] = {
    "the LoRA": {"loras": []},
    "the ControlNet": {"controls": []},
    "the prompt": {"prompt": ""},
}


@pytest.mark.parametrize("area", ["whole", "masked"])
@pytest.mark.parametrize("model", ["postcard", "painter"])
def test_everything_acts_within_the_mask_and_nothing_outside(
    desk: Desk, model: str, area: str
) -> None:
    init, mask = gradient(192, 192, 3), disc(192, 192, 50, 40, 150, 160)
    asked: dict[str, Any] = {
        "model": model,
        "prompt": "a person in a red shirt on a beach",
        "steps": 3,
        "init": desk.bring(init),
        "mask": desk.bring(mask, "mask"),
        "mask_blur": 0,
        "inpaint_area": area,
        "strength": 1.0,
        "loras": [{"name": "ink"}],
        "controls": [{"pose": POSE, "model": "a-pose"}],
    }
    given = np.asarray(init).astype(np.float64)
    whole = desk.made(**asked)
    inside = mask > 0
    for changes in ({}, *WITHOUT.values()):
        picture = desk.made(**asked | changes)
        assert (picture[~inside] == given[~inside]).all()
        assert psnr(picture[inside], given[inside]) < 30
        if changes:
            assert psnr(picture[inside], whole[inside]) < 45, changes
