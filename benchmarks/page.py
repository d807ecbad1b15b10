"""What a long session costs: the browser tab's memory and the server's over many pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.browser import driven_page
from benchmarks.figures import Figure, Limit
from benchmarks.measure import BenchmarkError
from benchmarks.startup import ENGINE
from benchmarks.workbench import Workbench

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page

WARM_UP = 100
"""Pictures made before the first look: by then everything that is made once has been made."""

MIB = 1024**2


def run(bench: Workbench) -> list[Figure]:
    """Makes pictures by pressing the button, with the embedded model and new seeds.

    Raises:
        BenchmarkError: Playwright is not installed.
    """
    count = bench.effort.generations
    with driven_page(bench.work / "page-outputs") as driven:
        page = driven.page
        page.goto(driven.address)
        page.wait_for_selector("#engine[data-phase=ready]", state="attached")
        page.locator("#input-steps").fill(str(bench.effort.generation_steps))
        session = page.context.new_cdp_session(page)
        press(page, WARM_UP)
        looks = [look(session, driven.server)]
        for _ in range(5):
            press(page, count // 5)
            looks.append(look(session, driven.server))
    return [
        _growth(name, [look[name] for look in looks], count, most)
        for name, most in (
            ("the tab", 10.0),
            ("the server with the page", 1.0),
            ("the engine", 1.0),
        )
    ]


def press(page: Page, times: int) -> None:
    """Makes so many pictures, one after the other."""
    for _ in range(times):
        ended = page.locator("body").get_attribute("data-ended")
        page.locator("#generate").click()
        page.wait_for_selector(f"body[data-job=idle]:not([data-ended='{ended}'])", state="attached")


def look(session: CDPSession, server: int) -> dict[str, float]:
    """Memory in MiB: the tab's JavaScript heap after a collection, and each process's RSS."""
    session.send("HeapProfiler.collectGarbage")
    heap: dict[str, Any] = session.send("Runtime.getHeapUsage")
    process = psutil.Process(server)
    engines = [c for c in process.children() if any(ENGINE in word for word in c.cmdline())]
    if len(engines) != 1:
        raise BenchmarkError("The server has no engine process.")
    return {
        "the tab": heap["usedSize"] / MIB,
        "the server with the page": process.memory_info().rss / MIB,
        "the engine": engines[0].memory_info().rss / MIB,
    }


def _growth(name: str, sizes: Sequence[float], count: int, most: float) -> Figure:
    return Figure(
        f"{count} more pictures made in one tab after {WARM_UP}: growth of memory, {name}",
        100 * (sizes[-1] / sizes[0] - 1),
        "%",
        "MiB: " + ", ".join(f"{size:.1f}" for size in sizes),
        Limit(most),
        {"MiB": list(sizes)},
    )
