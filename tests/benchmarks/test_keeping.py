from __future__ import annotations

import shutil
from typing import Any

import pytest

from benchmarks import keeping, keeping_child
from benchmarks.random_models import write_random_model
from benchmarks.workbench import Workbench
from tests.work import models_loaded

MIB = 1024**2


def test_a_child_switches_with_and_without_room_for_both(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
):
    other = bench.random_model.with_name("tiny-other")
    write_random_model(other, bench.effort.shape, seed=1)
    task = {
        "models": str(other.parent),
        "names": [bench.random_model.name, other.name],
        "configs": None,
        "work": str(bench.work),
        "switches": 3,
    }
    loaded = models_loaded(monkeypatch)
    answer = keeping_child.main(task)
    shutil.rmtree(other)
    assert len(answer["resident"]) == len(answer["load"]) == 3
    assert all(held > MIB for held in answer["resident"])
    assert len(answer["back"]) == keeping_child.BACK
    # Each switch without room reads files; with room only the first to each does.
    assert len(loaded) == 3 + 2


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
