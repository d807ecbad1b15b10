"""What leaves the engine is marked, checked as it is sent, signed, and otherwise not released."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.fakes import gradient
from tests.guards import use_guard
from tests.test_engine import QUICK, Scripted, Studio, saved, with_
from tests.test_engine import guarded as guarded
from tests.test_engine import studio as studio
from tests.test_starting_pictures import PROMPT, Desk
from tests.test_starting_pictures import built as built
from tests.test_starting_pictures import desk as desk
from webui import release as module
from webui.clearance import Cleared, Discarded, Region
from webui.cli import main
from webui.errors import MarkError
from webui.events import Failed, Saved
from webui.levels import Level
from webui.provenance import watermark
from webui.provenance.certificate import FILE, trust_in
from webui.provenance.verify import Verification, verify_file
from webui.safety.pictures import decode
from webui.settings import Settings


class Watching(Scripted):
    """A guard that keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes] = []

    def screen(
        self, data: bytes, level: Level, region: Region | None = None
    ) -> Cleared | Discarded:
        self.seen.append(data)
        return super().screen(data, level, region)


def verified(event: Saved) -> Verification:
    path = Path(event.path)
    (state,) = (parent / "state" for parent in path.parents if (parent / "state" / FILE).exists())
    return verify_file(path, trust_in(state))


def test_a_saved_picture_is_whole(studio: Studio) -> None:
    (picture,) = saved(studio.run(QUICK))
    found = verified(picture)
    assert found.verdict == "whole"
    assert found.is_marked
    assert found.sha256 == picture.sha256
    assert found.credentials.lineage is not None
    assert found.credentials.lineage["tainted"] is False
    key = studio.outputs.parent / "state" / FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_what_is_sent_is_what_was_checked(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    guard = Watching()
    use_guard(studio.engine, monkeypatch, guard)
    (picture,) = saved(studio.run(QUICK))
    (tmp_path / "a.png").write_bytes(guard.seen[0])
    checked, sent = (np.asarray(Image.open(file)) for file in (tmp_path / "a.png", picture.path))
    assert np.array_equal(checked, sent)
    assert watermark.read(checked).present


class Averse(Watching):
    """A guard that takes a picture's grain for skin: above so much of it nothing passes."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self._most = most

    def screen(
        self, data: bytes, level: Level, region: Region | None = None
    ) -> Cleared | Discarded:
        self.seen.append(data)
        return Cleared(data, level) if grain(data) <= self._most else Discarded(level, "picture")


def grain(data: bytes) -> float:
    pixels = decode(data).astype(float)
    return float(np.abs(pixels - cv2.GaussianBlur(pixels, (0, 0), 2)).mean())


def test_a_picture_that_only_its_mark_keeps_in_gets_a_weaker_one(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching = Averse(np.inf)
    use_guard(studio.engine, monkeypatch, watching)
    assert len(saved(studio.run(QUICK))) == 1
    strong = grain(watching.seen[0])

    averse = Averse(strong * 0.995)
    use_guard(studio.engine, monkeypatch, averse)
    (picture,) = saved(studio.run(QUICK))
    assert len(averse.seen) >= 3
    grains = [grain(data) for data in averse.seen]
    assert grains[1] == min(grains), "the second look is at the picture without a mark"
    assert grains[0] > grains[-1] > grains[1]
    sent = np.asarray(Image.open(picture.path))
    assert np.array_equal(sent, decode(averse.seen[-1])), "what is sent is what passed"
    assert verified(picture).verdict == "whole"

    skin = Averse(grains[1] * 0.5)
    use_guard(studio.engine, monkeypatch, skin)
    events = studio.run(QUICK)
    assert not saved(events)
    assert len(skin.seen) == 2, "what does not pass without a mark is not tried again"


@pytest.mark.parametrize("part", ["signer", "watermark"])
def test_a_picture_that_cannot_be_marked_is_not_released(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def broken(*_: object) -> bytes:
        raise MarkError("The picture could not be signed.")

    def unmarked(picture: bytes, *_: object) -> bytes:
        return picture

    if part == "signer":
        monkeypatch.setattr(studio.engine._release._signer, "sign", broken)  # pyright: ignore[reportPrivateUsage]
    else:
        monkeypatch.setattr(module, "_marked", unmarked)
    before = set(studio.outputs.rglob("*"))
    events = studio.run(with_(QUICK, seed=8))
    assert isinstance(events[-1], Failed)
    assert not saved(events)
    assert {path for path in studio.outputs.rglob("*") if path.is_file()} <= before


def test_a_picture_begun_from_another_says_so_and_is_tainted(desk: Desk) -> None:
    init = desk.bring(gradient(256, 256, 3))
    (picture,) = saved(desk.run(prompt=PROMPT, init=init, strength=0.5))
    found = verified(picture)
    assert found.verdict == "whole"
    assert found.is_marked
    assert found.credentials.actions == ("c2pa.opened", "c2pa.edited")
    assert found.source_type == "compositeWithTrainedAlgorithmicMedia"
    lineage = found.credentials.lineage or {}
    assert (lineage["tainted"], lineage["operation"], lineage["parent"]) == (True, "image", init)


@pytest.mark.parametrize(("share", "marked"), [(0.1, False), (0.8, True)])
def test_inpainting_marks_what_was_painted_and_nothing_else(
    desk: Desk, share: float, marked: bool
) -> None:
    before = gradient(256, 256, 3)
    mask = np.zeros((256, 256), np.uint8)
    mask[: round(256 * share)] = 255
    init, cover = desk.bring(before), desk.bring(mask, "mask")
    (picture,) = saved(desk.run(prompt=PROMPT, init=init, mask=cover, mask_blur=0))
    kept = mask == 0
    assert np.array_equal(np.asarray(Image.open(picture.path))[kept], np.asarray(before)[kept])
    found = verified(picture)
    assert found.verdict == "whole"
    assert found.is_marked is marked
    lineage = found.credentials.lineage or {}
    assert (lineage["operation"], lineage["mask"]) == ("inpaint", cover)
    assert lineage["watermark"]["partial"] is True


def test_the_command_tells_of_each_file(
    studio: Studio, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (picture,) = saved(studio.run(QUICK))
    outputs = studio.outputs
    monkeypatch.setattr(
        "webui.cli.verifying.Settings", lambda: Settings(state=outputs.parent / "state")
    )
    assert main(["verify", picture.path]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(picture.path + "\n  verdict ")
    assert "made by this installation and unchanged since" in printed
    plain = outputs / "plain.jpg"
    gradient(64, 64, 1).save(plain)
    assert main(["verify", "--json", picture.path, str(plain)]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["verdict"] for line in lines] == ["whole", "unknown"]
    assert main(["verify", picture.path, str(outputs), str(plain)]) == 2
    caught = capsys.readouterr()
    assert f"{outputs}: It cannot be read" in caught.err
    assert str(plain) in caught.out
    plain.unlink()
