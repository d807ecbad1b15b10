from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.fakes import gradient, png
from webui.errors import BrokenFileError
from webui.library.history_sync import Indexed
from webui.provenance.saved import read_saved
from webui.request import GenerationRequest


def test_size_and_request_of_our_own_picture(tmp_path: Path) -> None:
    request = GenerationRequest(prompt="a hill", steps=3)
    (tmp_path / "a.png").write_bytes(png(gradient(48, 32, 1), request))
    read = read_saved(tmp_path / "a.png")
    assert (read.width, read.height) == (48, 32)
    assert read.request is not None
    assert (read.request["prompt"], read.request["steps"]) == ("a hill", 3)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_a_picture_without_a_recipe_has_a_size(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / f"a.{kind}")
    assert read_saved(tmp_path / f"a.{kind}") == Indexed(20, 10, None)


def test_what_is_no_picture_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"GIF89a" + bytes(40))
    with pytest.raises(BrokenFileError, match="no picture"):
        read_saved(tmp_path / "a.png")
