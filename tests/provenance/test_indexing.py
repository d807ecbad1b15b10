from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from webui.errors import BrokenFileError
from webui.provenance.indexing import read_for_history
from webui.provenance.pngtext import insert_text
from webui.provenance.recipe import KEY


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_without_a_recipe_has_its_size(tmp_path: Path, kind: str):
    Image.new("RGB", (40, 30)).save(tmp_path / "a", kind)
    found = read_for_history(tmp_path / "a")
    assert (found.width, found.height, found.request) == (40, 30, None)


def test_our_own_recipe_and_the_size(tmp_path: Path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    recipe = json.dumps(
        {
            "schema": 1,
            "request": {"prompt": "a hill", "steps": 20, "seed": 3},
            "embeddings": [{"name": "fog", "sha256": "0" * 64}],
        }
    )
    (tmp_path / "a.png").write_bytes(insert_text((tmp_path / "a.png").read_bytes(), {KEY: recipe}))
    found = read_for_history(tmp_path / "a.png")
    assert (found.width, found.height) == (40, 30)
    assert found.request == {"prompt": "a hill", "steps": 20, "seed": 3}
    assert found.embeddings == ("fog",)


def test_what_is_no_picture_is_one_sentence(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"GIF89a" + bytes(50))
    with pytest.raises(BrokenFileError):
        read_for_history(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError):
        read_for_history(tmp_path / "gone.png")
