"""Models are used before all of their bytes have been read for their content hash."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.guards import use_guard
from tests.test_engine import QUICK, SESSION, Scripted, Studio, reused, saved, silent, with_
from webui import admission
from webui.cli.building import build_engine
from webui.events import Failed, Step
from webui.generator import Cancel
from webui.library.hashes import HashBook
from webui.provenance.pngtext import read_text
from webui.safety.known import LARGEST, is_known
from webui.settings import ROOT, Settings

EMBEDDED = ROOT / "models" / "postcard"
MINE = with_(QUICK, model="mine", steps=2, width=64, height=64)


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    shutil.copytree(EMBEDDED, tmp_path / "models" / "mine")
    settings = Settings(
        models=tmp_path / "models", outputs=tmp_path / "outputs", state=tmp_path / "state"
    )
    engine = build_engine(settings, silent)
    use_guard(engine, monkeypatch, Scripted())
    yield Studio(engine, settings.outputs)
    engine.close()


def recipe_of(events: list[Any]) -> dict[str, Any]:
    (picture,) = saved(events)
    return json.loads(read_text(Path(picture.path).read_bytes())["easel"])


def sha256_of(studio: Studio, name: str) -> str:
    engine: Any = studio.engine
    return engine._planner._shelves.models.find(name).sha256


def test_a_large_model_is_denoising_while_it_is_hashed_and_the_file_has_the_hash(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoising, true = threading.Event(), HashBook.sha256

    def slowly(self: HashBook, path: Path, *, start: int = 0) -> str:
        assert denoising.wait(60)
        return true(self, path, start=start)

    monkeypatch.setattr(HashBook, "sha256", slowly)
    monkeypatch.setattr(admission, "LARGEST", 0)
    events: list[Any] = []
    for event in studio.engine.generate(MINE, SESSION, Cancel()):
        events.append(event)
        if isinstance(event, Step):
            denoising.set()
    recipe = recipe_of(events)
    assert recipe["model"]["sha256"] == sha256_of(studio, "mine")
    # What could not be looked at is not trusted, though it is the embedded one.
    assert recipe["tainted"]
    assert is_known(recipe["model"]["sha256"])


def test_a_model_that_may_be_trusted_is_hashed_first(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not recipe_of(studio.run(MINE))["tainted"]
    weights = EMBEDDED.glob("*/*.safetensors")
    assert sum(file.stat().st_size for file in weights) < LARGEST
    monkeypatch.setattr(admission, "LARGEST", 0)
    # Another model by its content, which is not known yet.
    unet = next((studio.outputs.parent / "models" / "mine" / "unet").glob("*.safetensors"))
    unet.write_bytes(unet.read_bytes()[:-1] + b"\0")
    digest = sha256_of(studio, "mine")
    (studio.outputs.parent / "state" / "hashes.json").unlink()
    fresh = build_engine(
        Settings(
            models=studio.outputs.parent / "models",
            outputs=studio.outputs,
            state=studio.outputs.parent / "state",
        ),
        silent,
    )
    use_guard(fresh, monkeypatch, Scripted())
    trusting = SimpleNamespace(allowed={digest})
    gate: Any = cast(Any, fresh)._gate
    monkeypatch.setattr(gate, "policy", lambda: trusting)
    assert not recipe_of(Studio(fresh, studio.outputs).run(with_(MINE, seed=9)))["tainted"]
    fresh.close()


def test_folders_with_the_same_weights_and_other_configurations_share_nothing(
    studio: Studio,
) -> None:
    models = studio.outputs.parent / "models"
    shutil.copytree(models / "mine", models / "other")
    config = models / "other" / "scheduler" / "scheduler_config.json"
    said = json.loads(config.read_text())
    config.write_text(json.dumps(said | {"prediction_type": "v_prediction"}))
    first, second = recipe_of(studio.run(MINE)), studio.run(with_(MINE, model="other"))
    assert recipe_of(second)["model"]["sha256"] == first["model"]["sha256"]
    assert not any(reused(second)[name] for name in ("load", "text", "denoise", "decode"))
    assert all(reused(studio.run(MINE))[name] for name in ("load", "text", "denoise", "decode"))


def test_a_model_that_goes_before_it_is_hashed_fails_the_job_with_the_reason(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: HashBook, path: Path, *, start: int = 0) -> str:
        raise FileNotFoundError(2, "No such file", str(path))

    monkeypatch.setattr(admission, "LARGEST", 0)
    monkeypatch.setattr(HashBook, "sha256", gone)
    last = studio.run(MINE)[-1]
    assert isinstance(last, Failed)
    assert "cannot be read: No such file" in last.message
