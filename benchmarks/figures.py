"""One measured number beside what was asked for, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from benchmarks.measure import middle_half, ratios

Unit = Literal["%", "s", "ms", "x", "GiB", "MiB", "dB", "kB", "B", "/s", ""]

HEADER = ("what", "measured", "asked", "beside")


@dataclass(frozen=True)
class Limit:
    """What was asked for; `most` is False where larger is better."""

    value: float
    most: bool = True

    def met_by(self, value: float) -> bool:
        """Whether a measured value keeps it."""
        return value <= self.value if self.most else value >= self.value


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        what: What was measured, on what.
        value: A number in `unit`, or words, which have none.
        asked: What it should be; None where nothing was asked.
        beside: What it was compared with, in numbers, and how often it was measured.
        samples: Every single measurement, by name, for the JSON.
    """

    what: str
    value: float | str
    unit: Unit
    beside: str
    asked: Limit | None = None
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])

    @property
    def met(self) -> bool | None:
        """Whether it is as asked; None where nothing was asked."""
        if self.asked is None or isinstance(self.value, str):
            return None
        return self.asked.met_by(self.value)

    def cells(self) -> tuple[str, str, str, str]:
        """The row as text, in the order of `HEADER`."""
        measured = self.value if isinstance(self.value, str) else in_unit(self.value, self.unit)
        if self.met is False:
            measured += " (missed)"
        asked = ""
        if self.asked is not None:
            sign = "<=" if self.asked.most else ">="
            asked = f"{sign} {self.asked.value:g} {self.unit}"
        return self.what, measured, asked, self.beside

    def to_json(self) -> dict[str, object]:
        """The figure as plain data, all measurements included."""
        what, measured, asked, beside = self.cells()
        return {
            "what": what,
            "value": self.value,
            "unit": self.unit,
            "measured": measured,
            "asked": asked,
            "met": self.met,
            "beside": beside,
            "samples": {name: list(values) for name, values in self.samples.items()},
        }


def more_than(
    what: str, ours: Sequence[float], theirs: Sequence[float], *, asked: Limit | None
) -> Figure:
    """How many per cent more ours takes than theirs, by the median of the rounds' ratios."""
    percent = [(ratio - 1) * 100 for ratio in ratios(ours, theirs)]
    low, high = middle_half(percent)
    beside = (
        f"{in_unit(median(ours), 's')} against {in_unit(median(theirs), 's')};"
        f" {len(percent)} times, middle half {low:.1f} to {high:.1f} %"
    )
    samples = {"ours": ours, "plain": theirs}
    return Figure(what, median(percent), "%", beside, asked, samples)


def times_faster(
    what: str, ours: Sequence[float], theirs: Sequence[float], *, asked: Limit | None
) -> Figure:
    """How many times as fast ours is, by the median of the rounds' ratios."""
    times = ratios(theirs, ours)
    low, high = middle_half(times)
    beside = (
        f"{in_unit(median(ours), 's')} against {in_unit(median(theirs), 's')};"
        f" {len(times)} times, middle half {low:.2f} to {high:.2f} x"
    )
    return Figure(what, median(times), "x", beside, asked, {"ours": ours, "plain": theirs})


def seconds(
    what: str, values: Sequence[float], *, asked: Limit | None = None, beside: str = ""
) -> Figure:
    """The median of some times."""
    low, high = middle_half(values)
    spread = f"{len(values)} times, middle half {in_unit(low, 's')} to {in_unit(high, 's')}"
    beside = f"{beside}; {spread}" if beside else spread
    return Figure(what, median(values), "s", beside, asked, {"ours": values})


def in_unit(value: float, unit: Unit) -> str:
    """A value with as many digits as mean something: "1.4 %", "0.032 s", "2.85 x"."""
    digits = {"%": 1, "x": 2, "GiB": 2, "MiB": 1}.get(unit, 3 if abs(value) < 1 else 2)
    return f"{value:.{digits}f} {unit}"


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table, ending in a line break."""
    rows = [HEADER, ("---",) * len(HEADER), *(figure.cells() for figure in figures)]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)
