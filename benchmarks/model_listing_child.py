"""Lists a folder of files in a fresh process and says how long it took.

Reads its task as JSON on standard input and answers with one line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measure import BenchmarkError
from webui.cli.building import CONFIGS
from webui.library.catalogue import Catalogue
from webui.library.checkpoints import CheckpointShelf
from webui.library.hashes import HashBook
from webui.library.recognised_files import FileReader

AGAIN = 10


def main(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of everything.

    Args:
        task: `models`: the folder. `state`: what is known of it, empty at first.

    Returns:
        `first`, `again`: of the cards of all files, `again` several times. `names`: of the models'
        names after them. `recognised`: of each file alone. `count`: how many files there are.
    """
    folder, book = Path(task["models"]), HashBook(Path(task["state"]) / "hashes.json")
    catalogue = Catalogue((folder,), (), book)
    files = sorted(folder.iterdir())
    began = perf_counter()
    cards = catalogue.cards()
    first = perf_counter() - began
    wrong = [card.problem for card in cards if card.problem is not None]
    if len(cards) != len(files) or wrong:
        raise BenchmarkError(f"Of {len(files)} files {len(cards)} were listed: {wrong[:1]}")
    again: list[float] = []
    for _ in range(AGAIN):
        began = perf_counter()
        catalogue.cards()
        again.append(perf_counter() - began)
    began = perf_counter()
    CheckpointShelf((folder,), book, CONFIGS).names()
    names = perf_counter() - began
    recognised: list[float] = []
    for file in files:
        began = perf_counter()
        FileReader().read(file)
        recognised.append(perf_counter() - began)
    return {
        "first": first,
        "again": again,
        "names": names,
        "recognised": recognised,
        "count": len(files),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
