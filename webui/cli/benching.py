"""`bench`: measures beside plain diffusers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from webui.errors import BadRequestError
from webui.request import nearest

Name = TypeVar("Name", bound=str)


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Gives the parser this command's flags."""
    parser.set_defaults(run=_bench)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="benchmarks to run; none: all of them"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON")
    models = parser.add_argument_group("what `models` measures")
    models.add_argument(
        "--only",
        metavar="PART,...",
        help="some of load, steps, switch, gpu, listing, activations; by default all",
    )
    models.add_argument(
        "--models", metavar="MODEL,...", help="some of sd15, sdxl, sd35, flux; by default all"
    )
    models.add_argument(
        "--quick", action="store_true", help="with tiny models, to see that all of it runs"
    )
    models.add_argument(
        "--folder",
        type=Path,
        metavar="FOLDER",
        help="where models are written to while it runs (15 GB for sdxl); not a disk in memory",
    )


def _bench(options: argparse.Namespace) -> int:
    from benchmarks.run import run_benchmarks
    from benchmarks.workbench import ModelsEffort

    usual = ModelsEffort()
    full = ModelsEffort(
        parts=_some_of(usual.parts, options.only, "part"),
        models=_some_of(usual.models, options.models, "model"),
        quick=options.quick,
    )
    if options.folder is not None and not options.folder.is_dir():
        raise BadRequestError(f"There is no folder {options.folder}: make it or name another.")
    return run_benchmarks(options.names, options.out, full, options.folder)


def _some_of(every: Sequence[Name], asked: str | None, what: str) -> tuple[Name, ...]:
    """Those named in a list with commas, in their own order; all where none is."""
    if asked is None:
        return tuple(every)
    named = [word.strip() for word in asked.split(",")]
    for word in named:
        if word not in every:
            raise BadRequestError(f"Unknown {what} {word!r}: {nearest(word, tuple(every))}")
    return tuple(one for one in every if one in named)
