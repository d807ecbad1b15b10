from __future__ import annotations

import pytest

from benchmarks import guarding, prompts, safety
from benchmarks.figures import Figure
from benchmarks.workbench import Workbench


def test_marks_are_measured_by_what_they_survive_and_cost(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
):
    # What these measure has a test of its own, and takes long.
    read = [Figure("prompts", 1.0, "", "")]

    def run(bench: Workbench) -> list[Figure]:
        return read

    monkeypatch.setattr(prompts, "run", run)
    monkeypatch.setattr(guarding, "SIDES", (64, 128))
    monkeypatch.setattr(guarding, "LOOKS", 1)
    figures = safety.run(bench)
    assert read[0] in figures
    assert sum("picture guard" in figure.what for figure in figures) == 2
    quality, *rest = figures
    assert quality.met
    survival = rest[: len(safety.CHANGES)]
    assert [figure.asked for figure in survival[:3]] == [safety.ASKED_READ] * 3
    assert all(len(figure.samples["bits"]) == bench.effort.marked for figure in survival)
    alarms, chance, trusted, growth, time, *_ = rest[len(safety.CHANGES) :]
    assert (alarms.value, trusted.value) == (0, 100)
    assert float(chance.value) < safety.ASKED_CHANCE.value
    assert growth.met
    assert isinstance(time.value, float)
    # How long things take here says nothing: the machine does other tests, too.
    untimed = [figure for figure in figures if figure.unit not in ("s", "ms")]
    assert all(figure.met is not False for figure in untimed)
    assert [figure.value for figure in untimed if "faults" in figure.what] == [0]
