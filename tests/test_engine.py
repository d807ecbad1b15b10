"""The whole way with the embedded model, judged by events and by measurement."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.guards import use_guard
from webui.clearance import NO_TEXTS, Admitted, Cleared, Discarded, Region, Texts
from webui.cli.building import build_engine
from webui.engine import Engine
from webui.errors import RefusedError
from webui.events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    Preview,
    Saved,
    StageDone,
    Started,
    Step,
    Withheld,
)
from webui.generator import Cancel, Session
from webui.levels import Level
from webui.provenance.pngtext import read_text
from webui.request import GenerationRequest, parse_request_json
from webui.settings import Settings

SESSION = Session(id="tests", previews=False)
PROMPT = "a person in a red shirt on a beach at sunset"
STEPS = 4
QUICK = GenerationRequest(prompt=PROMPT, seed=7, steps=STEPS)


@dataclass(frozen=True)
class Studio:
    """The real engine and the folder it saves to."""

    engine: Engine
    outputs: Path

    def run(self, request: GenerationRequest, session: Session = SESSION) -> list[Event]:
        return list(self.engine.generate(request, session, Cancel()))


def silent(phase: str, message: str) -> None:
    """Nobody watches the engine being built."""


class Scripted:
    """A guard that withholds pictures by their number and refuses where it is told to.

    What the real guard thinks of a picture of four steps is not what is tested here.
    """

    def __init__(self, *withheld: int, refuses: bool = False) -> None:
        self._withheld = withheld
        self._refuses = refuses
        self._screened = 0

    def admit(
        self,
        request: GenerationRequest,
        session: Session,
        *,
        tainted: bool = False,
        texts: Texts = NO_TEXTS,
    ) -> Admitted:
        if self._refuses:
            raise RefusedError("Refused.")
        return Admitted(request, session, 0, ("A notice.",), None, tainted, texts)

    def readmit(self, admitted: Admitted) -> Admitted:
        return admitted

    def mosaics(self, session: Session) -> bool:
        return False

    def check_decoded(
        self,
        admitted: Admitted,
        decoded: Texts,
        *,
        loras: Sequence[str] = (),
    ) -> None:
        """Nothing is found."""

    def check_brought(
        self, data: bytes, level: Level, *, field: str, region: Region | None = None
    ) -> None:
        """Every picture may be worked on."""

    def screen(
        self, data: bytes, level: Level, region: Region | None = None
    ) -> Cleared | Discarded:
        self._screened += 1
        return Discarded(level) if self._screened in self._withheld else Cleared(data, level)

    def screen_preview(self, data: bytes, level: Level, *, mosaic: bool = False) -> Cleared:
        return Cleared(data, level)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """The engine as it is built for users."""
    folder = tmp_path_factory.mktemp("studio")
    settings = Settings(outputs=folder / "outputs", state=folder / "state")
    engine = build_engine(settings, silent)
    yield Studio(engine, settings.outputs)
    engine.close()


@pytest.fixture
def studio(guarded: Studio, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """The same engine with a guard that lets everything through."""
    use_guard(guarded.engine, monkeypatch, Scripted())
    return guarded


def with_(request: GenerationRequest, **changes: object) -> GenerationRequest:
    return GenerationRequest.model_validate(request.model_dump() | changes)


def reused(events: list[Event]) -> dict[str, bool]:
    return {event.name: event.reused for event in events if isinstance(event, StageDone)}


def saved(events: list[Event]) -> list[Saved]:
    return [event for event in events if isinstance(event, Saved)]


def pixels(event: Saved) -> np.ndarray:
    return np.asarray(Image.open(event.path).convert("RGB")).astype(np.float64)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(np.mean((a - b) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def test_a_picture_is_told_in_order_and_saved(guarded: Studio):
    events = guarded.run(with_(QUICK, prompt="a forest by day", steps=12))
    kinds = [event.event if not isinstance(event, StageDone) else event.name for event in events]
    assert kinds == [
        *("started", "load", "plan", "text", *["step"] * 12),
        *("denoise", "decode", "check", "save", "saved", "finished"),
    ]
    (picture,) = saved(events)
    assert Path(picture.path).is_relative_to(guarded.outputs)
    assert pixels(picture).shape == (256, 256, 3)
    assert pixels(picture).std() > 10


def test_a_draft_is_checked_signed_and_marked_and_kept_apart(
    guarded: Studio, monkeypatch: pytest.MonkeyPatch
):
    request, session = with_(QUICK, seed=70), Session(id="tests", previews=False, draft=True)
    before = set(guarded.outputs.rglob("*"))
    use_guard(guarded.engine, monkeypatch, Scripted(1))
    withheld = guarded.run(request, session)
    assert not saved(withheld)
    assert any(isinstance(event, Withheld) for event in withheld)
    (draft,) = saved(guarded.run(request, session))
    assert set(guarded.outputs.rglob("*")) == before
    assert Path(draft.path).parent == guarded.outputs.parent / "state" / "drafts"
    (picture,) = saved(guarded.run(request))
    assert Path(picture.path).is_relative_to(guarded.outputs)
    assert psnr(pixels(draft), pixels(picture)) == float("inf")
    drawn, kept = (read_text(Path(path).read_bytes()) for path in (draft.path, picture.path))
    assert drawn.keys() == kept.keys() >= {"easel", "parameters"}
    assert json.loads(drawn["easel"])["request"] == json.loads(kept["easel"])["request"]


def test_an_identical_request_is_answered_without_denoising(studio: Studio):
    first = studio.run(QUICK)
    second = studio.run(QUICK)
    assert reused(second)["denoise"]
    assert reused(second)["decode"]
    assert reused(second)["text"]
    assert not any(isinstance(event, Step) for event in second)
    assert psnr(pixels(saved(first)[0]), pixels(saved(second)[0])) == float("inf")


def test_a_changed_seed_reuses_the_text_only(studio: Studio):
    studio.run(QUICK)
    events = studio.run(with_(QUICK, seed=8))
    assert reused(events)["text"]
    assert not reused(events)["denoise"]


def test_a_changed_prompt_is_encoded_and_denoised(studio: Studio):
    studio.run(QUICK)
    events = studio.run(with_(QUICK, prompt="a harbour in the snow by day"))
    assert not reused(events)["text"]
    assert not reused(events)["denoise"]


def test_without_guidance_the_negative_prompt_changes_nothing(studio: Studio):
    studio.run(with_(QUICK, cfg=1))
    events = studio.run(with_(QUICK, cfg=1, negative_prompt="fog"))
    assert reused(events)["denoise"]


@pytest.mark.parametrize(
    "change",
    [
        {"negative_prompt": "sunset, orange sky"},
        {"steps": 6},
        {"cfg": 9.0},
        {"sampler": "Euler a"},
        {"schedule": "karras"},
        {"seed": 9},
        {"clip_skip": 2},
        {"width": 320},
        {"height": 320},
        {"prompt": "a person in a (blue:1.4) shirt on a beach at sunset"},
    ],
)
def test_every_option_changes_the_picture(studio: Studio, change: dict[str, object]):
    base = pixels(saved(studio.run(QUICK))[0])
    events = studio.run(with_(QUICK, **change))
    assert saved(events), events
    other = pixels(saved(events)[0])
    assert base.shape != other.shape or psnr(base, other) < 40


def test_the_same_request_gives_the_same_pixels_in_another_engine(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    again = build_engine(Settings(outputs=tmp_path, state=tmp_path / "state"), silent)
    use_guard(again, monkeypatch, Scripted())
    fresh = saved(list(again.generate(QUICK, SESSION, Cancel())))[0]
    again.close()
    assert psnr(pixels(fresh), pixels(saved(studio.run(QUICK))[0])) == float("inf")


def test_a_picture_of_a_batch_can_be_made_again_alone(studio: Studio):
    batch = saved(studio.run(with_(QUICK, batch=3, seed=20)))
    assert [event.seed for event in batch] == [20, 21, 22]
    recipe = json.loads(read_text(Path(batch[1].path).read_bytes())["easel"])["request"]
    alone = saved(studio.run(GenerationRequest.model_validate(recipe)))
    assert len(alone) == 1
    assert psnr(pixels(batch[1]), pixels(alone[0])) > 30
    assert psnr(pixels(batch[0]), pixels(alone[0])) < 30


def test_count_makes_batches_one_after_the_other(studio: Studio):
    events = studio.run(with_(QUICK, count=2, batch=2, seed=40))
    assert [event.seed for event in saved(events)] == [40, 41, 42, 43]
    assert [s.batch for s in events if isinstance(s, StageDone) and s.name == "denoise"] == [0, 1]
    last = [event for event in events if isinstance(event, Step)][-1]
    assert (last.batch, last.batches, last.seconds_left) == (1, 2, 0)


def test_a_drawn_seed_is_told_and_differs(studio: Studio):
    seeds = [
        event.seeds
        for _ in range(2)
        for event in studio.run(with_(QUICK, seed=None, steps=1))
        if isinstance(event, Started)
    ]
    assert seeds[0] != seeds[1]


def test_the_file_carries_the_whole_recipe(studio: Studio):
    (picture,) = saved(studio.run(QUICK))
    texts = read_text(Path(picture.path).read_bytes())
    recipe = json.loads(texts["easel"])
    request = parse_request_json(json.dumps(recipe["request"]), source="easel")
    # What was left open stands there as it was decided, so that it can be made again.
    decided = {"cfg": 5.0, "sampler": "DPM++ 2M", "schedule": "normal"}
    assert request == with_(QUICK, width=256, height=256, **decided)
    assert recipe["model"]["name"] == "postcard"
    assert len(recipe["model"]["sha256"]) == 64
    assert {"easel", "torch", "diffusers"} <= set(recipe["versions"])
    assert set(recipe["engine"]) == {"device", "dtype", "layout", "attention", "memory"}
    assert texts["parameters"].startswith(PROMPT)
    assert "Steps: 4, Sampler: DPM++ 2M" in texts["parameters"]
    assert "Seed: 7, Size: 256x256" in texts["parameters"]


def test_previews_are_small_pictures_of_what_is_coming(studio: Studio):
    watching = Session(id="tests")
    events = studio.run(with_(QUICK, steps=60, seed=300), watching)
    previews = [event for event in events if isinstance(event, Preview)]
    assert previews
    picture = Image.open(io.BytesIO(previews[-1].jpeg))
    assert max(picture.size) == 256
    final = pixels(saved(events)[0])
    late = np.asarray(picture.convert("RGB")).astype(np.float64)
    assert psnr(final, late) > 12


def test_cancelling_takes_effect_within_a_step_and_leaves_the_model_as_it_was(studio: Studio):
    before = pixels(saved(studio.run(QUICK))[0])
    cancel = Cancel()
    seen: list[Event] = []
    request = with_(QUICK, steps=150, seed=500, sampler="Heun")
    for event in studio.engine.generate(request, SESSION, cancel):
        seen.append(event)
        if isinstance(event, Step) and event.step == 2:
            cancel.set()
    assert isinstance(seen[-1], Cancelled)
    assert max(event.step for event in seen if isinstance(event, Step)) <= 10
    fresh = with_(QUICK, count=2, batch=1, seed=7)
    assert psnr(pixels(saved(studio.run(fresh))[0]), before) == float("inf")


def test_closing_the_iterator_frees_the_engine(studio: Studio):
    events = studio.engine.generate(with_(QUICK, steps=150, seed=600), SESSION, Cancel())
    assert isinstance(next(event for event in events if isinstance(event, Step)), Step)
    del events
    assert isinstance(studio.run(QUICK)[-1], Finished)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "postcart"}, "model"),
        ({"prompt": "(harbour:1.2.3)"}, "prompt"),
        ({"negative_prompt": "(harbour:99)"}, "negative_prompt"),
        ({"clip_skip": 12}, "clip_skip"),
        ({"loras": [{"name": "style"}]}, "loras.0"),
        ({"init": "0" * 64}, "init"),
        ({"mask": "0" * 64}, "mask"),
        ({"controls": [{"picture": "0" * 64}]}, "controls.0"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_lost(
    studio: Studio, change: dict[str, object], field: str
):
    *_, end = studio.run(with_(QUICK, **change))
    assert isinstance(end, Failed)
    assert end.exit_code == 2
    assert end.field == field
    assert isinstance(studio.run(QUICK)[-1], Finished)


def test_an_empty_prompt_makes_a_picture(studio: Studio):
    assert saved(studio.run(with_(QUICK, prompt="")))


def test_a_withheld_picture_is_never_written(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    use_guard(studio.engine, monkeypatch, Scripted(2))
    files = set(studio.outputs.rglob("*"))
    events = studio.run(with_(QUICK, batch=3, seed=700))
    assert [event.seed for event in saved(events)] == [700, 702]
    assert [event.seed for event in events if isinstance(event, Withheld)] == [701]
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.saved, end.withheld) == (2, 1)
    assert {path.name.split("-")[1] for path in set(studio.outputs.rglob("*")) - files} == {
        "700",
        "702",
    }


def test_a_refused_request_is_not_begun(studio: Studio, monkeypatch: pytest.MonkeyPatch):
    use_guard(studio.engine, monkeypatch, Scripted(refuses=True))
    (event,) = studio.run(with_(QUICK, seed=750))
    assert isinstance(event, Failed)
    assert (event.kind, event.exit_code) == ("RefusedError", 3)


def test_a_full_disk_fails_the_job_and_leaves_no_file(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    files = set(studio.outputs.rglob("*"))
    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        *_, end = studio.run(with_(QUICK, seed=800))
    assert isinstance(end, Failed)
    assert end.message.startswith("The disk is full")
    assert set(studio.outputs.rglob("*")) == files
    assert saved(studio.run(with_(QUICK, seed=800)))
