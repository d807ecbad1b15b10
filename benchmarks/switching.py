"""From one way of making a picture to another, over one set of components: time and memory."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from PIL import Image

from benchmarks.figures import Figure, Limit, in_unit
from benchmarks.measure import Run, give_back_memory, memory
from benchmarks.ours import Ours
from benchmarks.random_models import ModelShape, write_random_controlnet
from webui.events import StageName
from webui.poses import Pose
from webui.request import ControlChoice, GenerationRequest

SWITCHES = 40
ASKED_SWITCH = Limit(50.0)
ASKED_MEMORY = Limit(50.0)
ASKED_DRIFT = Limit(1.0)

_CONTROLNET = "random-pose"
_MIB = 1024**2
_SETTLING = 3
"""How often the first way is gone before memory is first looked at."""

_SHARED: tuple[StageName, ...] = ("load", "text", "init", "mask", "control", "hint")
"""Stages whose results stay the same from one picture to the next."""


def measure(ours: Ours, model: Path, shape: ModelShape, *, side: int) -> list[Figure]:
    """Text to picture, picture to picture, inpainting and a ControlNet in turns.

    Args:
        model: The folder of the random model of that shape; a ControlNet is put beside it.
        side: Side of the pictures in pixels.
    """
    write_random_controlnet(model.parent / "controlnet" / _CONTROLNET, shape)
    ways = _ways(ours, model.name, side)
    seeds = itertools.count(1)
    first, *others = ways.values()
    for _ in range(_SETTLING):
        _made(ours, first, next(seeds))
    before = _held()
    for way in others:
        _made(ours, way, next(seeds))
    networks = ours.networks(ways["ControlNet"])
    weights = sum(parameter.nbytes for parameter in networks[-1].parameters())
    taken = (_held() - before - weights) / _MIB
    for way in ways.values():
        _made(ours, way, next(seeds))
    beyond: dict[str, list[float]] = {name: [] for name in ways}
    resident: list[float] = []
    with _watched(networks) as clock:
        for name in itertools.islice(_switches(list(ways)), SWITCHES):
            beyond[name].append(_beyond(ours, ways[name], next(seeds), clock))
            resident.append(memory()["resident"] / _MIB)
    return _figures(f"{shape.name}, {side} px", beyond, taken, resident)


def _ways(ours: Ours, model: str, side: int) -> dict[str, GenerationRequest]:
    plain = GenerationRequest(
        model=model,
        prompt="a person in a red shirt on a beach",
        negative_prompt="grey, flat",
        width=side,
        height=side,
        steps=1,
        cfg=5,
        sampler="Euler",
    )
    ramp = Image.linear_gradient("L").resize((side, side))
    init = ours.bring(Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180))))
    mask = Image.new("L", (side, side))
    mask.paste(255, (side // 4, side // 4, side - side // 4, side - side // 4))
    middle = side / 2
    person = tuple((middle, (joint + 1) * side / 20, True) for joint in range(18))
    pose = Pose(width=side, height=side, people=(person,))
    begun = plain.model_copy(update={"init": init, "strength": 1.0})
    return {
        "text to picture": plain,
        "picture to picture": begun,
        "inpainting": begun.model_copy(update={"mask": ours.bring(mask, kind="mask")}),
        "ControlNet": plain.model_copy(
            update={"controls": (ControlChoice(pose=pose, model=_CONTROLNET),)}
        ),
    }


def _switches(names: list[str]) -> Iterator[str]:
    """Every way after every other one, over and over."""
    return itertools.cycle(itertools.chain.from_iterable(itertools.combinations(names, 2)))


def _held() -> int:
    """Bytes of memory without what is free of the heap, in which all of this could hide."""
    give_back_memory()
    return memory()["resident"]


def _made(ours: Ours, way: GenerationRequest, seed: int) -> Run:
    return ours.run(way.model_copy(update={"seed": seed}), may_reuse=_SHARED)


class _Clock:
    """Sums the time within the networks; one that is called by another counts once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._began = 0.0

    def begins(self, *_: object) -> None:
        """A network is called."""
        if self._depth == 0:
            self._began = perf_counter()
        self._depth += 1

    def ends(self, *_: object) -> None:
        """It has its result."""
        self._depth -= 1
        if self._depth == 0:
            self.seconds += perf_counter() - self._began


@contextmanager
def _watched(networks: list[torch.nn.Module]) -> Generator[_Clock]:
    clock = _Clock()
    handles: list[Any] = []
    for network in networks:
        # Of the VAE only its two halves are called.
        halves = [getattr(network, half, None) for half in ("encoder", "decoder")]
        for part in [half for half in halves if half is not None] or [network]:
            handles += [
                part.register_forward_pre_hook(clock.begins, prepend=True),
                part.register_forward_hook(clock.ends),
            ]
    try:
        yield clock
    finally:
        for handle in handles:
            handle.remove()


def _beyond(ours: Ours, way: GenerationRequest, seed: int, clock: _Clock) -> float:
    """Seconds that a picture takes beside the networks, its check and its saving."""
    before = clock.seconds
    run = _made(ours, way, seed)
    work = clock.seconds - before
    return run.whole - work - run.stages["check"] - run.stages.get("save", 0.0)


def _figures(
    name: str, beyond: Mapping[str, list[float]], taken: float, resident: list[float]
) -> list[Figure]:
    each = {way: median(took) * 1000 for way, took in beyond.items()}
    longest = max(max(took) for took in beyond.values()) * 1000
    medians = ", ".join(f"{way} {in_unit(took, 'ms')}" for way, took in each.items())
    return [
        Figure(
            f"{name}: a picture in another mode than the last, beside networks, check and saving",
            max(each.values()),
            "ms",
            f"{medians}; {len(resident)} switches, the longest {in_unit(longest, 'ms')}",
            ASKED_SWITCH,
            {way: [one * 1000 for one in took] for way, took in beyond.items()},
        ),
        Figure(
            f"{name}: memory that the other modes take, the ControlNet's weights aside",
            taken,
            "MiB",
            "picture to picture, inpainting and ControlNet after text to picture",
            ASKED_MEMORY,
        ),
        Figure(
            f"{name}: growth of memory over {len(resident)} switches of the mode",
            abs(resident[-1] / resident[0] - 1) * 100,
            "%",
            f"MiB: {resident[0]:.0f} to {resident[-1]:.0f}",
            ASKED_DRIFT,
            {"resident": resident},
        ),
    ]
