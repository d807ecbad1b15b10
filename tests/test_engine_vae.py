"""A VAE of its own in place of a model's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from safetensors import numpy as safetensors

from tests.guards import use_guard
from tests.test_engine import QUICK, Scripted, Studio, pixels, saved, silent, with_
from tests.test_reuse import write_vae
from webui.cli.building import build_engine
from webui.errors import NotFoundError
from webui.events import Failed, Notice
from webui.generation.companions import Companions, FoundPart
from webui.interchange.infotext import read_infotext
from webui.library.checkpoints import CheckpointShelf
from webui.library.hashes import HashBook
from webui.provenance.pngtext import read_text
from webui.settings import ROOT, Settings
from webui.ui.routes.looking import Looker

save_file: Any = cast(Any, safetensors).save_file
SMALL = with_(QUICK, steps=2, width=64, height=64)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_vae(tmp_path / "models" / "vae" / "soft.safetensors")
    wide = {
        "decoder.conv_in.weight": np.zeros((8, 16, 3, 3), np.float32),
        "decoder.conv_out.weight": np.zeros((3, 8, 3, 3), np.float32),
    }
    save_file(wide, tmp_path / "models" / "vae" / "wide.safetensors")
    four = {
        "decoder.conv_in.weight": np.zeros((8, 4, 3, 3), np.float32),
        "decoder.conv_out.weight": np.zeros((3, 8, 3, 3), np.float32),
    }
    save_file(four, tmp_path / "models" / "vae" / "half.safetensors")
    (tmp_path / "models" / "vae" / "old.pt").write_bytes(b"\x80")
    return tmp_path / "models"


@pytest.fixture
def studio(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    settings = Settings(models=models, outputs=tmp_path / "outputs", state=tmp_path / "state")
    engine = build_engine(settings, silent)
    use_guard(engine, monkeypatch, Scripted())
    yield Studio(engine, settings.outputs)
    engine.close()


def test_it_decodes_the_picture_and_stands_in_its_file_and_the_models_own_comes_back(
    studio: Studio,
) -> None:
    (own,) = saved(studio.run(SMALL))
    (other,) = saved(studio.run(with_(SMALL, vae="soft")))
    lighter = pixels(other).mean() - pixels(own).mean()
    assert lighter > 20
    texts = read_text(Path(other.path).read_bytes())
    recipe: dict[str, Any] = json.loads(texts["easel"])
    engine: Any = studio.engine
    sha256 = engine._planner._shelves.models.vaes.find("soft").content.sha256
    assert recipe["vae"] == {"name": "soft", "sha256": sha256}
    assert f"VAE hash: {sha256[:10]}, VAE: soft," in texts["parameters"]
    assert read_infotext(texts["parameters"]).request["vae"] == "soft"
    # A file from outside had a part in it, though the model is the embedded one.
    assert recipe["tainted"]
    (again,) = saved(studio.run(with_(SMALL, seed=8)))
    assert json.loads(read_text(Path(again.path).read_bytes())["easel"])["vae"] is None
    (fresh,) = saved(studio.run(with_(SMALL, seed=8, vae="soft.safetensors")))
    assert pixels(fresh).mean() - pixels(again).mean() > 20


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sof", "Unknown VAE 'sof': did you mean 'soft'?"),
        ("wide", "made for latents of another kind than those of 'postcard'"),
        ("half", "does not fit its configuration|could not be|incomplete"),
        ("old", "is a pickle"),
    ],
)
def test_one_that_is_not_there_or_does_not_fit_is_refused(
    studio: Studio, name: str, says: str
) -> None:
    last = studio.run(with_(SMALL, vae=name))[-1]
    assert isinstance(last, Failed)
    assert last.field == "vae"
    assert re.search(says, last.message), last.message


def test_the_page_is_told_which_fit_and_what_is_wrong_with_the_others(
    models: Path, tmp_path: Path
) -> None:
    shelf = CheckpointShelf((models, ROOT / "models"), HashBook(tmp_path / "hashes.json"))
    looker = Looker(shelf, wildcards=None)  # pyright: ignore[reportArgumentType]
    (row,) = looker.models()
    assert row["vaes"] == ["half", "soft"]
    assert "another kind" in looker.look({"vae": "wide"})["problem"]["message"]
    assert looker.look({"vae": "gone"})["problem"]["field"] == "vae"
    assert looker.look({"vae": "soft"})["problem"] is None
    empty = CheckpointShelf((tmp_path / "none",), HashBook(tmp_path / "hashes.json"))
    with pytest.raises(NotFoundError, match=r"there is none in .*vae"):
        empty.vaes.find("soft")


def test_a_part_from_elsewhere_stands_in_the_pictures_file(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "b.safetensors", tmp_path / "a.safetensors"
    part = FoundPart("text_encoder_2", "the T5 text encoder", path, "now", (other,))
    monkeypatch.setattr(Companions, "elsewhere", (part,))
    events = studio.run(SMALL)
    told = [event.message for event in events if isinstance(event, Notice)]
    assert part.choice in told
    (picture,) = saved(events)
    recipe = json.loads(read_text(Path(picture.path).read_bytes())["easel"])
    assert recipe["parts"] == [{"part": "text_encoder_2", "file": "b.safetensors"}]


@pytest.mark.parametrize("named", ["None", "Automatic"])
def test_the_models_own_by_other_names_is_no_choice(named: str) -> None:
    text = f"a\nSteps: 4, Sampler: Euler, CFG scale: 5, VAE hash: 0123456789, VAE: {named}"
    read = read_infotext(text)
    assert "vae" not in read.request
    assert not [sentence for sentence in read.report if "VAE" in sentence]
