"""The command: `python -m webui.postcard train|train-lora|train-pose|evaluate|...`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import tempfile
from itertools import combinations
from pathlib import Path

import torch

from webui.postcard.evaluation import evaluate, fresh_prompts, pictures_of, table
from webui.postcard.judge import load_or_train_judge
from webui.postcard.looks import LOOKS, LookName
from webui.postcard.lora import LoraTraining, lora_file, train_lora
from webui.postcard.pipeline import load_pipeline
from webui.postcard.pose_control import PoseTraining, train_pose
from webui.postcard.recipe import SCENES, Training, train
from webui.postcard.record import record_figures, record_steering
from webui.postcard.sheet import write_sheet
from webui.postcard.steering import measure_look, measure_pair, measure_pose

_MODEL = Path("models/postcard")
_POSE = Path("models/controlnet/postcard-pose")
_SHEET_SEED = 240_024


def main(arguments: list[str] | None = None) -> None:
    """Run the command; `arguments` default to those of the process."""
    parser = _parser()
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    match given.command:
        case "train":
            if given.work.exists() and not given.resume:
                parser.error(f"{given.work} holds a started training: --resume it, or name another")
            train(
                Training(
                    work=given.work,
                    out=given.out,
                    device=torch.device(given.device),
                    minutes=given.minutes,
                    scenes=given.scenes,
                    shortening=given.shortening,
                )
            )
        case "train-lora":
            file = train_lora(
                LoraTraining(given.look, given.model, given.work, given.out, given.minutes)
            )
            sys.stdout.write(f"{file}\n")
        case "train-pose":
            train_pose(PoseTraining(given.model, given.work, given.out, given.minutes))
        case "evaluate-pose":
            _evaluate_pose(given.model, given.controlnet, given.sheet)
        case "evaluate-loras":
            _evaluate_loras(given.model, given.loras, given.sheet)
        case _:
            device = torch.device(given.device)
            _evaluate(given.model, given.judge, device, count=given.prompts, sheet=given.sheet)


def _evaluate(
    model: Path, judge_file: Path | None, device: torch.device, *, count: int, sheet: Path | None
) -> None:
    pipeline = load_pipeline(model, device)
    if sheet is not None:
        prompts = fresh_prompts(24, _SHEET_SEED)
        write_sheet(pictures_of(pipeline, prompts), sheet)
        sys.stdout.writelines(f"{prompt.seed}. {prompt.text}\n" for prompt in prompts)
    figures = evaluate(pipeline, load_or_train_judge(judge_file), model, count)
    record_figures(model, figures)
    sys.stdout.write(json.dumps(dataclasses.asdict(figures), indent=1) + "\n")
    sys.stdout.write(table(figures) + "\n")


def _evaluate_pose(model: Path, controlnet: Path, sheet: Path | None) -> None:
    figures, pictures = measure_pose(model, controlnet)
    if sheet is not None:
        write_sheet(pictures[:24], sheet)
    record_steering(controlnet, {"figures": dataclasses.asdict(figures)})
    sys.stdout.write(json.dumps(dataclasses.asdict(figures), indent=1) + "\n")


def _evaluate_loras(model: Path, folder: Path, sheets: Path | None) -> None:
    pipeline = load_pipeline(model, torch.device("cpu"))
    files: dict[LookName, Path] = {
        look: file for look in LOOKS if (file := lora_file(folder, look)).exists()
    }
    figures: dict[str, object] = {}
    for look, file in files.items():
        measured, pictures = measure_look(pipeline, look, file)
        figures[look] = dataclasses.asdict(measured)
        if sheets is not None:
            write_sheet(pictures, sheets / f"{file.stem}.png")
    pairs = {
        f"{one} and {other}": measure_pair(pipeline, {one: files[one], other: files[other]})
        for one, other in combinations(files, 2)
    }
    record_steering(folder, {"figures": figures, "two at once": pairs})
    sys.stdout.write(json.dumps({"figures": figures, "two at once": pairs}, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="webui.postcard", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train every part and assemble the model")
    training.add_argument("--out", type=Path, default=_MODEL, help="folder of the finished model")
    work = Path(tempfile.gettempdir()) / "postcard-training"
    training.add_argument("--work", type=Path, default=work, help="folder of checkpoints")
    training.add_argument("--resume", action="store_true", help="go on from --work")
    training.add_argument("--minutes", type=float, help="wall time instead of planned steps")
    training.add_argument("--scenes", type=int, default=SCENES, help="scenes the UNet sees")
    training.add_argument("--shortening", type=float, default=1.0, help="share of the steps")
    look = commands.add_parser("train-lora", help="train a LoRA of one look")
    look.add_argument("look", choices=sorted(LOOKS))
    look.add_argument("--out", type=Path, default=Path("loras"), help="folder of finished LoRAs")
    pose = commands.add_parser("train-pose", help="train the pose ControlNet")
    pose.add_argument("--out", type=Path, default=_POSE, help="folder of the finished ControlNet")
    for command in (look, pose):
        command.add_argument("--model", type=Path, default=_MODEL)
        command.add_argument("--work", type=Path, default=work, help="folder of checkpoints")
        command.add_argument("--minutes", type=float, help="wall time instead of planned steps")
    posing = commands.add_parser("evaluate-pose", help="measure the pose ControlNet")
    posing.add_argument("--controlnet", type=Path, default=_POSE)
    posing.add_argument("--sheet", type=Path, help="PNG file for 24 unpicked samples")
    looking = commands.add_parser("evaluate-loras", help="measure the LoRAs")
    looking.add_argument("--loras", type=Path, default=Path("loras"))
    looking.add_argument("--sheet", type=Path, help="folder for a sheet of each")
    for command in (posing, looking):
        command.add_argument("--model", type=Path, default=_MODEL)
    evaluation = commands.add_parser("evaluate", help="measure a finished model")
    evaluation.add_argument("--model", type=Path, default=_MODEL)
    evaluation.add_argument("--prompts", type=int, default=200)
    evaluation.add_argument("--judge", type=Path, help="file to keep the trained judge in")
    evaluation.add_argument("--sheet", type=Path, help="PNG file for 24 unpicked samples")
    for command in (training, evaluation):
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


if __name__ == "__main__":
    main()
