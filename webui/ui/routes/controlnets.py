"""What there is to steer pictures by: the ControlNets on the shelf, and what draws their hints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query

from webui.errors import BadRequestError, BrokenFileError
from webui.generation.annotator_files import missing
from webui.generation.control_kinds import (
    KINDS,
    THRESHOLDS,
    check_fits,
    fitting_nets,
    is_of_kind,
    own_kinds,
)
from webui.generation.facts import denoiser_config
from webui.generation.families import family_of
from webui.library.checkpoints import CheckpointShelf
from webui.library.controlnets import ControlNetFolder, ControlNetShelf
from webui.request import CONTROL_KINDS, PREPROCESSORS


def add_controlnets_routes(
    app: FastAPI, models: CheckpointShelf, shelf: ControlNetShelf, annotators: tuple[Path, ...]
) -> None:
    """Adds `GET /controlnets?model=NAME`.

    Keys of the answer:
        place: The folder to put a ControlNet in.
        nets: Each with its `name`, the `kinds` it reads as far as that is known, and the `problem`
            that keeps it from steering the model, or None.
        own: The kinds of hints that the model reads itself; None where ControlNets do.
        kinds: By name, the `preprocessors` of each, the usual one first, and the `net` that is
            taken for it: its name, that of the model where it reads such hints itself, or None.
        preprocessors: By name, the `thresholds` (`low`, `high`, `most`) of each or None, and a
            sentence about what it is `missing`, which may be empty.

    Args:
        annotators: Folders with the weights of preprocessors.
    """

    @app.get("/controlnets")
    def controlnets(model: Annotated[str, Query(max_length=200)]) -> dict[str, Any]:
        folder = models.folder(model)
        denoiser = denoiser_config(folder)
        rows: list[dict[str, Any]] = []
        whole: list[ControlNetFolder] = []
        for name, net in shelf.read_all().items():
            row: dict[str, Any] = {"name": name, "kinds": [], "problem": None}
            rows.append(row)
            try:
                if isinstance(net, BrokenFileError):
                    raise net
                row["kinds"] = [kind for kind in CONTROL_KINDS if is_of_kind(net, kind)]
                check_fits(net, denoiser, folder)
                whole.append(net)
            except BadRequestError as error:
                row["problem"] = error.message
        fitting = {kind: fitting_nets(whole, kind, denoiser) for kind in CONTROL_KINDS}
        usual = {kind: nets[0].name if nets else None for kind, nets in fitting.items()}
        own = own_kinds(folder) if family_of(folder).hinted else None
        if own is not None:
            usual |= dict.fromkeys(own, folder.name)
        return {
            "place": str(shelf.place),
            "own": own,
            "nets": rows,
            "kinds": {
                kind: {
                    "preprocessors": KINDS[kind].preprocessors,
                    "net": usual[kind],
                }
                for kind in CONTROL_KINDS
            },
            "preprocessors": {
                name: {
                    "thresholds": asdict(THRESHOLDS[name]) if name in THRESHOLDS else None,
                    "missing": missing(name, annotators),
                }
                for name in PREPROCESSORS
            },
        }
