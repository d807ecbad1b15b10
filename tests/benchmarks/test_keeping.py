from __future__ import annotations

from typing import Any

import pytest

from benchmarks import keeping, keeping_child
from benchmarks.workbench import Workbench

MIB = 1024**2


def test_a_child_switches_with_and_without_room_for_both(bench: Workbench):
    task = {"model": str(bench.random_model), "work": str(bench.work), "switches": 3}
    answer = keeping_child.main(task)
    assert len(answer["resident"]) == len(answer["load"]) == 3
    assert all(held > MIB for held in answer["resident"])
    assert len(answer["back"]) == keeping_child.BACK
    assert max(answer["back"]) < min(answer["load"])


def test_the_rows_say_how_far_memory_strays_and_how_soon_a_kept_one_is_back(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
):
    def run_child(module: str, task: dict[str, Any]) -> dict[str, Any]:
        assert module == "benchmarks.keeping_child"
        assert task["switches"] == keeping.SWITCHES + 2
        return {
            "resident": [50 * MIB, 90 * MIB, 100 * MIB, 107 * MIB, 98 * MIB],
            "load": [1.0, 1.0, 2.0],
            "back": [0.1, 0.3, 0.1],
        }

    monkeypatch.setattr(keeping, "run_child", run_child)
    drift, back = keeping.run(bench)
    assert drift.value == pytest.approx(7.0)
    assert drift.met is False
    assert back.value == pytest.approx(0.1)
    assert back.met
