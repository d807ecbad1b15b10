"""Starting from a picture with the embedded model: init picture, inpainting, outpainting."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.fakes import gradient
from tests.guards import use_guard
from tests.test_engine import SESSION, Scripted, psnr, saved, silent
from webui.cli.building import build_engine
from webui.engine import Engine
from webui.errors import RefusedError
from webui.events import Event, Failed, Notice, StageDone, Started, Step
from webui.generator import Cancel
from webui.library.uploads import Kind, Uploads
from webui.provenance.pngtext import read_text
from webui.request import SAMPLERS, GenerationRequest
from webui.settings import Settings

PROMPT = "a person in a red shirt on a beach by day"
Picture = NDArray[np.float64]


@dataclass(frozen=True)
class Desk:
    """The real engine, a guard that lets everything through, and a shelf to bring pictures to."""

    engine: Engine
    uploads: Uploads

    def run(self, **asked: Any) -> list[Event]:
        request = GenerationRequest.model_validate({"seed": 5, "steps": 6} | asked)
        return list(self.engine.generate(request, SESSION, Cancel()))

    def made(self, **asked: Any) -> Picture:
        (picture,) = saved(self.run(**asked))
        return opened(Path(picture.path))

    def bring(self, picture: Image.Image | NDArray[Any], kind: Kind = "picture") -> str:
        if not isinstance(picture, Image.Image):
            picture = Image.fromarray(np.asarray(picture, np.uint8))
        file = io.BytesIO()
        picture.save(file, "PNG")
        return self.uploads.take(file.getvalue(), kind=kind).id


def opened(path: Path) -> Picture:
    return np.asarray(Image.open(path).convert("RGB")).astype(np.float64)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    settings = Settings(outputs=folder / "outputs", state=folder / "state")
    engine = build_engine(settings, silent)
    yield Desk(engine, Uploads(settings.state / "uploads"))
    engine.close()


@pytest.fixture
def desk(built: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    use_guard(built.engine, monkeypatch, Scripted())
    return built


@pytest.fixture(scope="module")
def scene(built: Desk) -> Picture:
    """A picture of the model's own."""
    with pytest.MonkeyPatch.context() as patch:
        use_guard(built.engine, patch, Scripted())
        return built.made(prompt=PROMPT, seed=11, steps=16)


def disc(width: int, height: int, left: int, top: int, right: int, bottom: int) -> NDArray[Any]:
    mask = np.zeros((height, width), np.uint8)
    centre, axes = (
        ((left + right) // 2, (top + bottom) // 2),
        ((right - left) // 2, (bottom - top) // 2),
    )
    return np.asarray(cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1))


def distance(a: Picture, b: Picture) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


CASES: list[tuple[tuple[int, int], tuple[int, int, int, int], dict[str, Any]]] = [
    ((256, 256), (60, 60, 180, 200), {}),
    ((256, 256), (60, 60, 180, 200), {"strength": 1.0}),
    ((256, 256), (60, 60, 180, 200), {"strength": 0.2}),
    ((256, 256), (60, 60, 180, 200), {"mask_blur": 0}),
    ((256, 256), (60, 60, 180, 200), {"mask_blur": 16}),
    ((256, 256), (60, 60, 180, 200), {"mask_grow": 10}),
    ((256, 256), (60, 60, 180, 200), {"mask_grow": -10}),
    ((256, 256), (60, 60, 180, 200), {"inpaint_fill": "blur"}),
    ((256, 256), (60, 60, 180, 200), {"inpaint_fill": "colour"}),
    ((256, 256), (60, 60, 180, 200), {"inpaint_fill": "noise"}),
    ((256, 256), (60, 60, 180, 200), {"soft_mask": True}),
    ((256, 256), (60, 60, 180, 200), {"sampler": "Heun", "steps": 4}),
    ((256, 256), (60, 60, 180, 200), {"sampler": "Euler a", "batch": 2}),
    ((256, 256), (0, 0, 40, 30), {"inpaint_area": "masked"}),
    ((256, 256), (120, 120, 140, 135), {"inpaint_area": "masked", "inpaint_padding": 0}),
    ((512, 320), (300, 100, 420, 180), {"inpaint_area": "masked"}),
    ((512, 320), (300, 100, 420, 180), {"inpaint_area": "masked", "inpaint_padding": 128}),
    ((192, 384), (20, 20, 170, 360), {}),
    ((301, 203), (50, 50, 120, 150), {}),
    ((256, 256), (60, 60, 180, 200), {"outpaint": (32, 0, 0, 64)}),
    ((256, 256), (60, 60, 180, 200), {"outpaint": (0, 16, 16, 0), "inpaint_area": "masked"}),
]


@pytest.mark.parametrize(("size", "box", "asked"), CASES)
def test_outside_the_mask_the_saved_picture_is_the_input_exactly(
    desk: Desk, size: tuple[int, int], box: tuple[int, int, int, int], asked: dict[str, Any]
) -> None:
    init = gradient(*size, 3)
    mask = disc(*size, *box)
    # Whatever is painted within it: three steps without guidance are enough of a picture.
    asked = {"prompt": PROMPT, "steps": 3, "cfg": 1, **asked}
    events = desk.run(init=desk.bring(init), mask=desk.bring(mask, "mask"), **asked)
    left, top, right, bottom = asked.get("outpaint", (0, 0, 0, 0))
    fitted = (round(size[0] / 8) * 8, round(size[1] / 8) * 8)
    given = np.asarray(init).astype(np.float64)
    reach = int(2.5 * asked.get("mask_blur", 4) + 0.5) + max(0, asked.get("mask_grow", 0)) + 1
    for picture in saved(events):
        after = opened(Path(picture.path))
        assert after.shape == (fitted[1] + top + bottom, fitted[0] + left + right, 3)
        if fitted != size:
            continue
        inner = after[top : top + size[1], left : left + size[0]]
        kept = np.asarray(cv2.dilate(mask, np.ones((2 * reach + 1,) * 2, np.uint8))) == 0
        for margin, edge in (
            (left, np.s_[:, :reach]),
            (top, np.s_[:reach]),
            (right, np.s_[:, -reach:]),
            (bottom, np.s_[-reach:]),
        ):
            if margin:
                kept[edge] = False
        assert kept.sum() > 500
        assert (inner[kept] == given[kept]).all()
        assert distance(inner[mask > 0], given[mask > 0]) > 1
    assert len(saved(events)) == asked.get("batch", 1)
    assert any(isinstance(event, Notice) for event in events[1:]) == (fitted != size)


def test_a_shirts_colour_is_changed_and_nothing_else(desk: Desk, scene: Picture) -> None:
    red = scene[..., 0] - scene[..., 1:].max(axis=2) > 60
    assert red.mean() > 0.03
    mask = (red * 255).astype(np.uint8)
    after = desk.made(
        prompt="a person in a blue shirt on a beach by day",
        steps=16,
        init=desk.bring(scene),
        mask=desk.bring(mask, "mask"),
        mask_grow=4,
        strength=1.0,
    )
    was, now = scene[red].mean(axis=0), after[red].mean(axis=0)
    assert was[0] > was[2] + 80
    assert now[2] > now[0] + 40
    outside = np.asarray(cv2.dilate(mask, np.ones((31, 31), np.uint8))) == 0
    assert outside.mean() > 0.3
    assert (after[outside] == scene[outside]).all()


SOFT: tuple[dict[str, Any], ...] = (
    {},
    {"strength": 1.0},
    {"soft_mask": True},
    {"inpaint_fill": "noise"},
)


def steps_at_the_border(
    desk: Desk, scene: Picture, cases: list[dict[str, Any]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps between neighbours across the border of random masks, and around and within them."""
    random = np.random.default_rng(4)
    across: list[NDArray[Any]] = []
    within: list[NDArray[Any]] = []
    for seed, asked in enumerate(cases):
        left, top, width, height = (*random.integers(0, 150, 2), *random.integers(40, 100, 2))
        mask = disc(256, 256, int(left), int(top), int(left + width), int(top + height))
        begun = {"init": desk.bring(scene), "mask": desk.bring(mask, "mask")}
        after = desk.made(**begun, **asked, prompt=PROMPT, seed=seed)
        near = np.asarray(cv2.dilate(mask, np.ones((25, 25), np.uint8))) > 0
        for axis in (0, 1):
            step = np.abs(np.diff(after, axis=axis)).max(axis=2)
            border = np.diff(mask.astype(int), axis=axis) != 0
            across.append(step[border])
            within.append(step[near[: step.shape[0], : step.shape[1]] & ~border])
    return np.concatenate(across), np.concatenate(within)


def test_the_step_across_the_masks_border_is_no_larger_than_within_the_picture(
    desk: Desk, scene: Picture
) -> None:
    across, within = steps_at_the_border(desk, scene, [*SOFT] * 5)
    assert np.percentile(across, 95) <= np.percentile(within, 95)
    assert across.mean() <= within.mean() + 0.5
    hard, within = steps_at_the_border(desk, scene, [{"mask_blur": 0}] * 4)
    assert np.percentile(hard, 95) > 2 * np.percentile(within, 95), "no seam would be seen"


@pytest.mark.parametrize("mask", [False, True])
def test_more_strength_leads_further_away(desk: Desk, scene: Picture, mask: bool) -> None:
    asked: dict[str, Any] = {"prompt": "a harbour in the snow at night", "steps": 20}
    asked["init"] = desk.bring(scene)
    if mask:
        asked["mask"] = desk.bring(disc(256, 256, 40, 40, 220, 220), "mask")
    away = [
        np.mean([distance(desk.made(strength=s, **asked, seed=n), scene) for n in (1, 2)])
        for s in (0.1, 0.4, 0.7, 1.0)
    ]
    assert away == sorted(away)
    assert away[-1] > 2 * away[0]


@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_starts_from_a_picture(
    desk: Desk, scene: Picture, sampler: str, strength: float
) -> None:
    # Without guidance and small, since that makes it several times as quick; little strength leaves
    # a picture only at the size that the model was trained at as it is.
    side = 256 if strength == 0.3 else 128
    resized: Any = cv2.resize(scene, (side, side), interpolation=cv2.INTER_AREA)
    given: Picture = resized.round()
    asked: dict[str, Any] = {"prompt": PROMPT, "sampler": sampler, "steps": 10, "cfg": 1}
    asked |= {"init": desk.bring(given), "strength": strength}
    events = desk.run(**asked)
    (picture,) = saved(events)
    after = opened(Path(picture.path))
    assert next(e.steps for e in events if isinstance(e, Started | Step)) == round(10 * strength)
    assert after.std() > 15
    if strength == 0.3:
        assert distance(after, given) < 45
    near, far = side * 90 // 256, side * 170 // 256
    masked = desk.made(**asked, mask=desk.bring(disc(side, side, near, near, far, far), "mask"))
    above, within = np.s_[: near * 2 // 3], np.s_[near:far, near:far]
    assert (masked[above] == given[above]).all()
    assert (masked[within] != given[within]).any()


def test_at_full_strength_nothing_of_the_init_picture_is_left(desk: Desk, scene: Picture) -> None:
    plain = desk.made(prompt=PROMPT)
    assert psnr(desk.made(prompt=PROMPT, init=desk.bring(scene), strength=1.0), plain) == float(
        "inf"
    )


def test_a_grey_mask_is_a_strength_for_each_pixel(desk: Desk, scene: Picture) -> None:
    ramp = np.tile(np.linspace(0, 255, 256), (256, 1)).astype(np.uint8)
    ramp[:, :8] = 0
    asked: dict[str, Any] = {"prompt": "a harbour in the snow at night", "steps": 20}
    asked |= {"init": desk.bring(scene), "mask": desk.bring(ramp, "mask"), "mask_blur": 0}
    after = desk.made(**asked, soft_mask=True, strength=1.0)
    columns = np.abs(after - scene).mean(axis=(0, 2))
    quarters = [columns[start : start + 64].mean() for start in (0, 64, 128, 192)]
    assert quarters == sorted(quarters)
    assert quarters[-1] > 3 * quarters[0]


@pytest.mark.parametrize("fill", ["blur", "colour", "noise"])
def test_the_fill_changes_what_comes_of_it(desk: Desk, scene: Picture, fill: str) -> None:
    asked: dict[str, Any] = {"prompt": PROMPT, "strength": 0.5, "init": desk.bring(scene)}
    asked["mask"] = desk.bring(disc(256, 256, 80, 60, 180, 220), "mask")
    plain = desk.made(**asked)
    assert psnr(desk.made(**asked, inpaint_fill=fill), plain) < 40


def test_margins_are_painted(desk: Desk, scene: Picture) -> None:
    after = desk.made(
        prompt=PROMPT, steps=12, init=desk.bring(scene), outpaint=(64, 0, 64, 0), strength=0.9
    )
    assert after.shape == (256, 384, 3)
    sky = after[:30].reshape(-1, 3).mean(axis=0)
    sand = after[-20:].reshape(-1, 3).mean(axis=0)
    for columns in (after[:, :56], after[:, -56:]):
        assert np.abs(columns[:30].reshape(-1, 3).mean(axis=0) - sky).max() < 25
        assert np.abs(columns[-20:].reshape(-1, 3).mean(axis=0) - sand).max() < 25
        assert columns.std() > 20


A = (60, 60, 180, 200)


def test_the_recipe_names_the_pictures_and_makes_it_again(desk: Desk, scene: Picture) -> None:
    init, mask = desk.bring(scene), desk.bring(disc(256, 256, *A), "mask")
    asked: dict[str, Any] = {"prompt": PROMPT, "init": init, "mask": mask, "strength": 0.6}
    (first,) = saved(desk.run(**asked, mask_blur=2, inpaint_area="masked"))
    recipe = json.loads(read_text(Path(first.path).read_bytes())["easel"])
    assert recipe["tainted"] is True
    assert (recipe["request"]["init"], recipe["request"]["mask"]) == (init, mask)
    assert desk.uploads.find(init).id == init
    again = GenerationRequest.model_validate(recipe["request"])
    (second,) = saved(list(desk.engine.generate(again, SESSION, Cancel())))
    assert psnr(opened(Path(first.path)), opened(Path(second.path))) == float("inf")
    (plain,) = saved(desk.run(prompt=PROMPT))
    assert json.loads(read_text(Path(plain.path).read_bytes())["easel"])["tainted"] is False


def test_a_saved_picture_is_named_by_its_file_and_recorded_by_its_content(desk: Desk) -> None:
    (first,) = saved(desk.run(prompt=PROMPT))
    taken = desk.uploads.take(Path(first.path).read_bytes())
    (second,) = saved(desk.run(prompt=PROMPT, init=first.sha256, strength=0.3))
    recipe = json.loads(read_text(Path(second.path).read_bytes())["easel"])
    assert recipe["request"]["init"] == taken.id != first.sha256


@pytest.mark.parametrize(
    ("asked", "field", "sentence"),
    [
        ({"init": "0" * 64}, "init", "not here any more"),
        ({"init": "/etc/hostname"}, "init", "named by its id"),
        ({"mask": "SCENE"}, "mask", "A mask needs an init picture"),
        ({"outpaint": (8, 0, 0, 0)}, "outpaint", "Outpainting needs an init picture"),
        ({"init": "SCENE", "mask": "DARK"}, "mask", "The mask is empty"),
        ({"init": "SCENE", "mask": "WIDE"}, "mask", "must have the same shape"),
        ({"init": "SCENE", "outpaint": (2048, 0, 0, 0)}, "outpaint", "at least 64"),
    ],
)
def test_what_cannot_be_started_from_is_said(
    desk: Desk, scene: Picture, asked: dict[str, Any], field: str, sentence: str
) -> None:
    names = {
        "SCENE": desk.bring(scene),
        "DARK": desk.bring(np.zeros((256, 256)), "mask"),
        "WIDE": desk.bring(np.full((256, 400), 255), "mask"),
    }
    named = {k: names.get(v, v) if isinstance(v, str) else v for k, v in asked.items()}
    *_, end = desk.run(prompt=PROMPT, **named)
    assert isinstance(end, Failed)
    assert (end.field, end.exit_code) == (field, 2)
    assert sentence in end.message


class Watching(Scripted):
    """Notes what is brought before it, and refuses one of them."""

    def __init__(self, refused: int | None = None) -> None:
        super().__init__()
        self.asked: list[tuple[str, Any]] = []
        self._refused = refused
        self.regions: list[Any] = []

    def check_brought(self, data: bytes, level: Any, *, field: str, region: Any = None) -> None:
        self.asked.append((field, region))
        if len(self.asked) == self._refused:
            raise RefusedError("Refused.", field=field)

    def screen(self, data: bytes, level: Any, region: Any = None) -> Any:
        self.regions.append(region)
        return super().screen(data, level, region)


def test_everything_brought_in_is_checked_before_anything_else(
    desk: Desk, scene: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"init": desk.bring(scene), "mask": desk.bring(disc(256, 256, *A), "mask")}
    guard = Watching()
    use_guard(desk.engine, monkeypatch, guard)
    assert saved(desk.run(prompt=PROMPT, **asked))
    (_, whole), (_, of_mask), (_, region) = guard.asked
    assert [field for field, _ in guard.asked] == ["init", "mask", "init"]
    assert whole is of_mask is None
    assert region == guard.regions[0]
    assert region.left <= 60 < 180 <= region.right
    for number in (1, 2, 3):
        use_guard(desk.engine, monkeypatch, Watching(refused=number))
        events = desk.run(prompt=PROMPT, seed=900 + number, **asked)
        assert isinstance(events[-1], Failed)
        assert events[-1].kind == "RefusedError"
        assert not any(isinstance(event, Started | StageDone) for event in events)


def test_the_guard_as_it_is_built_passes_a_neutral_picture(built: Desk) -> None:
    asked = {"init": built.bring(gradient(256, 256, 2)), "strength": 0.3}
    assert saved(built.run(prompt="a beach by day", **asked))
    *_, end = built.run(prompt="a beach by day", negative_prompt="dress", **asked)
    assert isinstance(end, Failed)
    assert end.kind == "RefusedError"
