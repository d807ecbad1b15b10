"""What is left behind when the engine is killed, and of a picture that was withheld."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.guards import use_guard
from tests.test_engine import QUICK, Scripted, Studio, saved, with_
from tests.test_engine import guarded as guarded
from webui.events import StageDone, Withheld
from webui.safety.audit import FOLDER, verify_log

ROOT = Path(__file__).parent.parent.parent

KILLED = """
import os, signal, sys
from pathlib import Path
from benchmarks.faults import Trial
from webui.library import files, gallery

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

trial = Trial(Path(sys.argv[1]))
if sys.argv[2] == "between check and save":
    gallery.Gallery.save = kill
else:
    # In mid-file: the bytes are written and the file has not got its name yet.
    replace = os.replace
    files.os.replace = lambda source, target: (
        kill() if str(target).endswith(".png") else replace(source, target)
    )
trial.go(range(20))
"""


@pytest.mark.parametrize("moment", ["between check and save", "while the file is written"])
def test_a_kill_leaves_no_picture_and_a_whole_log(tmp_path: Path, moment: str) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), moment]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert killed.returncode == -9, killed.stderr.decode()[-2000:]
    assert list(tmp_path.rglob("*.png")) == []
    assert verify_log(tmp_path / "state" / FOLDER).is_whole


def test_of_a_withheld_picture_nothing_stays_not_even_in_memory(
    guarded: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = with_(QUICK, seed=4711, batch=2)
    use_guard(guarded.engine, monkeypatch, Scripted(1))
    before = set(guarded.outputs.parent.rglob("*.png"))
    events = guarded.run(request)
    assert [type(event) for event in events].count(Withheld) == 1
    assert set(guarded.outputs.parent.rglob("*.png")) - before == {
        Path(picture.path) for picture in saved(events)
    }
    use_guard(guarded.engine, monkeypatch, Scripted())
    again = guarded.run(request)
    reused = {stage.name: stage.reused for stage in again if isinstance(stage, StageDone)}
    assert not reused["denoise"], "the latents of what was withheld were still there"
    assert not reused["decode"]
    assert len(saved(again)) == 2
