"""How smoothly a pose is dragged: the work of each frame in the browser, and the gaps between."""

from __future__ import annotations

import bisect
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.browser import driven_page
from benchmarks.figures import Figure, Limit
from benchmarks.measure import BenchmarkError
from benchmarks.workbench import Workbench

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIDE = 512
"""Side of the picture that a pose is drawn for, in pixels."""

FRAME_MS = 16.0
GAP_MS = 17.0
"""One picture of a screen with 60 a second takes 16.7 ms: a gap above that is a dropped one."""

_TASKS = ("devtools.timeline", "disabled-by-default-devtools.timeline")
_FRAME = "FireAnimationFrame"

_OPEN = """async ({ side, count }) => {
  const { editPose } = await import(new URL("page/poseeditor.js", document.baseURI));
  const { STOCK, placed, stockPerson } = await import(
    new URL("page/posestock.js", document.baseURI));
  const people = STOCK.slice(0, count).map((pose, at) => placed(stockPerson(pose), {
    x: (side * (at + 0.5)) / count, y: side / 2, size: 1.4 * side,
  }));
  editPose({ pose: { width: side, height: side, people }, width: side, height: side });
}"""
_WATCH = """() => {
  window.frames_ = [];
  const look = (now) => {
    window.frames_?.push(now);
    if (window.frames_) requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}"""
_SEEN = "() => { const seen = window.frames_; window.frames_ = null; return seen; }"


@dataclass(frozen=True)
class Drag:
    """What was seen of one drag; all in milliseconds.

    Attributes:
        work: Processor time of the page's main thread from one frame to the next: input, script,
            style, layout and painting. What else the machine does meanwhile shows in the gaps.
        gaps: From each frame to the next.
        moves: Moves of the mouse a second.
    """

    work: Sequence[float]
    gaps: Sequence[float]
    moves: float


def run(bench: Workbench) -> list[Figure]:
    """Drags a joint and a whole person with a real mouse, with one and with eight people.

    Raises:
        BenchmarkError: Playwright is not installed.
    """
    figures: list[Figure] = []
    with driven_page(bench.work / "pose-outputs") as driven:
        page = driven.page
        for count in (1, 8):
            page.goto(driven.address)
            page.wait_for_selector("body[data-job]", state="attached")
            page.evaluate(_OPEN, {"side": SIDE, "count": count})
            page.wait_for_selector("dialog.pose .figure")
            for part in ("joint", "person"):
                dragged = drag(driven.browser, page, part, bench.effort.drag_seconds)
                figures += _rows(f"pose editor, {_people(count)}, a {part} dragged", dragged)
    return figures


def drag(browser: Browser, page: Page, part: str, seconds: float) -> Drag:
    """Drags a wrist ("joint") or the first person ("person") round and round.

    Raises:
        BenchmarkError: What was to be dragged did not move.
    """
    session = page.context.new_cdp_session(page)

    def mouse(kind: str, x: float, y: float) -> None:
        event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        session.send("Input.dispatchMouseEvent", event)

    x, y, before = _grip(page, part)
    mouse("mousePressed", x, y)
    mouse("mouseMoved", x + 20, y)
    browser.start_tracing(page=page, categories=[*_TASKS])
    page.evaluate(_WATCH)
    began = perf_counter()
    moves = 0
    # The browser answers once it has taken the move, which is once a frame.
    while (passed := perf_counter() - began) < seconds:
        angle = 2 * math.pi * passed
        mouse("mouseMoved", x + 30 * math.cos(angle), y + 30 * math.sin(angle))
        moves += 1
    frames: list[float] = page.evaluate(_SEEN)
    events: list[dict[str, Any]] = json.loads(browser.stop_tracing())["traceEvents"]
    moved = _grip(page, part)[2] != before
    mouse("mouseReleased", x, y)
    if not moved:
        raise BenchmarkError("The pose editor did not move what was dragged.")
    gaps = [later - earlier for earlier, later in itertools.pairwise(frames)]
    return Drag(work_of_frames(events), gaps, moves / passed)


def work_of_frames(events: Sequence[dict[str, Any]]) -> list[float]:
    """Milliseconds of processor time of the page's main thread from each frame to the next.

    Args:
        events: A trace of Chromium with its tasks and animation frames.
    """
    frames = [event for event in events if event["name"] == _FRAME]
    if not frames:
        raise BenchmarkError("The browser drew no frame.")
    thread = (frames[0]["pid"], frames[0]["tid"])
    tasks = sorted(
        (event["ts"], event.get("tdur", 0))
        for event in events
        if event["name"] == "RunTask" and (event["pid"], event["tid"]) == thread
    )
    starts = [start for start, _ in tasks]
    # A frame begins with the task its animation frames are fired in.
    edges = sorted({bisect.bisect_right(starts, frame["ts"]) - 1 for frame in frames})
    return [
        sum(length for _, length in tasks[first:after]) / 1000
        for first, after in itertools.pairwise(edges)
    ]


def _grip(page: Page, part: str) -> tuple[float, float, str]:
    """Where to take hold of it, in CSS pixels of the window; and where the wrist is drawn."""
    figure = page.locator("dialog.pose .stage .figure").first
    wrist = figure.locator(".joint").nth(4)
    # Between the knees of who stands there is nothing else than the person.
    spots = [wrist] if part == "joint" else [figure.locator(".joint").nth(n) for n in (9, 12)]
    boxes = [box for spot in spots if (box := spot.bounding_box())]
    x = sum(box["x"] + box["width"] / 2 for box in boxes) / len(boxes)
    y = sum(box["y"] + box["height"] / 2 for box in boxes) / len(boxes)
    return x, y, f"{wrist.get_attribute('cx')} {wrist.get_attribute('cy')}"


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count} people"


def _rows(what: str, dragged: Drag) -> list[Figure]:
    spread = f"{len(dragged.work)} frames, {dragged.moves:.0f} moves a second"
    return [
        Figure(
            f"{what}: script, layout and painting of a frame, 95th percentile",
            _most(dragged.work),
            "ms",
            f"median {median(dragged.work):.2f} ms; {spread}",
            Limit(FRAME_MS),
            {"work": dragged.work},
        ),
        Figure(
            f"{what}: from frame to frame, 95th percentile",
            _most(dragged.gaps),
            "ms",
            f"median {median(dragged.gaps):.2f} ms, drawn without a GPU; {spread}",
            Limit(GAP_MS),
            {"gaps": dragged.gaps},
        ),
    ]


def _most(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return quantiles(values, n=20, method="inclusive")[-1]
