"""Pictures that try to be seen otherwise than they are checked. Drawn marks and score stubs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from tests.guards import use_guard
from tests.safety.stubs import CallStub, ScoreStub, always_healthy, placeholder_lexicon
from tests.test_engine import QUICK, Studio, saved, with_
from tests.test_engine import guarded as guarded
from webui.clearance import Cleared, Discarded, Region
from webui.events import Finished, Withheld
from webui.levels import LEVELS, Level
from webui.safety.classifiers import Classifiers
from webui.safety.detector import LABELS, SIDE, Detector, NudeNet, Views
from webui.safety.guard import Guard
from webui.safety.pictures import MOSAIC, all_views, decode, worst_scores

ANUS = LABELS.index("ANUS_EXPOSED")
GROUND, TOP, BOTTOM = (90, 150, 80), (250, 10, 60), (20, 40, 240)
"""A neutral ground and the two halves of a mark that stands for what may not be shown."""


def guard(detector: Detector) -> Guard:
    return Guard(detector, placeholder_lexicon(), self_test=always_healthy)


def png(pixels: NDArray[np.uint8] | Image.Image, **options: Any) -> bytes:
    picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def ground(side: int = 512) -> NDArray[np.uint8]:
    return np.full((side, side, 3), GROUND, np.uint8)


def marked(
    side: int = 512, *, at: tuple[int, int] = (200, 180), size: int = 80
) -> NDArray[np.uint8]:
    """The mark: a square of two colours, one above the other."""
    picture = ground(side)
    y, x = at
    picture[y : y + size // 2, x : x + size] = TOP
    picture[y + size // 2 : y + size, x : x + size] = BOTTOM
    return picture


def near(view: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(view.astype(int) - colour) < 30).all(axis=-1))


def sees_the_mark(views: Views) -> NDArray[np.float32]:
    """Knows the mark upright, in its own colours, and when it is large enough."""
    scores = np.zeros((len(views), len(LABELS)), np.float32)
    for place, view in enumerate(views):
        above, below = (near(view, colour).nonzero()[0] for colour in (TOP, BOTTOM))
        large = min(len(above), len(below)) >= 100
        scores[place, ANUS] = 0.9 if large and above.mean() < below.mean() else 0.0
    return scores


WATCHED = CallStub(sees_the_mark)


def is_shown(pixels: NDArray[np.uint8], level: Level = 0, region: Region | None = None) -> bool:
    return isinstance(guard(WATCHED).screen(png(pixels), level, region), Cleared)


def test_the_fifth_picture_of_a_batch_of_eight_is_withheld_alone(
    guarded: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[NDArray[np.float64]] = []

    def fifth(views: Views) -> NDArray[np.float32]:
        coarse = views[0].reshape(8, SIDE // 8, 8, SIDE // 8, 3).mean(axis=(1, 3))
        # With another mark or none it is the same picture.
        known = [np.abs(coarse - before).mean() < 1 for before in shown]
        if not any(known):
            shown.append(coarse)
        scores = np.zeros((len(views), len(LABELS)), np.float32)
        scores[-1, ANUS] = 0.9 if (known.index(True) if any(known) else len(known)) == 4 else 0.0
        return scores

    use_guard(guarded.engine, monkeypatch, guard(CallStub(fifth)))
    events = guarded.run(with_(QUICK, batch=8, steps=1, seed=100))
    assert len(shown) == 8
    assert [event.seed for event in events if isinstance(event, Withheld)] == [104]
    assert [event.seed for event in saved(events)] == [100, 101, 102, 103, 105, 106, 107]
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.saved, end.withheld) == (7, 1)
    assert not list(guarded.outputs.rglob("*-104-*"))


@pytest.mark.parametrize("at", [(0, 0), (4056, 4056), (2040, 1000), (620, 3333)])
def test_a_mark_in_one_tile_of_a_large_picture_is_seen(at: tuple[int, int]) -> None:
    assert is_shown(ground(4096))
    picture = marked(4096, at=at, size=40)
    whole = all_views(picture).squares()[:4]
    assert not sees_the_mark(whole).any(), "reduced to one view it is lost"
    assert not is_shown(picture)


def turned(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[::-1, ::-1]


def inverted(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return 255 - pixels


def swapped(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels[..., ::-1]


@pytest.mark.parametrize("disguise", [turned, inverted, swapped])
@pytest.mark.parametrize("level", LEVELS)
def test_a_disguised_picture_is_seen_as_what_it_is(
    disguise: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], level: Level
) -> None:
    disguised = np.ascontiguousarray(disguise(marked()))
    assert not sees_the_mark(all_views(disguised).squares()[:1]).any()
    assert not is_shown(disguised, level)
    assert is_shown(np.ascontiguousarray(disguise(ground())), level)


def rotated_by_tag() -> bytes:
    tags = Image.Exif()
    tags[0x0112] = 3
    return png(Image.fromarray(ground(64)), exif=tags)


def with_gamma() -> bytes:
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (1_000_000).to_bytes(4, "big"))
    return png(ground(64), pnginfo=chunks)


SMALL = Image.fromarray(ground(64))
SHOW_MORE = {
    "alpha": lambda: png(Image.new("RGBA", (64, 64), (90, 150, 80, 0))),
    "grey alpha": lambda: png(Image.new("LA", (64, 64))),
    "a transparent colour": lambda: png(SMALL, transparency=GROUND),
    "a second frame": lambda: png(
        SMALL, save_all=True, append_images=[Image.fromarray(marked(64))]
    ),
    "16 bits": lambda: png(Image.new("I;16", (64, 64))),
    "palette": lambda: png(SMALL.convert("P")),
    "rotated by a tag": rotated_by_tag,
    "a colour profile": lambda: png(SMALL, icc_profile=b"any"),
    "gamma": with_gamma,
}


@pytest.mark.parametrize("kind", SHOW_MORE)
def test_a_file_that_can_show_more_than_its_pixels_is_not_shown(kind: str) -> None:
    data = SHOW_MORE[kind]()
    watch = guard(ScoreStub())
    assert isinstance(watch.screen(png(SMALL), 0), Cleared)
    for level in LEVELS:
        assert isinstance(watch.screen(data, level), Discarded)
    assert watch.screen_preview(data, 0).data != data


def test_a_grid_of_allowed_pieces_is_checked_as_the_picture_it_is() -> None:
    whole = marked(512, at=(216, 216), size=80)
    # Each piece holds a part of the mark that alone is none.
    upper, lower = whole[:256], whole[256:]
    assert is_shown(np.ascontiguousarray(upper))
    assert is_shown(np.ascontiguousarray(lower))
    assert not is_shown(np.concatenate([upper, lower]))


def test_a_painted_part_is_seen_as_a_picture_of_its_own() -> None:
    picture = marked(640, at=(300, 300), size=14)
    assert is_shown(picture)
    assert not is_shown(picture, region=Region(290, 290, 330, 330))


def test_what_is_sent_is_what_was_checked_whatever_was_done_before(
    guarded: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = guard(ScoreStub())
    checked: list[bytes] = []
    plain = watch.screen

    def screen(data: bytes, level: Level, region: Region | None = None) -> Cleared | Discarded:
        checked.append(data)
        return plain(data, level, region)

    monkeypatch.setattr(watch, "screen", screen)
    use_guard(guarded.engine, monkeypatch, watch)
    (event,) = saved(guarded.run(with_(QUICK, steps=1, seed=300, width=320, height=192)))
    sent = decode(Path(event.path).read_bytes())
    assert sent.shape == (192, 320, 3)
    assert len(checked) == 1
    assert np.array_equal(decode(checked[0]), sent)


NO_PICTURES: dict[str, Any] = {
    "float": np.zeros((1, SIDE, SIDE, 3), np.float32),
    "NaN": np.full((1, SIDE, SIDE, 3), np.nan),
    "2-D": np.zeros((SIDE, SIDE), np.uint8),
    "grey": np.zeros((1, SIDE, SIDE, 1), np.uint8),
    "16 bits": np.zeros((1, SIDE, SIDE, 3), np.uint16),
    "None": None,
}


@pytest.mark.parametrize("kind", NO_PICTURES)
def test_a_guard_that_is_fed_no_picture_never_says_safe(kind: str) -> None:
    network = NudeNet.load()
    with pytest.raises(Exception, match=r".*"):
        network.scores(NO_PICTURES[kind])

    class Fed(NudeNet):
        def __init__(self) -> None:
            """Only passes on what it is given in place of the views."""

        def scores(self, views: Views) -> NDArray[np.float32]:
            return network.scores(NO_PICTURES[kind])

    assert isinstance(guard(network).screen(png(ground(64)), 0), Cleared)
    assert isinstance(guard(Fed()).screen(png(ground(64)), 2), Discarded)


@pytest.mark.parametrize(
    "answer",
    [None, [], np.nan, np.full((4, len(LABELS)), np.nan), np.zeros((3, len(LABELS))), "safe"],
    ids=["None", "nothing", "a number", "NaN", "a view too few", "text"],
)
def test_a_missing_score_is_the_worst(answer: Any) -> None:
    for level in LEVELS:
        watch = guard(CallStub(lambda views: answer))
        assert isinstance(watch.screen(png(ground(64)), level), Discarded)


def test_an_exposed_part_is_not_hidden_by_a_covered_one_at_the_same_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Session:
        def run(self, _: None, inputs: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
            anchors = np.zeros((len(inputs["images"]), 4 + len(LABELS), 2100), np.float32)
            anchors[:, :4, :2] = np.array([160, 160, 80, 80])[None, :, None]
            anchors[:, 4 + LABELS.index("ANUS_EXPOSED"), 0] = 0.60
            anchors[:, 4 + LABELS.index("ANUS_COVERED"), 1] = 0.61
            return [anchors]

    network = NudeNet.load()
    monkeypatch.setattr(network, "_session", Session())
    scores = worst_scores(network, Classifiers(), all_views(ground(64)))
    assert scores.anus == pytest.approx(0.60)
    for level in LEVELS:
        assert isinstance(guard(network).screen(png(ground(64)), level), Discarded)


@pytest.mark.parametrize("level", LEVELS)
def test_a_preview_is_checked_or_a_mosaic(level: Level) -> None:
    harmless, harmful = png(ground(256)), png(marked(256))
    assert guard(WATCHED).screen_preview(harmless, level).data == harmless
    shown = decode(guard(WATCHED).screen_preview(harmful, level).data)
    # In squares of one colour each nothing is left to be seen.
    cells = shown[: MOSAIC * (256 // MOSAIC)].reshape(MOSAIC, 256 // MOSAIC, -1, 3)
    inner = cells[:, 6:-6, 8:14].astype(int)
    assert (inner.max(axis=(1, 2)) - inner.min(axis=(1, 2)) < 40).all()
    failing = guard(CallStub(lambda views: np.empty(0, np.float32)))
    assert failing.screen_preview(harmless, level).data != harmless
