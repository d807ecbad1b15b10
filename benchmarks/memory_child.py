"""One side of the memory benchmark: loads a model, makes a picture, says what it took.

Reads its task as JSON on standard input and answers with one line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import memory
from webui.request import GenerationRequest, parse_request


def main(task: dict[str, Any]) -> dict[str, Any]:
    """Measures one side: memory when everything is imported, loaded, and done."""
    request = parse_request(task["request"])
    model, work = Path(task["model"]), Path(task["work"])
    measured = _ours(model, work, request) if task["side"] == "ours" else _plain(model, request)
    return measured | {"done": memory()}


def _ours(model: Path, work: Path, request: GenerationRequest) -> dict[str, Any]:
    from benchmarks.ours import Ours
    from webui.generation.devices import choose_device

    device = choose_device("cpu")
    with Ours(device, (model.parent,), work) as ours:
        begun = memory()
        ours.loaded(request)
        loaded = memory()
        ours.run(request)
    return {"begun": begun, "loaded": loaded, "format": f"{device.dtype_name}, {device.layout}"}


def _plain(model: Path, request: GenerationRequest) -> dict[str, Any]:
    from benchmarks.plain import load_plain, plain_picture
    from webui.generation.devices import choose_device

    device = choose_device("cpu")
    begun = memory()
    pipe = load_plain(model, request, dtype=device.dtype, layout=device.layout, device="cpu")
    loaded = memory()
    plain_picture(pipe, request)
    return {"begun": begun, "loaded": loaded, "format": f"{device.dtype_name}, {device.layout}"}


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
