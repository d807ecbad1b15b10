from __future__ import annotations

import io
import threading
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.safety.stubs import (
    CallStub,
    ScoreStub,
    always_healthy,
    picture_bytes,
    placeholder_lexicon,
)
from webui.clearance import Admitted, Cleared, Discarded, Region, Texts
from webui.errors import GuardError, RefusedError
from webui.generator import Session
from webui.levels import LEVELS, Level
from webui.request import ControlChoice, GenerationRequest
from webui.safety import guard as guards
from webui.safety.ceilings import Ceiling, notice
from webui.safety.detector import LABELS, Detector, NudeNet, Views
from webui.safety.guard import BROUGHT_REFUSED, REFUSED, Guard
from webui.safety.operator import Policy
from webui.safety.pictures import MOSAIC, decode
from webui.safety.prompts import Lexicon
from webui.standing import CeilingKind

SESSION = Session(id="a")
LEXICON = placeholder_lexicon()
PICTURE = picture_bytes()
SAFE = ScoreStub()
UNSAFE = ScoreStub(ANUS_EXPOSED=0.95)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class SelfTest:
    """Counts its runs and fails while it is told to."""

    def __init__(self) -> None:
        self.runs = 0
        self.error: Exception | None = None

    def __call__(self, detector: Detector, lexicon: Lexicon) -> None:
        self.runs += 1
        if self.error is not None:
            raise self.error


def guard(detector: Detector = SAFE, *, time_limit: float = 10.0) -> Guard:
    return Guard(detector, LEXICON, self_test=always_healthy, time_limit=time_limit)


def asks(**given: object) -> GenerationRequest:
    """A request whose CFG is filled in, as the engine has it before it asks the guard."""
    return GenerationRequest.model_validate({"cfg": 5} | given)


def refused(request: GenerationRequest) -> bool:
    try:
        admitted = guard().admit(request, SESSION)
    except RefusedError:
        return True
    assert admitted == Admitted(request, SESSION, 0)
    return False


def test_a_harmless_request_is_admitted_at_the_strict_level() -> None:
    assert not refused(asks(prompt="a red chair", negative_prompt="blurry"))
    assert not refused(asks(prompt=""))
    assert not refused(asks(prompt="a wobblekin on a chair"))


@pytest.mark.parametrize(
    "prompt", ["a quandle", "SN1ZZLER", "fr\u00fcmpet", "d.e.g.l.i.m", "(quan:1.2)dle", "qu[an]dle"]
)
def test_a_prompt_with_a_blocked_cue_is_refused(prompt: str) -> None:
    assert refused(asks(prompt=prompt))


def test_every_refusal_is_the_same_sentence_and_repeats_nothing() -> None:
    messages: set[str] = set()
    for request in (
        asks(prompt="a quandle"),
        asks(prompt="wobblekin frumpet"),
        asks(prompt="deglim", init="0" * 64),
    ):
        with pytest.raises(RefusedError) as caught:
            guard().admit(request, SESSION)
        messages.add(caught.value.message)
        assert caught.value.field is None
        assert caught.value.exit_code == 3
    assert messages == {REFUSED}
    assert not LEXICON.cues(REFUSED)


def test_a_negative_prompt_may_name_what_is_not_wanted() -> None:
    assert not refused(asks(prompt="a chair", negative_prompt="quandle, snizzler"))


@pytest.mark.parametrize(
    "given",
    [
        {"negative_prompt": "quandle", "cfg": 1.0},
        {"negative_prompt": "(quandle:-1)"},
        {"negative_prompt": "blurry, (quandle: -0.5)"},
        {"negative_prompt": "quandle, (chair:-1)"},
    ],
)
def test_a_negative_prompt_that_can_act_as_a_positive_one_counts(given: dict[str, object]) -> None:
    assert refused(asks(prompt="a chair", **given))


@pytest.mark.parametrize(
    "brought",
    [
        {"init": "0" * 64},
        {"mask": "0" * 64},
        {"controls": (ControlChoice(picture="0" * 64).model_dump(),)},
    ],
)
def test_steering_a_picture_away_from_clothing_is_refused(brought: dict[str, object]) -> None:
    assert refused(asks(prompt="a chair", negative_prompt="torp", **brought))
    assert refused(asks(prompt="a chair, (torp:-1)", **brought))
    assert not refused(asks(prompt="a chair, a torp", **brought))
    assert not refused(asks(prompt="a chair", negative_prompt="torp"))


@dataclass
class Bounds:
    """What holds sessions down: nothing but what they ask for and one bound."""

    kind: CeilingKind = "grant"
    level: Level = 2

    def __call__(self, session: Session) -> tuple[Ceiling, ...]:
        return Ceiling("asked", session.level), Ceiling(self.kind, self.level)


def asking(level: Level) -> Session:
    return Session(id="a", level=level)


def bounded(bounds: Bounds, detector: Detector = SAFE, policy: Policy | None = None) -> Guard:
    return Guard(
        detector,
        LEXICON,
        ceilings=bounds,
        policy=lambda: policy or Policy(),
        self_test=always_healthy,
    )


def test_without_a_gate_nobody_is_above_the_strict_level() -> None:
    admitted = guard().admit(asks(prompt="a chair"), asking(2))
    assert (admitted.level, admitted.held_by) == (0, "operator")


def test_the_level_asked_for_is_reached_and_not_passed() -> None:
    swimwear, nudity = asks(prompt="a frumpet"), asks(prompt="a snizzler")
    watch = bounded(Bounds())
    assert [watch.admit(asks(prompt="a chair"), asking(n)).level for n in LEVELS] == [0, 1, 2]
    assert watch.admit(swimwear, asking(1)).notices == ()
    assert watch.admit(nudity, asking(2)).level == 2
    refused_at: tuple[tuple[GenerationRequest, Level], ...] = (
        (swimwear, 0),
        (nudity, 0),
        (nudity, 1),
    )
    for request, level in refused_at:
        with pytest.raises(RefusedError):
            watch.admit(request, asking(level))


@pytest.mark.parametrize("kind", ["operator", "share", "grant", "guards"])
def test_a_ceiling_lowers_the_level_and_says_of_which_kind_it_is(kind: CeilingKind) -> None:
    admitted = bounded(Bounds(kind, 1)).admit(asks(prompt="a chair"), asking(2))
    assert (admitted.level, admitted.held_by, admitted.notices) == (1, kind, (notice(kind),))


def test_a_tainted_request_and_a_youth_cue_are_strict() -> None:
    watch = bounded(Bounds())
    tainted = watch.admit(asks(prompt="a chair", init="0" * 64), asking(2), tainted=True)
    assert (tainted.level, tainted.held_by, tainted.tainted) == (0, "taint", True)
    own = watch.admit(asks(prompt="a chair", init="0" * 64), asking(2))
    assert (own.level, own.tainted) == (2, False)
    young = watch.admit(asks(prompt="a wobblekin"), asking(2))
    assert (young.level, young.held_by) == (0, "prompt")
    for word in ("frumpet", "snizzler", "quandle"):
        with pytest.raises(RefusedError):
            watch.admit(asks(prompt=f"a wobblekin {word}"), asking(2))


def test_painting_over_is_refused_where_a_ceiling_bites() -> None:
    watch = bounded(Bounds())
    masked = asks(prompt="a chair", init="0" * 64, mask="1" * 64)
    assert watch.admit(masked, asking(2)).level == 2
    assert watch.admit(masked, asking(0), tainted=True).level == 0
    with pytest.raises(RefusedError) as caught:
        watch.admit(masked, asking(1), tainted=True)
    assert (caught.value.message, caught.value.field) == (notice("taint"), "mask")


def test_the_level_is_computed_anew_and_never_rises() -> None:
    bounds = Bounds()
    watch = bounded(bounds)
    swimwear = watch.admit(asks(prompt="a frumpet"), asking(2))
    plain = watch.admit(asks(prompt="a chair"), asking(2))
    assert watch.readmit(plain) == plain
    bounds.level = 1
    lower = watch.readmit(plain)
    assert (lower.level, watch.readmit(swimwear).level) == (1, 1)
    bounds.level = 2
    assert watch.readmit(lower).level == 1
    bounds.level = 0
    assert watch.readmit(plain).level == 0
    with pytest.raises(RefusedError):
        watch.readmit(swimwear)


def test_the_operator_tightens_what_is_shown() -> None:
    mild = ScoreStub(BUTTOCKS_EXPOSED=0.3)
    tight = Policy(thresholds={(1, "bust_or_buttocks"): 0.3})
    assert isinstance(bounded(Bounds(), mild).screen(PICTURE, 1), Cleared)
    assert isinstance(bounded(Bounds(), mild, tight).screen(PICTURE, 1), Discarded)


def test_who_sees_mosaics_only() -> None:
    watch, forced = bounded(Bounds()), bounded(Bounds(), policy=Policy(mosaic_previews=True))
    assert not watch.mosaics(SESSION)
    assert watch.mosaics(Session(id="a", remote=True))
    assert forced.mosaics(SESSION)
    frame = noisy_frame()
    assert watch.screen_preview(frame, 0).data == frame
    assert blocks(watch.screen_preview(frame, 0, mosaic=True).data) == MOSAIC * MOSAIC


def test_what_the_tokenizer_made_of_the_prompts_is_checked_again() -> None:
    watch = guard()
    admitted = watch.admit(asks(prompt="a chair"), SESSION)
    watch.check_decoded(admitted, Texts(("a chair",), ("quandle",)))
    watch.check_decoded(admitted, Texts(("a chair",)))
    with pytest.raises(RefusedError, match=REFUSED):
        watch.check_decoded(admitted, Texts(("a quandle",)))

    unguided = watch.admit(asks(prompt="a chair", cfg=1.0), SESSION)
    with pytest.raises(RefusedError):
        watch.check_decoded(unguided, Texts(("a chair",), ("quandle",)))

    weighted = watch.admit(asks(prompt="a chair", negative_prompt="(chair:-1)"), SESSION)
    with pytest.raises(RefusedError):
        watch.check_decoded(weighted, Texts(("a chair",), ("quandle",)))

    steered = watch.admit(asks(prompt="a chair", init="0" * 64), SESSION)
    with pytest.raises(RefusedError):
        watch.check_decoded(steered, Texts(("a chair",), ("torp",)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_cleared_picture_is_exactly_the_bytes_that_were_checked(kind: str) -> None:
    data = picture_bytes(kind=kind)
    detector = ScoreStub()
    assert guard(detector).screen(data, 0) == Cleared(data, 0)
    (views,) = detector.seen
    assert len(views) == 4
    assert (
        np.abs(views[0, :240].astype(int).mean(axis=(0, 1)) - decode(data).mean((0, 1))).max() < 2
    )


def test_a_discarded_picture_keeps_nothing() -> None:
    verdict = guard(UNSAFE).screen(PICTURE, 0)
    scores = {"genitalia": 0, "anus": 9, "bust_or_buttocks": 0, "genitalia_share": 9}
    assert verdict == Discarded(0, "picture", scores)
    assert guard(CallStub(failing)).screen(PICTURE, 0) == Discarded(0, "guard", {})
    assert [field.name for field in fields(verdict)] == ["level", "rule", "scores"]


def test_the_level_decides_the_threshold_and_what_is_none_is_strict() -> None:
    mild = ScoreStub(BUTTOCKS_EXPOSED=0.3)
    assert isinstance(guard(mild).screen(PICTURE, 0), Discarded)
    assert guard(mild).screen(PICTURE, 1) == Cleared(PICTURE, 1)
    assert isinstance(guard(mild).screen(PICTURE, True), Discarded)  # pyright: ignore[reportArgumentType]
    assert isinstance(guard(mild).screen(PICTURE, "2"), Discarded)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "data", [b"", b"text", PICTURE[:-30], picture_bytes(kind="JPEG")[:200]], ids=str
)
def test_bytes_that_cannot_be_read_are_discarded(data: bytes) -> None:
    assert isinstance(guard().screen(data, 0), Discarded)


def test_a_picture_brought_in_is_judged_at_the_jobs_level_and_refused_with_its_own_sentence() -> (
    None
):
    mild = guard(ScoreStub(BUTTOCKS_EXPOSED=0.25))
    assert mild.screen(PICTURE, 1) == Cleared(PICTURE, 1)
    with pytest.raises(RefusedError) as caught:
        mild.check_brought(PICTURE, 0, field="init")
    mild.check_brought(PICTURE, 1, field="init")
    with pytest.raises(RefusedError):
        mild.check_brought(PICTURE, 0, field="init")
    assert caught.value.message == BROUGHT_REFUSED
    assert caught.value.field == "init"
    assert not LEXICON.cues(BROUGHT_REFUSED)


@pytest.mark.parametrize("data", [b"", PICTURE[:-30]])
def test_what_was_brought_in_and_cannot_be_judged_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError):
        guard().check_brought(data, 0, field="init")


def test_only_what_has_passed_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "_PASSES_REMEMBERED", 2)
    detector = ScoreStub()
    watch = guard(detector)
    first, second, third = (picture_bytes(width) for width in (20, 24, 28))
    for data in (first, first, second, first, third, second):
        watch.check_brought(data, 0, field="init")
    assert len(detector.seen) == 4, "the second was forgotten for the third"

    detector.by_label["ANUS_EXPOSED"] = 0.9
    watch.check_brought(second, 0, field="init")
    for _ in range(2):
        with pytest.raises(RefusedError):
            watch.check_brought(first, 0, field="init")


def test_the_part_that_is_painted_anew_is_judged_as_its_own_picture() -> None:
    dark = np.zeros((512, 512, 3), np.uint8)
    dark[8:48, 8:48] = 255
    data, region = as_file(dark), Region(8, 8, 48, 48)

    def fears_light(views: Views) -> NDArray[np.float32]:
        scores = zeros(views)
        light = (views > 128).mean(axis=(1, 2, 3)) > 0.02
        scores[light & ((views > 250).mean(axis=(1, 2, 3)) < 0.5), LABELS.index("ANUS_EXPOSED")] = 1
        return scores

    watch = guard(CallStub(fears_light))
    assert watch.screen(data, 0) == Cleared(data, 0)
    watch.check_brought(data, 0, field="init")
    assert isinstance(watch.screen(data, 0, region), Discarded)
    with pytest.raises(RefusedError):
        watch.check_brought(data, 0, field="init", region=region)


def zeros(views: Views) -> NDArray[np.float32]:
    return np.zeros((len(views), len(LABELS)), np.float32)


def failing(views: Views) -> NDArray[np.float32]:
    raise RuntimeError("no answer")


def test_a_guard_that_fails_discards(caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(guard(CallStub(failing)).screen(PICTURE, 0), Discarded)
    assert "no answer" in caplog.text


def test_a_guard_that_takes_too_long_discards() -> None:
    answer = threading.Event()

    def late(views: Views) -> NDArray[np.float32]:
        answer.wait(10)
        return zeros(views)

    slow = guard(CallStub(late), time_limit=0.05)
    assert isinstance(slow.screen(PICTURE, 0), Discarded)
    preview = slow.screen_preview(PICTURE, 0)
    assert preview.data != PICTURE
    answer.set()


def test_an_answer_that_comes_too_late_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter((0.0, 10.1))
    monkeypatch.setattr(guards.time, "monotonic", lambda: next(now))
    assert guard().screen(PICTURE, 0) == Discarded(0, "guard")


def blocks(data: bytes) -> int:
    """Number of clearly different squares in a picture of 12 x 12 squares."""
    pixels = decode(data)
    side = pixels.shape[0] // MOSAIC
    centres = pixels[side // 2 :: side, side // 2 :: side]
    spread = np.abs(
        pixels.reshape(MOSAIC, side, MOSAIC, side, 3).astype(int) - centres[:, None, :, None]
    )
    assert spread.max() < 40, "not one colour inside a square"
    return len(centres) * len(centres[0])


def noisy_frame() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(noise).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def test_a_harmless_preview_is_sent_as_it_is() -> None:
    detector = ScoreStub()
    frame = picture_bytes(kind="JPEG")
    assert guard(detector).screen_preview(frame, 1) == Cleared(frame, 1)
    assert [len(views) for views in detector.seen] == [1]


@pytest.mark.parametrize(
    "detector", [UNSAFE, CallStub(failing), ScoreStub(BUTTOCKS_EXPOSED=float("nan"))]
)
def test_another_preview_becomes_a_coarse_mosaic(detector: Detector) -> None:
    frame = guard(detector).screen_preview(noisy_frame(), 0)
    assert blocks(frame.data) == MOSAIC * MOSAIC
    assert decode(frame.data).shape == (96, 96, 3)


def test_a_preview_is_strict_at_every_level() -> None:
    mild = guard(ScoreStub(BUTTOCKS_EXPOSED=0.25))
    frame = noisy_frame()
    assert mild.screen(frame, 1) == Cleared(frame, 1)
    for level in (0, 1, 2):
        assert mild.screen_preview(frame, level).data != frame


def test_a_preview_that_is_no_picture_becomes_a_grey_one() -> None:
    pixels = decode(guard().screen_preview(b"nothing", 0).data)
    assert pixels.shape == (MOSAIC, MOSAIC, 3)
    assert np.ptp(pixels) == 0


def test_the_self_test_runs_at_first_use_and_every_hour() -> None:
    clock, test = Clock(), SelfTest()
    watch = Guard(SAFE, LEXICON, self_test=test, clock=clock)
    watch.admit(asks(prompt="a chair"), SESSION)
    clock.now += 3599
    watch.screen(PICTURE, 0)
    assert test.runs == 1
    clock.now += 1
    watch.screen(PICTURE, 0)
    assert test.runs == 2
    clock.now -= 10_000
    watch.screen_preview(PICTURE, 0)
    assert test.runs == 3, "a clock that jumps back is no reason to trust"


@pytest.mark.parametrize("error", [GuardError("It sees nothing."), ValueError("shape")])
def test_nothing_is_made_while_the_self_test_fails(error: Exception) -> None:
    clock, test = Clock(), SelfTest()
    watch = Guard(SAFE, LEXICON, self_test=test, clock=clock)
    watch.keep_healthy()
    clock.now += 4000
    test.error = error
    for _ in range(2):
        with pytest.raises(GuardError, match="nothing is made"):
            watch.admit(asks(prompt="a chair"), SESSION)
    assert isinstance(watch.screen(PICTURE, 0), Discarded)
    assert watch.screen_preview(PICTURE, 0).data != PICTURE
    test.error = None
    assert watch.screen(PICTURE, 0) == Cleared(PICTURE, 0)


def test_without_its_parts_there_is_no_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*, threads: int = 1) -> NudeNet:
        return NudeNet(tmp_path / "320n.onnx", threads=threads)

    monkeypatch.setattr(NudeNet, "load", missing)
    with pytest.raises(GuardError, match="detector is missing"):
        Guard.load()


def test_no_unguarded_byte_in_a_thousand_runs_with_faults() -> None:
    random = Random(0)
    now: list[str] = []

    def answer(views: Views) -> NDArray[np.float32]:
        scores = zeros(views)
        one = random.randrange(len(views)), LABELS.index("FEMALE_BREAST_EXPOSED")
        match now[-1]:
            case "raises":
                raise OSError("device lost")
            case "unsafe":
                scores[one] = random.uniform(0.2, 1)
            case "nan":
                scores[one] = np.nan
            case "negative":
                scores[one] = -1
            case "short":
                return scores[:-1]
            case "narrow":
                return scores[:, :-1]
            case "just safe":
                scores[one] = 0.199
            case _:
                pass
        return scores

    watch = guard(CallStub(answer))
    whole = picture_bytes(24, 16)
    for _ in range(1000):
        now.append(
            random.choice(
                ["safe", "just safe", "raises", "unsafe", "nan", "negative", "short", "narrow",
                 "cut"]
            )
        )  # fmt: skip
        data = whole[: random.randrange(len(whole) - 20)] if now[-1] == "cut" else whole
        verdict = watch.screen(data, 0)
        assert isinstance(verdict, Cleared) is (now[-1] in ("safe", "just safe")), now[-1]
    assert len(set(now)) == 9


def as_file(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def shipped() -> Guard:
    return Guard.load()


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (60, 120, 200)])
def test_flat_pictures_pass_the_shipped_guard(shipped: Guard, colour: tuple[int, int, int]) -> None:
    data = as_file(np.full((256, 256, 3), colour, np.uint8))
    assert shipped.screen(data, 0) == Cleared(data, 0)
    assert shipped.screen_preview(data, 0) == Cleared(data, 0)


def test_a_plain_landscape_passes_the_shipped_guard(shipped: Guard) -> None:
    scene = np.empty((256, 384, 3), np.uint8)
    scene[:] = (120, 180, 235)
    scene[150:] = (90, 150, 80)
    scene[100:200, 60:140] = (170, 70, 60)
    y, x = np.mgrid[0:256, 0:384]
    scene[(x - 300) ** 2 + (y - 50) ** 2 < 400] = (250, 230, 120)
    for data in (as_file(scene), as_file(scene.repeat(2, axis=0).repeat(2, axis=1))):
        assert shipped.screen(data, 0) == Cleared(data, 0)


def test_the_shipped_guard_admits_the_examples_of_the_readme(shipped: Guard) -> None:
    for prompt in (
        "a person in a red shirt on a beach at sunset",
        "a person in blue trousers jumping in the snow at night",
    ):
        assert shipped.admit(asks(prompt=prompt), SESSION).level == 0


def test_the_name_of_a_lora_counts_like_a_word_of_the_prompt() -> None:
    assert refused(asks(prompt="a ball", loras=[{"name": "blorpish_v2"}]))
    assert refused(asks(prompt="a wobblekin", loras=[{"name": "styles/plinko-bandle"}]))
    assert not refused(asks(prompt="a ball", loras=[{"name": "blorpish_v2", "enabled": False}]))
    assert not refused(asks(prompt="a ball", loras=[{"name": "paper_cut"}]))
