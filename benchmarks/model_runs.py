"""From a single file to the first step, a step, and memory at most, beside plain diffusers."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from benchmarks.figures import Figure, Limit, in_unit
from benchmarks.measure import alternate, middle_half, ratios, run_child
from benchmarks.model_files import let_go, read_through
from benchmarks.overhead import require_same_picture
from benchmarks.recipes import fresh_requests
from webui.request import GenerationRequest
from webui.settings import GIB, DeviceName

ASKED_LOAD = Limit(1.3)
ASKED_STEP = Limit(2.0)
ASKED_PEAK = Limit(5.0)

CFG = 7.0
Runs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Case:
    """A model in both layouts, and how it is measured.

    Attributes:
        config: Its name in the folder `configs`.
        single, folder: The same weights.
        work: Folder for what the runs leave.
        steps: Denoising steps of a picture.
        rounds: How often each side is loaded, and how many pictures it makes in turns.
    """

    name: str
    config: str
    configs: Path
    single: Path
    folder: Path
    work: Path
    side: int
    steps: int
    rounds: int
    device: DeviceName = "auto"

    def requests(self, steps: int) -> Iterator[GenerationRequest]:
        """New ones without end, each for one picture of the model."""
        for one in fresh_requests(self.name, side=self.side, steps=steps, sampler="Euler"):
            yield one.model_copy(update={"cfg": CFG})

    def files(self, side: str) -> tuple[Path, list[Path]]:
        """What a side is given to load, and the files that it reads of it."""
        if side == "ours":
            return self.single, [self.single]
        return self.folder, sorted(self.folder.glob("*/*.safetensors"))


def measure(case: Case, *, load: bool, steps: bool) -> list[Figure]:
    """What loading takes and how much memory a picture, in processes of one side; then the steps.

    Of two processes that do the same one may be faster by more than what is asked for here, as
    their memory happens to lie: the steps of both sides are taken in turns in one process.
    """
    figures: list[Figure] = []
    sides = ["ours"] + ["same"] * steps + ["plain"] * load
    runs: dict[str, list[dict[str, Any]]] = alternate(
        {side: lambda side=side: _alone(case, side, whole=steps) for side in sides},
        case.rounds,
        warm_up=False,
    )
    if load:
        figures.append(_load_figure(case, runs))
    if steps:
        turns = _in_turns(case)
        figures += [*_step_figures(case, turns), _peak_figure(case, runs["ours"], runs["same"])]
    return figures


def _alone(case: Case, side: str, *, whole: bool) -> dict[str, Any]:
    """A fresh process that makes the first step of a picture, or a picture of one step.

    Before it the side's files are read through and the other side's are dropped, so that each finds
    its own in the system's memory and nothing else.
    """
    # Plain diffusers in its own layout is there for the loading alone.
    whole = whole and side != "plain"
    let_go(case.files("plain" if side == "ours" else "ours")[1])
    read_through(case.files(side)[1])
    answer = _run(case, [(side, next(case.requests(1)))], whole=whole)
    return answer | answer["turns"][0]


def _in_turns(case: Case) -> list[dict[str, Any]]:
    """Pictures of both sides in one process, the same by both, the first who begins changing."""
    asked = [next(case.requests(1)), *itertools.islice(case.requests(case.steps), case.rounds)]
    turns = [
        (side, request)
        for number, request in enumerate(asked)
        for side in (("ours", "same") if number % 2 == 0 else ("same", "ours"))
    ]
    return _run(case, turns, whole=True)["turns"]


def _run(
    case: Case, turns: Sequence[tuple[str, GenerationRequest]], *, whole: bool
) -> dict[str, Any]:
    work = Path(tempfile.mkdtemp(prefix="run-", dir=case.work))
    return run_child(
        "benchmarks.model_runs_child",
        {
            "turns": [
                {"side": side, "request": request.model_dump(mode="json")}
                for side, request in turns
            ],
            "models": {side: str(case.files(side)[0]) for side, _ in turns},
            "configs": str(case.configs),
            "config": case.config,
            "work": str(work),
            "device": case.device,
            "whole": whole,
        },
    )


def _check_pictures(ours: Mapping[str, Any], same: Mapping[str, Any]) -> None:
    """Raises where the two sides have not done the same work.

    Raises:
        BenchmarkError: Their pictures differ by more than rounding.
    """
    a, b = (Image.open(Path(run["picture"])) for run in (ours, same))
    require_same_picture(a, b)


def _load_figure(case: Case, runs: Mapping[str, Runs]) -> Figure:
    walls = {side: _firsts(each, "wall") for side, each in runs.items()}
    processor = {side: _firsts(each, "processor") for side, each in runs.items()}
    ours, plain = walls["ours"], walls["plain"]
    times = ratios(ours, plain)
    low, high = middle_half(times)
    same = ""
    if "same" in walls:
        same = f" ({in_unit(median(walls['same']), 's')} in our layout)"
    busy = median(ratios(processor["ours"], processor["plain"]))
    return Figure(
        f"{case.name}, {case.side} px: single file to the end of the first step, over plain"
        " diffusers from a folder",
        median(times),
        "x",
        f"{in_unit(median(ours), 's')} against {in_unit(median(plain), 's')}{same}; processor time"
        f" {in_unit(busy, 'x')}; {_what_is_run(runs)}, imports done, files in the system's memory;"
        f" {len(times)} processes each, {low:.2f} to {high:.2f} x",
        ASKED_LOAD,
        {**walls, **{f"{side} processor": each for side, each in processor.items()}},
    )


def _step_figures(case: Case, turns: Runs) -> Iterator[Figure]:
    """Of all turns but the first of each side, which warm up.

    Raises:
        BenchmarkError: The two sides have not done the same work.
    """
    ours, same = ([turn for turn in turns if turn["side"] == side][1:] for side in ("ours", "same"))
    for a, b in zip(ours, same, strict=True):
        _check_pictures(a, b)
    for what, part in (("a step with CFG", slice(1, -1)), ("VAE decoding", slice(-1, None))):
        walls, busy = (
            [[t for turn in side for t in turn[clock][part]] for side in (ours, same)]
            for clock in ("wall", "processor")
        )
        percent = [(ratio - 1) * 100 for ratio in ratios(*walls)]
        low, high = middle_half(percent)
        more = (median(ratios(*busy)) - 1) * 100
        yield Figure(
            f"{case.name}, {case.side} px: {what}, from the single file, over plain diffusers in"
            " the same layout",
            median(percent),
            "%",
            f"{in_unit(median(walls[0]), 's')} against {in_unit(median(walls[1]), 's')}; processor"
            f" time {in_unit(more, '%')}; {len(percent)} times in turns in one process, middle half"
            f" {low:.1f} to {high:.1f} %",
            ASKED_STEP,
            {
                "ours": walls[0],
                "same": walls[1],
                "ours processor": busy[0],
                "same processor": busy[1],
            },
        )


def _peak_figure(case: Case, ours: Runs, same: Runs) -> Figure:
    memory = "graphics" if ours[0]["graphics"] is not None else "peak"
    peaks, bare = ([run[memory] / GIB for run in side] for side in (ours, same))
    more = [(ratio - 1) * 100 for ratio in ratios(peaks, bare)]
    return Figure(
        f"{case.name}, {case.side} px: most memory up to a picture, from the single file, over"
        " plain diffusers",
        median(more),
        "%",
        f"{in_unit(median(peaks), 'GiB')} against {in_unit(median(bare), 'GiB')}"
        f"{' of the GPU' if memory == 'graphics' else ', mapped files included'};"
        f" {_what_is_run({'ours': ours})}; {len(more)} processes each",
        ASKED_PEAK,
        {"ours": peaks, "plain": bare},
    )


def _firsts(runs: Runs, clock: str) -> list[float]:
    return [run[clock][0] for run in runs]


def _what_is_run(runs: Mapping[str, Runs]) -> str:
    return f"fp16 weights in {runs['ours'][0]['format']}"
