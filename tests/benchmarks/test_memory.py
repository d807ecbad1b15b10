from __future__ import annotations

from typing import Any

import pytest

from benchmarks import memory, memory_child
from benchmarks.recipes import fresh_requests
from benchmarks.workbench import Workbench
from webui.settings import GIB


@pytest.mark.parametrize("side", ["ours", "plain"])
def test_a_child_reports_its_memory_before_and_after_loading_and_at_the_end(
    bench: Workbench, side: str
):
    request = next(fresh_requests("tiny", side=64, steps=1, sampler="Euler"))
    task = {
        "side": side,
        "model": str(bench.random_model),
        "work": str(bench.work / side),
        "request": request.model_dump(),
    }
    answer = memory_child.main(task)
    for moment in ("begun", "loaded", "done"):
        assert 0 < answer[moment]["resident"] <= answer[moment]["peak"]
    assert answer["done"]["peak"] >= answer["begun"]["peak"]
    assert "," in answer["format"]


def test_both_sides_run_the_same_task_in_processes_of_their_own(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
):
    tasks: list[dict[str, Any]] = []
    weights = sum(file.stat().st_size for file in bench.random_model.glob("*/*.safetensors"))

    def run_child(module: str, task: dict[str, Any]) -> dict[str, Any]:
        assert module == "benchmarks.memory_child"
        tasks.append(task)
        peak = {"plain": 4 * GIB, "ours": 4.2 * GIB}[task["side"]]
        return {
            "begun": {"resident": GIB},
            "loaded": {"resident": GIB + 1.05 * weights},
            "done": {"peak": peak},
            "format": "bfloat16, channels_last",
        }

    monkeypatch.setattr(memory, "run_child", run_child)
    peak, copies = memory.run(bench)
    assert [task["side"] for task in tasks] == ["plain", "ours"]
    assert tasks[0] | {"side": ""} == tasks[1] | {"side": ""}
    assert peak.value == pytest.approx(5.0)
    assert peak.met
    assert copies.value == pytest.approx(1.05)
    assert copies.met
