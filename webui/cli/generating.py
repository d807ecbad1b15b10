"""`generate`: makes pictures without a server and prints one JSON event a line."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webui.cli.building import build_engine, shelves_in
from webui.cli.places import add_places, settings_of
from webui.errors import BadRequestError, BrokenFileError
from webui.events import Failed, Finished
from webui.generator import Cancel, Session
from webui.interchange.openpose import read_openpose
from webui.library.picture_paths import with_pictures_taken
from webui.request import GenerationRequest, parse_request, parse_request_json

if TYPE_CHECKING:
    from webui.engine import Engine
    from webui.process import Phase


WITHHELD_EXIT_CODE = 3


def add_generate(parser: argparse.ArgumentParser) -> None:
    """Gives the parser this command's flags."""
    parser.set_defaults(run=_generate)
    parser.add_argument(
        "prompt", nargs="?", default=argparse.SUPPRESS, help="what the picture shows"
    )
    for name, schema in GenerationRequest.model_json_schema()["properties"].items():
        sides = "prefixItems" in schema
        if name != "prompt" and (sides or not _is_list(schema)):
            parser.add_argument(
                "--" + name.replace("_", "-"),
                dest=name,
                default=argparse.SUPPRESS,
                type=_sides if sides else str,
                metavar="LEFT,TOP,RIGHT,BOTTOM" if sides else name.upper(),
                help=schema["description"].replace("%", "%%"),
            )
    parser.add_argument(
        "--lora",
        dest="loras",
        action="append",
        type=_lora,
        default=argparse.SUPPRESS,
        metavar="NAME[:WEIGHT]",
        help="a LoRA of the stack, by name, with its weight (1); can be repeated, and takes the"
        " place of the LoRAs of --request",
    )
    parser.add_argument(
        "--pose",
        dest="poses",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a pose to follow, as OpenPose JSON; can be repeated, and takes the place of the"
        " controls of --request",
    )
    parser.add_argument(
        "--request",
        type=Path,
        metavar="FILE",
        help="a whole request as JSON, or a .jsonl with one request a line; flags come on top",
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run it N times")
    parser.add_argument(
        "--out", type=Path, default=Path.cwd(), metavar="DIR", help="folder of pictures"
    )
    add_places(parser)


def _generate(options: argparse.Namespace) -> int:
    asked = _requests(options)
    settings = settings_of(options, options.out)
    shelves = shelves_in(settings)
    requests = [with_pictures_taken(request, shelves.uploads) for request in asked] * options.repeat
    # Found here, a mistake is told before torch is imported.
    for model in {request.model for request in requests}:
        shelves.models.find(model)
    for lora in {lora.name for each in requests for lora in each.loras if lora.has_effect}:
        shelves.loras.find(lora)
    engine = build_engine(settings, _silent, by_date=False)
    cancel = Cancel()
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        cancel.set()
        # A second signal ends the process at once.
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    codes = [_run(engine, request, cancel) for request in requests if not cancel.is_set()]
    engine.close()
    return 128 + received[0] if received else max(codes, default=0)


def _run(engine: Engine, request: GenerationRequest, cancel: Cancel) -> int:
    """Prints one job's events; gives its exit code."""
    session = Session(id="command line", previews=False)
    code = 0
    for event in engine.generate(request, session, cancel):
        print(event.model_dump_json(), flush=True)
        match event:
            case Failed():
                print(event.message, file=sys.stderr)
                code = event.exit_code
            case Finished() if event.withheld:
                code = WITHHELD_EXIT_CODE
            case _:
                pass
    return code


def _silent(phase: Phase, message: str) -> None:
    """The command line reports events only."""


def _requests(options: argparse.Namespace) -> list[GenerationRequest]:
    """The requests asked for, all of them checked before the first one runs."""
    if options.repeat < 1:
        raise BadRequestError(f"--repeat is {options.repeat}: it must be at least 1.")
    flags = {
        name: value
        for name, value in vars(options).items()
        if name in GenerationRequest.model_fields
    }
    if options.poses:
        flags["controls"] = [_pose(path) for path in options.poses]
    if options.request is None:
        return [parse_request(flags)]
    return [
        parse_request(json.loads(request.model_dump_json(exclude_unset=True)) | flags)
        for request in _read_requests(options.request)
    ]


def _read_requests(path: Path) -> Iterator[GenerationRequest]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadRequestError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadRequestError(f"{path} is not a text file in UTF-8.") from None
    if path.suffix != ".jsonl":
        yield parse_request_json(text, source=str(path))
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield parse_request_json(line, source=f"{path}, line {number},")


def _lora(text: str) -> dict[str, Any]:
    """A row of the stack from "NAME" or "NAME:WEIGHT"."""
    name, _, weight = text.rpartition(":")
    try:
        return {"name": name, "weight": float(weight)} if name else {"name": text}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME or NAME:WEIGHT") from None


def _pose(path: Path) -> dict[str, Any]:
    """A control unit from a file of OpenPose's."""
    try:
        return {"pose": read_openpose(path.read_bytes()).pose.model_dump()}
    except OSError as error:
        raise BadRequestError(f"{path} cannot be read: {error.strerror}.") from None
    except BrokenFileError as error:
        raise BadRequestError(f"{path}: {error.message}", field="controls") from None


def _sides(text: str) -> list[str]:
    """Numbers from "LEFT,TOP,RIGHT,BOTTOM", still to be checked."""
    return text.split(",")


def _is_list(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "array"
