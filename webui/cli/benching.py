"""`bench`: measures beside plain diffusers."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Gives the parser this command's flags."""
    parser.set_defaults(run=_bench)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="benchmarks to run; none: all of them"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON")


def _bench(options: argparse.Namespace) -> int:
    from benchmarks.run import run_benchmarks

    return run_benchmarks(options.names, options.out)
