from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import history as benchmark
from benchmarks.measure import BenchmarkError
from benchmarks.workbench import Workbench
from webui.library.history import History
from webui.library.history_query import HistoryQuery
from webui.provenance.indexing import read_for_history


def test_every_figure_is_measured_and_nothing_is_left(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(benchmark, "LARGE", 2)
    monkeypatch.setattr(benchmark, "LARGE_SIDE", 64)
    small = replace(bench, effort=replace(bench.effort, pictures=60), work=tmp_path)
    figures = benchmark.run(small)
    assert len(figures) == 3 + len(benchmark.ASKED)
    assert all(isinstance(figure.value, float) and figure.value > 0 for figure in figures)
    assert figures[0].what == "history: 60 PNG files indexed"
    assert list(tmp_path.iterdir()) == []


def test_the_pictures_are_found_by_what_is_asked(tmp_path: Path):
    benchmark.write_pictures(tmp_path, 1_300)
    benchmark.index_from_nothing(tmp_path)
    with closing(History(tmp_path, read_for_history)) as history:
        (words,) = [asked["search"] for _, asked in benchmark.ASKED if "RED" in str(asked)]
        assert 0 < history.search(HistoryQuery(search=words)).total < 200
        assert history.search(HistoryQuery(matches=benchmark.PRESET)).total == 1_300


def test_pictures_that_are_missing_are_an_error(tmp_path: Path):
    benchmark.write_pictures(tmp_path, 3)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.png").write_bytes(b"")
    with pytest.raises(BenchmarkError, match="Only 3"):
        benchmark.index_from_nothing(tmp_path)
