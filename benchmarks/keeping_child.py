"""Switches between two checkpoints, first without room for both, then with; says what it took.

Reads its task as JSON on standard input and answers with one line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measure import memory
from webui.generation.devices import choose_device
from webui.generation.families import family_of
from webui.generation.pipelines import Pipelines
from webui.generation.quiet import quiet_libraries
from webui.generation.thread import DeviceThread
from webui.library.checkpoints import Checkpoint, CheckpointShelf
from webui.library.hashes import HashBook

BACK = 10


def main(task: dict[str, Any]) -> dict[str, Any]:
    """Switches between two models.

    Args:
        task: `models`: their folder. `names`: theirs. `configs`: folder of the configurations of
            single files, or None. `work`: folder for hashes. `switches`: how many.

    Returns:
        `resident` and `load`: bytes in memory after, and seconds of, each switch that reads files.
        `back`: seconds of each that does not.
    """
    quiet_libraries()
    folder = Path(task["models"])
    configs = None if task["configs"] is None else Path(task["configs"])
    shelf = CheckpointShelf((folder,), HashBook(Path(task["work"]) / "hashes.json"), configs)
    both = [shelf.find(name) for name in task["names"]]
    thread = DeviceThread()

    def switched(pipelines: Pipelines, number: int) -> float:
        checkpoint: Checkpoint = both[number % 2]
        began = perf_counter()
        thread.call(lambda: pipelines.get(checkpoint, family_of(checkpoint)))
        return perf_counter() - began

    one = Pipelines(choose_device("cpu"), keep_bytes=0)
    resident: list[int] = []
    load: list[float] = []
    for number in range(task["switches"]):
        load.append(switched(one, number))
        resident.append(memory()["resident"])
    one.release()
    two = Pipelines(choose_device("cpu"), keep_bytes=sys.maxsize)
    back = [switched(two, number) for number in range(2 + BACK)][2:]
    thread.close()
    return {"resident": resident, "load": load, "back": back}


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
