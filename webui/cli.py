"""The command line, and the only place where objects are built and joined."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from webui.errors import BadRequestError, BrokenFileError, StartError, WebuiError
from webui.events import Failed, Finished
from webui.generation.annotator_files import FOLDER as ANNOTATORS
from webui.generator import Cancel, Session
from webui.interchange.openpose import read_openpose
from webui.library.checkpoints import CheckpointShelf
from webui.library.controlnets import ControlNetShelf
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.library.picture_paths import with_pictures_taken
from webui.library.uploads import Uploads
from webui.request import GenerationRequest, parse_request, parse_request_json, pictures_of
from webui.settings import ROOT, DeviceName, DtypeName, ServerSettings, Settings

if TYPE_CHECKING:
    from webui.engine import Engine
    from webui.jobs import Jobs
    from webui.process import EngineStatus, Phase, Report
    from webui.ui.server import Backend

WITHHELD_EXIT_CODE = 3


def main(arguments: Sequence[str]) -> int:
    """Runs one command; gives the process's exit code (0 done, 2 bad input, 3 withheld)."""
    # Models come from this machine; no library may ask a hub or report anything.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except WebuiError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code


def build_engine(settings: Settings, report: Report, *, by_date: bool = True) -> Engine:
    """The engine with everything it works with, reporting how far it is.

    Raises:
        GuardError: A guard that must be loaded is missing.
        StartError: The settings name a device that does not exist.
    """
    report("loading", "Loading torch")
    from webui.generation.devices import choose_device

    device = choose_device(settings.device, settings.dtype)
    report("loading", "Loading diffusers")
    from webui.engine import Engine
    from webui.generation.painting import Painter
    from webui.generation.pipelines import quiet_libraries
    from webui.library.files import remove_leftovers
    from webui.library.gallery import Drafts, Gallery
    from webui.provenance.c2pa import Signer
    from webui.provenance.certificate import identity_in
    from webui.safety.guard import Guard

    quiet_libraries()
    report("loading", "Loading the content filter")
    guard = Guard.load(threads=min(4, os.cpu_count() or 1))
    remove_leftovers(settings.outputs)
    remove_leftovers(settings.state / "drafts")
    drafts = Drafts(settings.state / "drafts")
    drafts.tidy()
    return Engine(
        painter=Painter(
            device,
            cache_bytes=settings.cache_bytes,
            annotators=_annotators(settings),
        ),
        guard=guard,
        shelf=_shelf(settings),
        loras=_lora_shelf(settings),
        controlnets=_controlnet_shelf(settings),
        uploads=Uploads(settings.state / "uploads"),
        gallery=Gallery(settings.outputs, by_date=by_date),
        drafts=drafts,
        signer=Signer(identity_in(settings.state)),
    )


def build_warm_engine(settings: Settings, report: Report) -> Engine:
    """An engine for a server: the default model is loaded before the first job comes."""
    engine = build_engine(settings, report)
    model = GenerationRequest().model
    report("loading", f"Loading the model {model}")
    engine.warm(model)
    report("ready", engine.description)
    return engine


def _shelf(settings: Settings) -> CheckpointShelf:
    return CheckpointShelf(_model_folders(settings), HashBook(settings.state / "hashes.json"))


def _model_folders(settings: Settings) -> tuple[Path, ...]:
    """The user's folder first, then the one with the embedded model."""
    return tuple(dict.fromkeys((settings.models, ROOT / "models")))


def _controlnet_shelf(settings: Settings) -> ControlNetShelf:
    return ControlNetShelf(_model_folders(settings), HashBook(settings.state / "hashes.json"))


def _annotators(settings: Settings) -> tuple[Path, ...]:
    """Folders with the weights of networks that draw hints."""
    return tuple(folder / ANNOTATORS for folder in _model_folders(settings))


def _lora_shelf(settings: Settings) -> LoraShelf:
    """The user's folder first, then the one with the embedded model's."""
    folders = tuple(dict.fromkeys((settings.loras, ROOT / "loras")))
    return LoraShelf(folders, HashBook(settings.state / "hashes.json"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="webui", description="Make pictures on your own machine.", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="start the page", allow_abbrev=False))
    _add_generate(
        commands.add_parser(
            "generate",
            help="make pictures without a server; prints one JSON event a line",
            allow_abbrev=False,
        )
    )
    _add_verify(
        commands.add_parser(
            "verify",
            help="say what pictures tell about how they were made, and what of it is certain",
            allow_abbrev=False,
        )
    )
    _add_bench(
        commands.add_parser("bench", help="measure beside plain diffusers", allow_abbrev=False)
    )
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    defaults = Settings()
    parser.add_argument(
        "--models", type=Path, default=defaults.models, metavar="DIR", help="folder of models"
    )
    parser.add_argument(
        "--loras",
        # Apart from the request's field of the same name.
        dest="lora_folder",
        type=Path,
        default=defaults.loras,
        metavar="DIR",
        help="folder of LoRAs",
    )
    parser.add_argument(
        "--device", choices=get_args(DeviceName), default="auto", help="what to compute on"
    )
    parser.add_argument(
        "--dtype",
        choices=get_args(DtypeName),
        default="auto",
        help="number format of the weights; auto: the fastest the device has units for",
    )


def _settings(options: argparse.Namespace, outputs: Path) -> Settings:
    if not options.models.is_dir():
        raise StartError(f"The models folder {options.models} does not exist: create it first.")
    return Settings(
        models=options.models,
        loras=options.lora_folder,
        outputs=outputs,
        device=options.device,
        dtype=options.dtype,
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    defaults = ServerSettings()
    parser.set_defaults(run=_serve)
    parser.add_argument("--host", default=defaults.host, help="address to listen on")
    parser.add_argument("--port", type=int, default=defaults.port, help="port to listen on")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="further host name the page may be called by, such as a proxy's; can be repeated",
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="do not open the page in a browser"
    )
    parser.add_argument(
        "--outputs", type=Path, default=Settings().outputs, metavar="DIR", help="folder of pictures"
    )
    _add_places(parser)


def _serve(options: argparse.Namespace) -> int:
    from webui.jobs import Jobs
    from webui.process import EngineProcess
    from webui.ui.server import bind, serve, share_one_arena

    share_one_arena()

    settings = _settings(options, options.outputs)
    server = ServerSettings(
        host=options.host,
        port=options.port,
        open_browser=not options.no_browser,
        allowed_hosts=tuple(options.allow_host),
    )
    listener = bind(server)
    engine = EngineProcess(build_warm_engine, settings)
    jobs = Jobs(engine)
    backend = build_backend(settings, jobs, engine.status)
    try:
        serve(listener, server, backend)
    finally:
        backend.history.close()
        jobs.close()
        engine.close()
    return 0


def build_backend(settings: Settings, jobs: Jobs, status: Callable[[], EngineStatus]) -> Backend:
    """What the page works with, over an engine of any kind."""
    from webui.library.history import History
    from webui.library.presets import PresetShelf
    from webui.library.wordlists import WordLists
    from webui.provenance.indexing import read_for_history
    from webui.ui.server import Backend

    shipped, own = settings.presets, settings.own_presets
    history = History(settings.outputs, read_for_history)

    def in_use() -> set[str]:
        return {name for request in jobs.requests() for _, name in pictures_of(request)}

    history.start()
    return Backend(
        jobs=jobs,
        status=status,
        models=_shelf(settings),
        loras=_lora_shelf(settings),
        controlnets=_controlnet_shelf(settings),
        annotators=_annotators(settings),
        history=history,
        presets=PresetShelf(shipped, own),
        words=WordLists(shipped / "words", own / "words"),
        uploads=Uploads(settings.state / "uploads", in_use=in_use),
    )


def _add_generate(parser: argparse.ArgumentParser) -> None:
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
    _add_places(parser)


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


def _generate(options: argparse.Namespace) -> int:
    asked = _requests(options)
    settings = _settings(options, options.out)
    uploads = Uploads(settings.state / "uploads")
    requests = [with_pictures_taken(request, uploads) for request in asked] * options.repeat
    # Found here, a mistake is told before torch is imported.
    for model in {request.model for request in requests}:
        _shelf(settings).find(model)
    for lora in {lora.name for each in requests for lora in each.loras if lora.has_effect}:
        _lora_shelf(settings).find(lora)
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


def _silent(phase: Phase, message: str) -> None:
    """The command line reports events only."""


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


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_verify)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG or WebP")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def _verify(options: argparse.Namespace) -> int:
    """Gives 0 when all are whole and this installation's, 1 when not, 2 when one is no picture."""
    from webui.provenance.certificate import trust_in
    from webui.provenance.report import to_json, to_text
    from webui.provenance.verify import verify_file

    trust = trust_in(Settings().state)
    codes: list[int] = []
    for path in options.files:
        try:
            found = verify_file(path, trust)
        except WebuiError as error:
            print(f"{path}: {error.message}", file=sys.stderr)
            codes.append(error.exit_code)
            continue
        print(json.dumps(to_json(str(path), found)) if options.json else to_text(str(path), found))
        codes.append(0 if found.is_whole else 1)
    return max(codes)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_bench)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="benchmarks to run; none: all of them"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON")


def _bench(options: argparse.Namespace) -> int:
    from benchmarks.run import run_benchmarks

    return run_benchmarks(options.names, options.out)
