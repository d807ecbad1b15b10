"""With things going wrong at random, nothing gets out that was not checked and recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import faults
from benchmarks.faults import FAULTS, Trial
from webui.clearance import Admitted, Cleared
from webui.library.gallery import Gallery
from webui.release import Release

RUNS = range(1_000)


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    trial = Trial(tmp_path)
    yield trial
    trial.close()


def test_nothing_gets_out_unchecked_whatever_goes_wrong(trial: Trial) -> None:
    report = trial.go(RUNS)
    assert report.escaped == []
    assert report.runs == len(RUNS)
    # What is never shown, never withheld or never struck would prove nothing.
    assert min(report.saved, report.withheld, report.previews) > 100
    assert set(report.struck) == set(FAULTS)


def test_the_trial_sees_a_guard_that_lets_everything_through(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cleared(self: Release, picture: bytes, plan: Any, admitted: Admitted) -> Cleared:
        return Cleared(picture, admitted.level)

    monkeypatch.setattr(Release, "check", cleared)
    assert any("should have been withheld" in each for each in trial.go(range(30)).escaped)


def test_the_trial_sees_a_picture_that_is_not_recorded(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Gallery.save

    def twice(self: Gallery, signed: Any, **about: Any) -> Path:
        path = save(self, signed, **about)
        path.with_name("copy.png").write_bytes(signed.data + b"\0")
        return path

    monkeypatch.setattr(Gallery, "save", twice)
    assert any("has no record" in each for each in trial.go(range(30)).escaped)


def test_the_trial_sees_pixels_in_a_temporary_file(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = faults._Run.picture  # pyright: ignore[reportPrivateUsage]

    def leaking(self: Any) -> Any:
        pixels = picture(self)
        (tmp_path / "temporary" / "left").write_bytes(pixels.tobytes())
        return pixels

    monkeypatch.setattr(faults._Run, "picture", leaking)  # pyright: ignore[reportPrivateUsage]
    assert any("left holds pixels" in each for each in trial.go(range(10)).escaped)
