"""Guards that are missing, exchanged, broken or made to run a program."""

from __future__ import annotations

import io
import json
import pickle
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.safety.models import save_vit
from tests.safety.stubs import (
    CallStub,
    ScoreStub,
    always_healthy,
    picture_bytes,
    placeholder_lexicon,
)
from webui.clearance import Cleared, Discarded
from webui.errors import GuardError
from webui.generator import Session
from webui.levels import LEVELS
from webui.request import GenerationRequest
from webui.safety import detector as module
from webui.safety.classifiers import Classifiers, no_faces
from webui.safety.detector import Detector, NudeNet, Views
from webui.safety.guard import Guard
from webui.safety.policy import highest_level
from webui.safety.slots import WEIGHTS, folder_hash

PICTURE = picture_bytes()


def network_bytes() -> bytes:
    package = find_spec("nudenet")
    assert package is not None
    assert package.submodule_search_locations is not None
    return (Path(package.submodule_search_locations[0]) / "320n.onnx").read_bytes()


def guard(detector: Detector, *, time_limit: float = 10.0) -> Guard:
    return Guard(detector, placeholder_lexicon(), self_test=always_healthy, time_limit=time_limit)


def test_without_the_detector_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(name: str) -> None:
        return None

    monkeypatch.setattr(module, "find_spec", nothing)
    with pytest.raises(GuardError, match="missing"):
        Guard.load()
    with pytest.raises(GuardError, match="missing"):
        NudeNet(tmp_path / "320n.onnx")


def test_a_truncated_or_exchanged_detector_is_not_loaded(tmp_path: Path) -> None:
    file, right = tmp_path / "320n.onnx", network_bytes()
    for wrong in (right[:-1000], b"", right[:5000] + bytes([right[5000] ^ 1]) + right[5001:]):
        file.write_bytes(wrong)
        with pytest.raises(GuardError, match="damaged"):
            NudeNet(file)
    file.write_bytes(right)
    NudeNet(file)


def test_a_detector_that_was_exchanged_in_memory_stops_all_work() -> None:
    watch = Guard(ScoreStub(), placeholder_lexicon())
    with pytest.raises(GuardError):
        watch.admit(GenerationRequest(prompt="a red chair"), Session(id="a"))
    for level in LEVELS:
        assert isinstance(watch.screen(PICTURE, level), Discarded)


@pytest.mark.parametrize(
    "error", [RuntimeError("broken"), MemoryError(), OSError(12, "out of memory"), GuardError("x")]
)
def test_a_guard_that_raises_or_is_out_of_memory_lets_nothing_through(error: Exception) -> None:
    def raises(views: Views) -> NDArray[np.float32]:
        raise error

    watch = guard(CallStub(raises))
    for level in LEVELS:
        assert isinstance(watch.screen(PICTURE, level), Discarded)
    assert watch.screen_preview(PICTURE, 0).data != PICTURE


def test_a_guard_that_hangs_is_not_waited_for_and_lets_nothing_through() -> None:
    ended = threading.Event()

    def hangs(views: Views) -> NDArray[np.float32]:
        ended.wait(30)
        return ScoreStub().scores(views)

    watch = guard(CallStub(hangs), time_limit=0.1)
    try:
        assert isinstance(watch.screen(PICTURE, 0), Discarded)
        assert watch.screen_preview(PICTURE, 0).data != PICTURE
    finally:
        ended.set()


class Program:
    """What a pickle may hold: loading it runs this."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.proof,)


def as_pickle(proof: Path) -> bytes:
    buffer = io.BytesIO()
    pickle.dump({"classifier.weight": Program(proof)}, buffer)
    return buffer.getvalue()


def loaded(folder: Path, *, pin: str | None = None) -> Classifiers:
    trusted = folder_hash("nsfw", folder / "nsfw") if pin is None else pin
    return Classifiers.load(folder, {"nsfw": trusted}, find_faces=no_faces)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "nsfw.ckpt", "weights.PT", "head.pkl"])
def test_a_pickle_as_a_guard_is_refused_and_its_program_not_run(tmp_path: Path, name: str) -> None:
    save_vit(tmp_path / "nsfw", ("normal", "nsfw"))
    (tmp_path / "nsfw" / WEIGHTS).unlink()
    (tmp_path / "nsfw" / name).write_bytes(as_pickle(tmp_path / "proof"))
    classifiers = loaded(tmp_path, pin="0" * 64)
    assert classifiers.loaded == frozenset()
    assert "is a pickle" in classifiers.troubles["nsfw"]
    assert "save_pretrained" in classifiers.troubles["nsfw"]
    assert not (tmp_path / "proof").exists()


def test_a_pickle_renamed_to_safetensors_is_refused_and_its_program_not_run(
    tmp_path: Path,
) -> None:
    save_vit(tmp_path / "nsfw", ("normal", "nsfw"))
    assert loaded(tmp_path).loaded == {"nsfw"}
    (tmp_path / "nsfw" / WEIGHTS).write_bytes(as_pickle(tmp_path / "proof"))
    classifiers = loaded(tmp_path)
    assert classifiers.loaded == frozenset()
    assert "damaged" in classifiers.troubles["nsfw"]
    assert not (tmp_path / "proof").exists()
    pickle.loads(as_pickle(tmp_path / "proof"))  # noqa: S301
    assert (tmp_path / "proof").exists(), "it would have run"


def test_a_guard_cannot_bring_a_program_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "nsfw"
    save_vit(folder, ("normal", "nsfw"))
    about = json.loads((folder / "config.json").read_text())
    del about["model_type"]
    about["auto_map"] = {"AutoConfig": "own.Own", "AutoModelForImageClassification": "own.Own"}
    (folder / "config.json").write_text(json.dumps(about))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'proof')!r}, 'w').close()")
    assert loaded(tmp_path).loaded == frozenset()
    assert not (tmp_path / "proof").exists()


def test_a_guard_whose_files_were_changed_is_not_the_one_that_was_pinned(tmp_path: Path) -> None:
    folder = tmp_path / "nsfw"
    save_vit(folder, ("normal", "nsfw"))
    pin = folder_hash("nsfw", folder)
    for file, old, new in (
        ("config.json", '"0": "normal"', '"0": "nsfw"'),
        ("preprocessor_config.json", '"do_rescale": true', '"do_rescale": false'),
    ):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
        assert loaded(tmp_path, pin=pin).loaded == frozenset(), file
        (folder / file).write_text(text)
    assert loaded(tmp_path, pin=pin).loaded == {"nsfw"}


def test_levels_whose_guards_are_missing_are_not_reached(tmp_path: Path) -> None:
    save_vit(tmp_path / "nsfw", ("normal", "nsfw"))
    classifiers = loaded(tmp_path, pin="0" * 64)
    assert highest_level(frozenset({"detector", "words", *classifiers.loaded})) == 0
    assert set(classifiers.troubles) == {"nsfw", "explicit", "face age", "text"}


def test_a_loaded_guard_that_fails_lets_nothing_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_vit(tmp_path / "nsfw", ("normal", "nsfw"))
    # The weights are drawn by lot, so what this model says of a picture is no matter here.
    classifiers = loaded(tmp_path)
    (model,) = classifiers._pictures.values()  # pyright: ignore[reportPrivateUsage]
    watch = Guard(ScoreStub(), placeholder_lexicon(), classifiers, self_test=always_healthy)

    def harmless(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        return np.tile([0.95, 0.05], (len(pictures), 1))

    def out_of_memory(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        raise MemoryError

    monkeypatch.setattr(classifiers, "check", lambda: None)
    monkeypatch.setattr(model, "shares", harmless)
    assert isinstance(watch.screen(PICTURE, 0), Cleared)
    monkeypatch.setattr(model, "shares", out_of_memory)
    for level in (0, 1):
        assert isinstance(watch.screen(PICTURE, level), Discarded)
