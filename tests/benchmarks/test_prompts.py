from __future__ import annotations

from benchmarks import prompts
from benchmarks.workbench import Workbench


def test_the_prompts_guard_is_measured_by_what_it_finds_and_costs(bench: Workbench):
    grid, slips, hits, clamped, usual, worst = prompts.run(bench)
    assert grid.met
    assert slips.value == 100
    assert hits.met
    assert clamped.met
    assert len(usual.samples["times"]) == bench.effort.lines
    assert usual.met
    assert isinstance(worst.value, float)
    assert worst.value > 0


def test_innocent_prompts_are_of_all_kinds_and_as_many_as_asked():
    lines = prompts.benign_lines(5_000)
    assert len(lines) == 5_000
    assert len(set(lines)) > 2_000
    assert any("Scunthorpe" in line for line in lines)
