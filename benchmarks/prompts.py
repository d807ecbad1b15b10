# ruff: noqa: RUF001
# Look-alike letters are what is tested here.
"""The prompt's guard: what it sees through, what it takes for something it is not, what it costs.

What is to be found are placeholder words in every disguise; what must not be found are the shipped
presets and word lists, the captions of the embedded model, and sentences put together by lot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from random import Random
from statistics import median
from time import thread_time

from benchmarks.disguises import DISGUISES
from benchmarks.figures import Figure, Limit
from benchmarks.workbench import Workbench
from webui.errors import BadRequestError
from webui.postcard.captions import caption
from webui.postcard.scenes import random_scene
from webui.request import MAX_PROMPT_CHARACTERS
from webui.safety.normaliser import Normaliser
from webui.safety.policy import Cue
from webui.safety.prompts import FOLDER, Lexicon, read_terms
from webui.settings import ROOT

ASKED_CAUGHT = Limit(95, most=False)
ASKED_HITS = Limit(0.1)
ASKED_CLAMPED = Limit(2)
ASKED_P99 = Limit(10)
ASKED_WORST = Limit(60)

PLACEHOLDERS = ("blorpish", "quandle", "snizzler", "frumpet", "wobblekin", "deglimmer")
REFUSING: frozenset[Cue] = frozenset({"sexual", "nudity", "swimwear", "undress"})
CLAMPING: frozenset[Cue] = frozenset({"youth", "person", "fuzzy"})

_SUBJECTS = (
    "the therapist's office",
    "an assassin's hidden lodge",
    "a shuttlecock and a racket",
    "a peacock on a cumulus cloud",
    "a hotel in Scunthorpe",
    "a pier in Sussex, an essay on Essex",
    "Dickens at his desk",
    "a cockpit at night",
    "shiitake and matsutake mushrooms",
    "an assembled cassette player",
    "a robin, the redbreast",
    "a breastplate of bronze",
    "a sperm whale off the Azores",
    "an analyst with a button accordion",
    "a glass compass, a titanium sextant",
    "a wooden dresser, a green dress",
    "two people walking abreast",
    "parties and beasts, ripples and grapes",
    "ein Haus am See, Märchen und Mädel",
    "un vieux village au bord de la mer",
    "una casa blanca junto al mar",
    "осенний лес",
    "夕焼けの海",
    "摩托一辆",
)
_EXTREMES = (
    "z", "zo", "q u a n d l e ", "blorpis ", "%2571", "\ufdfa", "山", "👙", "п1р(р:1.2)%41", "1 ",
    "(a:1.2)", "<", "(", "a:  ", "BREAK ", "aged of ", "&amp;", "\u0301", "remove ", "a1@", "Ã©",
    "Анна ", "Xq Xz ", "s|e!", "😀a",
)  # fmt: skip
"""Repeated to the longest prompt, each makes another part of the guard work hardest."""


def run(bench: Workbench) -> list[Figure]:
    """Reads some ten thousand texts."""
    shipped = Lexicon.load()
    lines = benign_lines(bench.effort.lines)
    return [*_grid(), *_innocent(shipped, lines), *_speed(shipped, lines)]


def benign_lines(count: int) -> list[str]:
    """What people ask for: whole shipped prompts, captions, and sentences by lot."""
    random = Random(11)
    presets = [text for text in _preset_texts() if text]
    lists = [read_terms(file) for file in sorted((ROOT / "presets" / "words").glob("*.txt"))]
    lines = [*presets, *chain(*lists)]
    while len(lines) < count:
        words = ", ".join(random.choice(entries) for entries in random.sample(lists, 3))
        lines.append(f"{random.choice(_SUBJECTS)}, {words}")
        lines.append(caption(random_scene(random), random))
        lines.append(random.choice(presets).replace("{prompt}", random.choice(_SUBJECTS)))
    return lines[:count]


def _preset_texts() -> Iterator[str]:
    for file in sorted((ROOT / "presets").glob("*.json")):
        preset = json.loads(file.read_text(encoding="utf-8"))
        yield from (preset["name"], preset["about"])
        yield from (preset["request"].get(field, "") for field in ("prompt", "negative_prompt"))


def _grid() -> Iterator[Figure]:
    placeholders = Lexicon(
        {"sexual": PLACEHOLDERS},
        read_terms(FOLDER / "words" / "benign.txt"),
        Normaliser.load(FOLDER / "lookalikes.txt"),
        common=read_terms(FOLDER / "words" / "common.txt"),
    )
    grid = [(term, name) for term in PLACEHOLDERS for name in DISGUISES]
    missed = [
        name
        for term, name in grid
        if "sexual" not in placeholders.cues(f"a photo of a {DISGUISES[name](term)} on a hill")
    ]
    yield Figure(
        f"prompt guard: {len(PLACEHOLDERS)} placeholder words in {len(DISGUISES)} disguises, found",
        100 * (1 - len(missed) / len(grid)),
        "%",
        f"{len(grid) - len(missed)} of {len(grid)}; missed: {', '.join(missed) or 'none'}",
        ASKED_CAUGHT,
    )
    swapped = [f"a photo of a {t[0]}{t[2]}{t[1]}{t[3:]} on a hill" for t in PLACEHOLDERS]
    found = sum("fuzzy" in placeholders.cues(text) for text in swapped)
    yield Figure(
        f"prompt guard: {len(swapped)} placeholder words with two letters swapped, held at strict",
        100 * found / len(swapped),
        "%",
        f"{found} of {len(swapped)}",
    )


def _innocent(shipped: Lexicon, lines: list[str]) -> Iterator[Figure]:
    cues = [shipped.cues(line) for line in lines]
    for what, kind, asked in (
        ("taken for what is refused", REFUSING, ASKED_HITS),
        ("held at strict", CLAMPING, ASKED_CLAMPED),
    ):
        hits = [line for line, found in zip(lines, cues, strict=True) if found & kind]
        shown = f"; such as {hits[0]!r}" if hits else ""
        yield Figure(
            f"prompt guard, {len(lines):,} innocent prompts: {what}",
            100 * len(hits) / len(lines),
            "%",
            f"{len(hits)} of them{shown}",
            asked,
        )


def _speed(shipped: Lexicon, lines: list[str]) -> Iterator[Figure]:
    times = sorted(_milliseconds(shipped, line) for line in lines)
    worst = {unit: _worst(shipped, unit) for unit in _EXTREMES}
    slowest = max(worst, key=lambda unit: worst[unit])
    yield Figure(
        f"prompt guard, {len(lines):,} innocent prompts: time, 99 of 100 within",
        times[len(times) * 99 // 100],
        "ms",
        f"median {median(times):.2f} ms, most {times[-1]:.1f} ms",
        ASKED_P99,
        {"times": times},
    )
    yield Figure(
        f"prompt guard, {len(worst)} kinds of the longest prompt: most time",
        worst[slowest],
        "ms",
        f"{slowest!r} repeated to {MAX_PROMPT_CHARACTERS:,} characters",
        ASKED_WORST,
        {"times": list(worst.values())},
    )


def _worst(shipped: Lexicon, unit: str) -> float:
    text = (unit * MAX_PROMPT_CHARACTERS)[:MAX_PROMPT_CHARACTERS]
    return min(_milliseconds(shipped, text) for _ in range(3))


def _milliseconds(shipped: Lexicon, text: str) -> float:
    began = thread_time()
    # A text that is refused for its length has taken its time too.
    with suppress(BadRequestError):
        shipped.cues(text)
    return (thread_time() - began) * 1000
