"""Requests that no cache can answer: prompt, negative prompt and seed are new in each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from webui.request import GenerationRequest, SamplerName

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
PLACES = ("on a beach", "in a forest", "in a city", "in the mountains", "in a meadow")
TIMES = ("by day", "at sunset", "at night")


def fresh_requests(
    model: str, *, side: int, steps: int, sampler: SamplerName
) -> Iterator[GenerationRequest]:
    """Requests for square pictures of `side` pixels, 1,215 of them, at CFG 5."""
    words = itertools.product(TIMES, PLACES, COLOURS, COLOURS)
    for seed, (time, place, shirt, trousers) in enumerate(words, start=1):
        yield GenerationRequest(
            prompt=f"a person in a {shirt} shirt and {trousers} trousers {place} {time}",
            negative_prompt=f"grey, flat, {trousers} shirt, {shirt} trousers, not {place}, {time}",
            width=side,
            height=side,
            steps=steps,
            cfg=5,
            sampler=sampler,
            schedule="normal",
            seed=seed,
            model=model,
        )
