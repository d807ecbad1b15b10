from __future__ import annotations

import pytest

from benchmarks import steering
from benchmarks.workbench import Workbench


def test_changes_steps_and_memory_are_measured_beside_peft(bench: Workbench):
    change, *steps, drift = steering.run(bench)
    assert change.asked == steering.ASKED_CHANGE
    assert set(change.samples) == {"ours", "peft", "fused"}
    assert all(value > 0 for values in change.samples.values() for value in values)
    assert "set_adapters" in change.beside
    assert [figure.asked for figure in steps] == [steering.ASKED_STEP] * len(steering.STACKS)
    for figure in steps:
        assert len(figure.samples["ours"]) == len(figure.samples["peft"]) == 1
        assert figure.value == pytest.approx(figure.samples["ours"][0])
    assert drift.asked == steering.ASKED_DRIFT
    assert len(drift.samples["resident"]) == bench.effort.changes
