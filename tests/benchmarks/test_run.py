from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.figures import Figure
from benchmarks.machine import describe
from benchmarks.workbench import Workbench
from webui.errors import BadRequestError


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Every benchmark replaced by one that gives its name; the list says which have run."""
    ran: list[str] = []
    for name in run.NAMES:

        def measured(bench: Workbench, name: str = name) -> list[Figure]:
            ran.append(name)
            return [Figure(name, 1.0, "s", "nothing")]

        monkeypatch.setattr(importlib.import_module(f"benchmarks.{name}"), "run", measured)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results.md")
    return ran


def test_without_names_all_run_and_the_table_is_kept(stand_ins: list[str], tmp_path: Path):
    assert run.run_benchmarks([], tmp_path / "out.json") == 0
    assert stand_ins == list(run.NAMES)
    kept = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| startup | 1.00 s |  | nothing |" in kept
    data = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [figure["what"] for figure in data["figures"]] == list(run.NAMES)
    assert "torch" in data["machine"]["versions"]


def test_some_names_are_printed_and_begin_a_table(
    stand_ins: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run.run_benchmarks(["layout", "memory"], None) == 0
    assert stand_ins == ["memory", "layout"]
    printed = capsys.readouterr().out
    assert "layout: 1.00 s (asked: nothing; nothing)" in printed
    assert "| memory | 1.00 s |  | nothing |" in printed
    run.run_benchmarks(["startup"], None)
    kept = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert all(f"| {row} | 1.00 s |" in kept for row in ("layout", "memory", "startup"))


def test_some_names_renew_their_rows_of_the_kept_table(
    stand_ins: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run.run_benchmarks([], None)

    def anew(bench: Workbench) -> list[Figure]:
        return [Figure("memory", 2.0, "s", "anew")]

    monkeypatch.setattr(importlib.import_module("benchmarks.memory"), "run", anew)
    run.run_benchmarks(["memory"], None)
    kept = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| memory | 2.00 s |  | anew |" in kept
    assert "| startup | 1.00 s |  | nothing |" in kept
    assert kept.count("| memory |") == 1


def test_rows_of_another_machine_are_not_mixed_in(
    stand_ins: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run.run_benchmarks([], None)
    monkeypatch.setattr(run, "describe", lambda: describe() | {"processor": "another"})
    run.run_benchmarks(["memory"], None)
    kept = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| memory | 1.00 s |  | nothing |" in kept
    assert "| startup |" not in kept


def test_an_unknown_name_is_an_error_before_anything_runs(stand_ins: list[str]):
    with pytest.raises(BadRequestError, match="did you mean 'memory'"):
        run.run_benchmarks(["layout", "memry"], None)
    assert stand_ins == []


def test_the_machine_is_described_in_single_lines():
    machine = describe()
    assert {"processor", "units", "memory", "versions", "measured"} <= set(machine)
    assert all(value and "\n" not in value for value in machine.values())
