from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fakes import gradient
from webui.cli import main
from webui.settings import ROOT

PROMPT = "a forest by day"
"""With nobody in it, so that the detector has nothing to mistake at a few steps."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "webui", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def events_of(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def broken_models(tmp_path: Path) -> Path:
    """A folder with one model whose UNet is cut short."""
    shutil.copytree(ROOT / "models" / "postcard", tmp_path / "cut")
    (weights,) = (tmp_path / "cut" / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--width", "63"], "width is 63: it must be a multiple of 8, such as 64."),
        (["--width", "100000"], "width is 100000: it must be at most 2048."),
        (["--steps", "0"], "steps is 0: it must be at least 1."),
        (["--cfg", "nan"], "cfg is nan: it must be an ordinary number."),
        (["--sampler", "Eular"], "Unknown sampler 'Eular': did you mean 'Euler'?"),
        (["--model", "postcart"], "Unknown model 'postcart': did you mean 'postcard'?"),
        (["--loras", "models", "--lora", "ink:0.5"], "Unknown LoRA 'ink': "),
        (["--init", "no/such.png"], "no/such.png cannot be read: No such file or directory."),
        (["--init", "README.md"], "README.md: This is no picture that can be read"),
        (["--pose", "no/such.json"], "no/such.json cannot be read: No such file or directory."),
        (["--pose", "README.md"], "README.md: This is no pose: the file is not valid JSON."),
        (["--outpaint", "8"], "outpaint.1 is missing."),
        (["--outpaint", "8,4,0,0"], "outpaint.1 is 4: it must be a multiple of 8"),
        (["--soft-mask", "perhaps"], "soft_mask is 'perhaps'"),
        (["--repeat", "0"], "--repeat is 0: it must be at least 1."),
        (["--models", "no/such/folder"], "The models folder no/such/folder does not exist"),
        (["--request", "no/such/file.json"], "no/such/file.json cannot be read"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["generate", PROMPT, *arguments]) == 2
    output = capsys.readouterr()
    assert sentence in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.json", '{"promt": "x"}', "Unknown key 'promt': did you mean 'prompt'?"),
        ("a.json", "{", "a.json is not valid JSON"),
        ("a.json", "[]", "a.json must hold one JSON object"),
        ("a.jsonl", '{"steps": 5}\n{"steps": 0}\n', "steps is 0"),
        ("a.jsonl", '{"steps": 5}\nnonsense\n', "a.jsonl, line 2, is not valid JSON"),
    ],
)
def test_a_broken_request_file_is_one_sentence(
    tmp_path: Path, name: str, text: str, sentence: str, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / name).write_text(text)
    assert main(["generate", "--request", str(tmp_path / name)]) == 2
    assert sentence in capsys.readouterr().err


def test_truncated_weights_are_named_at_once(
    broken_models: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["generate", PROMPT, "--models", str(broken_models), "--model", "cut"]) == 2
    assert "is truncated, the last 1,000 bytes are missing" in capsys.readouterr().err


def test_a_prompt_of_100000_characters_is_one_short_sentence(capsys: pytest.CaptureFixture[str]):
    assert main(["generate", "x" * 100_000]) == 2
    assert capsys.readouterr().err == "prompt is 100,000 characters long: at most 2,000 fit.\n"


def test_generate_prints_events_and_reuses_across_repeats(tmp_path: Path):
    done = run(
        *("generate", PROMPT, "--seed", "7", "--steps", "8"),
        *("--repeat", "2", "--out", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    events = events_of(done.stdout)
    assert [event["event"] for event in events].count("finished") == 2
    assert events[-1]["event"] == "finished"
    saved = [event for event in events if event["event"] == "saved"]
    assert {event["seed"] for event in saved} == {7}
    assert all(Path(event["path"]).parent == tmp_path for event in saved)
    stages = [(e["name"], e["reused"]) for e in events if e["event"] == "stage"]
    assert stages.count(("denoise", False)) == 1
    assert stages.count(("denoise", True)) == 1


@dataclass(frozen=True)
class Requested:
    """What a file of two requests came to, with flags on top: `--steps`, a pose and a picture."""

    done: subprocess.CompletedProcess[str]
    init: Path

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in events_of(self.done.stdout) if event["event"] == kind]


@pytest.fixture(scope="module")
def requested(tmp_path_factory: pytest.TempPathFactory) -> Requested:
    folder = tmp_path_factory.mktemp("requested")
    init, mask, pose = folder / "init.png", folder / "mask.png", folder / "pose.json"
    gradient(128, 128, 4).save(init)
    marked = Image.new("L", (128, 128))
    marked.paste(255, (40, 40, 90, 90))
    marked.save(mask)
    points = [part for n in range(18) for part in (5.0 * n, 6.0 * n, 0.8)]
    people = [{"pose_keypoints_2d": points}]
    pose.write_text(json.dumps({"people": people, "canvas_width": 192, "canvas_height": 128}))
    requests = folder / "requests.jsonl"
    requests.write_text(
        '{"prompt": "a beach by day", "seed": 1}\n\n{"prompt": "a meadow by day", "seed": 2}\n'
    )
    done = run(
        *("generate", "--request", str(requests), "--steps", "8", "--out", str(folder / "out")),
        *("--init", str(init), "--mask", str(mask), "--strength", "0.5"),
        *("--outpaint", "0,0,64,0", "--soft-mask", "true"),
        *("--pose", str(pose), "--models", str(ROOT / "models")),
    )
    return Requested(done, init)


def test_a_file_of_requests_runs_in_one_process_with_flags_on_top(requested: Requested) -> None:
    assert requested.done.returncode == 0, requested.done.stderr
    assert [event["seed"] for event in requested.events("saved")] == [1, 2]
    # At half the strength half of the flag's 8 are made.
    assert [event["steps"] for event in requested.events("started")] == [4, 4]


def test_poses_become_controls(requested: Requested) -> None:
    assert requested.done.stderr == ""
    events = events_of(requested.done.stdout)
    assert {"hint", "control"} <= {event.get("name") for event in events}
    assert events[-1]["event"] == "finished"


def test_a_picture_is_named_by_its_path(requested: Requested) -> None:
    both = requested.events("saved")
    assert len(both) == 2
    for saved in both:
        assert (saved["width"], saved["height"]) == (192, 128)
        with Image.open(saved["path"]) as after, Image.open(requested.init) as before:
            corner = (0, 0, 20, 20)
            assert after.crop(corner).tobytes() == before.crop(corner).tobytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_mid_generation_ends_cleanly(tmp_path: Path, number: signal.Signals):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "webui", "generate", PROMPT),
            *("--steps", "150", "--sampler", "Heun", "--out", str(tmp_path)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "step":
            break
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors == ""
    assert events_of(output)[-1]["event"] == "cancelled"
    assert os.listdir(tmp_path) == []
