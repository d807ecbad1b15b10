"""Pictures of `bench models` in a fresh process, of one side or of several in turns, step by step.

Reads its task as JSON on standard input and answers with one line of JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from benchmarks.measure import BenchmarkError, memory
from benchmarks.model_files import import_parts, pipeline_of
from webui.generation.devices import Device, Layout, choose_device
from webui.request import GenerationRequest, parse_request
from webui.settings import DeviceName


class Mark(NamedTuple):
    """A moment, by the clock and by the processor time that the process had used, in seconds."""

    wall: float
    processor: float

    @classmethod
    def now(cls, device: Device) -> Mark:
        """This one, when the device has done what it was told."""
        if device.platform in ("CUDA", "ROCm"):
            torch.cuda.synchronize()
        return cls(time.perf_counter(), time.process_time())


Paint = Callable[[GenerationRequest, list[Mark]], str | None]
"""Makes a picture of a loaded model, adds the ends of the steps and of the decoding to the marks,
and gives the picture's file; None: the first step was enough."""


def main(task: dict[str, Any]) -> dict[str, Any]:
    """Makes pictures one after the other.

    Args:
        task: `turns`: for each picture its `side` ("ours"; "plain": diffusers in its own memory
            layout; "same": in ours) and its `request`. `models`: the file or folder of each side.
            `configs`, `config`: folder of configurations, the model's name there. `work`: an empty
            folder. `device`. `whole`: whether it goes on to the pictures, or ends with their first
            steps.

    Returns:
        `turns`: for each `wall` and `processor`: seconds to the end of the first step (of a side's
        first turn with the loading), of each further step, and of the decoding, if it is whole;
        `picture`: its file, or None. `peak`: most bytes of memory. `graphics`: most bytes of the
        GPU's, or None. `format`: what the first turn was computed in.
    """
    from webui.generation.quiet import quiet_libraries

    quiet_libraries()
    device = choose_device(cast(DeviceName, task["device"]))
    import_parts(Path(task["configs"]) / task["config"])
    sides: dict[str, Paint] = {}
    turns: list[dict[str, Any]] = []
    with ExitStack() as stack:
        for turn in task["turns"]:
            side, request = turn["side"], parse_request(turn["request"])
            marks = [Mark.now(device)]
            if side not in sides:
                load = _ours if side == "ours" else _plain
                sides[side] = load(task, device, side, request, stack)
            picture = sides[side](request, marks)
            turns.append(
                {
                    "side": side,
                    "wall": [b.wall - a.wall for a, b in itertools.pairwise(marks)],
                    "processor": [b.processor - a.processor for a, b in itertools.pairwise(marks)],
                    "picture": picture,
                }
            )
    on_gpu = device.platform in ("CUDA", "ROCm")
    return {
        "turns": turns,
        "peak": memory()["peak"],
        "graphics": torch.cuda.max_memory_allocated() if on_gpu else None,
        "format": f"{device.dtype_name}, {_layout(task['turns'][0]['side'], device)}",
    }


def _ours(
    task: dict[str, Any], device: Device, side: str, _: GenerationRequest, stack: ExitStack
) -> Paint:
    from benchmarks.ours import Ours
    from webui.events import Event

    file = Path(task["models"][side])
    ours = Ours(device, (file.parent,), Path(task["work"]), Path(task["configs"]))
    stack.enter_context(ours)

    def paint(request: GenerationRequest, marks: list[Mark]) -> str | None:
        events = cast(Generator[Event], ours.events(request))
        picture = _watch(events, device, marks, whole=task["whole"])
        events.close()
        return picture

    return paint


def _watch(events: Iterator[Any], device: Device, marks: list[Mark], *, whole: bool) -> str | None:
    from webui.events import Failed, Finished, Saved, StageDone, Step, Withheld

    picture: str | None = None
    for event in events:
        match event:
            case Step():
                marks.append(Mark.now(device))
                if not whole:
                    return None
            case StageDone(name="decode"):
                marks.append(Mark.now(device))
            case Saved():
                picture = event.path
            case Withheld():
                raise BenchmarkError("The content filter has withheld the random picture.")
            case Failed():
                raise BenchmarkError(f"The engine failed: {event.message}")
            case Finished():
                return picture
            case _:
                pass
    raise BenchmarkError("The engine stopped before the picture was done.")


class _EnoughError(Exception):
    """Leaves the pipeline's loop after the first step."""


def _plain(
    task: dict[str, Any], device: Device, side: str, first: GenerationRequest, _: ExitStack
) -> Paint:
    from benchmarks.plain import load_any, plain_picture

    pipe = load_any(
        pipeline_of(Path(task["configs"]) / task["config"]),
        Path(task["models"][side]),
        first,
        dtype=device.dtype,
        layout=_layout(side, device),
        device=device.name,
    )
    numbers = itertools.count()

    def paint(request: GenerationRequest, marks: list[Mark]) -> str | None:
        def on_step_end(_: object, __: int, ___: int, tensors: dict[str, Any]) -> dict[str, Any]:
            marks.append(Mark.now(device))
            if not task["whole"]:
                raise _EnoughError
            return tensors

        try:
            picture = plain_picture(pipe, request, on_step_end)
        except _EnoughError:
            return None
        marks.append(Mark.now(device))
        file = Path(task["work"]) / f"{side}-{next(numbers)}.png"
        picture.save(file)
        return str(file)

    return paint


def _layout(side: str, device: Device) -> Layout:
    return "contiguous" if side == "plain" else device.layout


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
