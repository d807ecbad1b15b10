from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.measure import (
    BenchmarkError,
    alternate,
    between,
    give_back_memory,
    memory,
    middle_half,
    ratios,
    run_child,
)

MIB = 1024**2


def test_alternate_turns_the_order_round_and_leaves_out_the_warm_up():
    order: list[str] = []

    def call(name: str) -> Callable[[], int]:
        return lambda: order.append(name) or len(order)

    results = alternate({"a": call("a"), "b": call("b"), "c": call("c")}, rounds=2)
    assert "".join(order) == "abc" + "abc" + "cba"
    assert results == {"a": [4, 9], "b": [5, 8], "c": [6, 7]}


def test_alternate_without_warm_up_runs_each_round_once():
    calls: list[str] = []
    results = alternate({"a": lambda: calls.append("a")}, rounds=3, warm_up=False)
    assert len(calls) == len(results["a"]) == 3


def test_a_drift_that_both_share_leaves_the_ratio_alone():
    drift = np.linspace(1, 3, 9)
    assert ratios(list(1.1 * drift), list(drift)) == pytest.approx([1.1] * 9)


def test_ratios_of_unequal_rounds_are_an_error():
    with pytest.raises(ValueError, match="argument 2"):
        ratios([1.0], [1.0, 2.0])


@pytest.mark.parametrize("values", [[4.0], [3.0, 1.0], [5.0, 1.0, 4.0, 2.0, 3.0, 9.0, 7.0]])
def test_the_middle_half_lies_between_the_quartiles(values: list[float]):
    assert middle_half(values) == pytest.approx(np.quantile(values, [0.25, 0.75]))


def test_between_gives_one_time_fewer_than_ends():
    assert between([1.0, 1.5, 3.0]) == (0.5, 1.5)
    assert between([]) == ()


def test_what_is_free_of_the_heap_goes_back_to_the_system():
    blocks = [bytes(60_000) for _ in range(2_000)]
    full = memory()["resident"]
    # What lies at the end keeps the heap as it is.
    del blocks[:-1]
    give_back_memory()
    assert memory()["resident"] < full - 60 * MIB


def test_memory_sees_what_this_process_takes_and_keeps_the_peak():
    before = memory()
    # Of the allocator's memory it may get what others gave back, and give none back itself.
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as taken:
        taken.write(b"x" * (64 * MIB))
        during = memory()
    after = memory()
    assert during["private"] - before["private"] > 60 * MIB
    assert after["resident"] < during["resident"] - 60 * MIB
    assert after["peak"] >= during["resident"] - MIB


def test_a_child_answers_with_its_last_line():
    assert run_child("tests.benchmarks.echo_child", {"fail": False, "n": 3})["n"] == 3


def test_a_child_that_fails_is_an_error_with_its_reason():
    with pytest.raises(BenchmarkError, match="the last line says why"):
        run_child("tests.benchmarks.echo_child", {"fail": True})
