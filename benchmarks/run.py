"""Runs the benchmarks by name, prints every figure as it comes, and keeps the table."""

from __future__ import annotations

import gc
import importlib
import json
import signal
import tempfile
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Protocol, cast

from benchmarks.figures import Figure, table
from benchmarks.machine import describe
from benchmarks.workbench import Effort, ModelsEffort, Workbench
from webui.errors import BadRequestError
from webui.generation.quiet import quiet_libraries
from webui.request import nearest
from webui.settings import ROOT

NAMES = (
    "startup",
    "memory",
    "keeping",
    "models",
    "page",
    "pose_editor",
    "history",
    "postcard",
    "overhead",
    "layout",
    "steering",
    "speed",
    "safety",
)
"""In the order they run: processes of their own first, while this one is still small."""

RESULTS = ROOT / "benchmarks" / "results.md"


class Benchmark(Protocol):
    """What each module named in `NAMES` offers."""

    def run(self, bench: Workbench) -> Iterable[Figure]:
        """Measures; takes from seconds to an hour."""
        ...


def run_benchmarks(
    names: Sequence[str],
    out: Path | None,
    full: ModelsEffort | None = None,
    folder: Path | None = None,
) -> int:
    """Measures, prints, keeps the table in `benchmarks/results.md`; some names renew theirs only.

    What is written besides is gone afterwards, also where this is interrupted or told to end.

    Args:
        names: Benchmarks to run; none: all of them.
        out: File for all measurements as JSON.
        full: How full-size models are measured. Nothing of a quick run is kept.
        folder: Where they are written to; None: where the system keeps temporary files.

    Raises:
        BadRequestError: There is no benchmark of that name.
        BenchmarkError: A measurement would not mean what it says.
    """
    effort = Effort() if full is None else replace(Effort(), full=full)
    with ending(), tempfile.TemporaryDirectory(prefix="easel-bench-", dir=folder) as work:
        bench = Workbench(effort, ROOT / "models", Path(work))
        report = measure(bench, names or NAMES)
    print("\n" + report.to_markdown())
    if out is not None:
        out.write_text(report.to_json(), encoding="utf-8")
    if effort.full.quick:
        return 0
    kept = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    everything = set(report.names) == set(NAMES)
    RESULTS.write_text(
        report.to_markdown() if everything else renewed(kept, report), encoding="utf-8"
    )
    return 0


@contextmanager
def ending() -> Generator[None]:
    """Being told to end (SIGTERM) leaves the block as an interrupt does, so that it is tidied."""

    def end(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def renewed(kept: str, report: Report) -> str:
    """The kept table with the rows that were measured anew, new ones at its end.

    A table of another machine or of other versions gives way to the new one.
    """
    described = [line for line in report.described() if not line.startswith("- measured:")]
    if not set(described) <= set(kept.splitlines()):
        return report.to_markdown()
    rows = {row.split(" | ")[0]: row for row in table(report.figures).splitlines()}
    lines = [rows.pop(line.split(" | ")[0], line) for line in kept.splitlines()]
    return "\n".join([*lines, *rows.values()]) + "\n"


@dataclass(frozen=True)
class Report:
    """What was measured, and on what."""

    names: tuple[str, ...]
    machine: dict[str, str]
    figures: tuple[Figure, ...]

    def to_markdown(self) -> str:
        """The table under the machine's description."""
        return "# Measured\n\n" + "\n".join(self.described()) + "\n\n" + table(self.figures)

    def described(self) -> list[str]:
        """The machine and the versions, a line each."""
        return [f"- {name}: {value}" for name, value in self.machine.items()]

    def to_json(self) -> str:
        """Everything, single measurements included."""
        figures = [figure.to_json() for figure in self.figures]
        return json.dumps({"machine": self.machine, "figures": figures}, indent=1) + "\n"


def measure(bench: Workbench, names: Sequence[str]) -> Report:
    """Runs the named benchmarks on that bench.

    Raises:
        BadRequestError: There is no benchmark of that name; nothing has been run then.
    """
    for name in names:
        if name not in NAMES:
            raise BadRequestError(f"Unknown benchmark {name!r}: {nearest(name, NAMES)}")
    quiet_libraries()
    machine = describe()
    figures: list[Figure] = []
    for name in [name for name in NAMES if name in names]:
        module = cast(Benchmark, importlib.import_module(f"benchmarks.{name}"))
        for figure in module.run(bench):
            what, measured, asked, beside = figure.cells()
            print(f"{what}: {measured} (asked: {asked or 'nothing'}; {beside})", flush=True)
            figures.append(figure)
        gc.collect()
    return Report(tuple(names), machine, tuple(figures))
