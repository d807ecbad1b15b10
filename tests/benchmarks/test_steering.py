from __future__ import annotations

from statistics import median

import pytest

from benchmarks import steering, switching
from benchmarks.workbench import Workbench


def test_changes_steps_memory_and_modes_are_measured_beside_peft(bench: Workbench):
    change, one, two, four, drift, *modes = steering.run(bench)
    assert change.asked == steering.ASKED_CHANGE
    assert set(change.samples) == {"ours", "peft", "fused"}
    assert all(value > 0 for values in change.samples.values() for value in values)
    assert "set_adapters" in change.beside
    for figure in (one, two, four):
        assert figure.asked == steering.ASKED_STEP
        assert [len(values) for values in figure.samples.values()] == [2, 1, 1]
        assert figure.value == pytest.approx(sum(figure.samples["ours"]) / 2)
        assert "peft unfused" in figure.beside
        assert "fuse_lora" in figure.beside
    assert drift.asked == steering.ASKED_DRIFT
    assert len(drift.samples["resident"]) == bench.effort.changes
    switch, taken, growth = modes
    assert set(switch.samples) == {
        "text to picture",
        "picture to picture",
        "inpainting",
        "ControlNet",
    }
    assert sum(map(len, switch.samples.values())) == switching.SWITCHES
    assert all(value > 0 for values in switch.samples.values() for value in values)
    assert switch.value == max(median(values) for values in switch.samples.values())
    assert (switch.asked, taken.asked) == (switching.ASKED_SWITCH, switching.ASKED_MEMORY)
    assert len(growth.samples["resident"]) == switching.SWITCHES
