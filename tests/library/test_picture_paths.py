from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from webui.errors import BadRequestError
from webui.library.origins import Origin
from webui.library.picture_paths import with_pictures_taken
from webui.library.uploads import Uploads
from webui.request import GenerationRequest, parse_request


@pytest.fixture
def shelf(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Image.new("RGB", (16, 24), "orange").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_paths_become_ids_and_the_rest_stays(shelf: Uploads, file: Path) -> None:
    request = parse_request(
        {
            "prompt": "a beach",
            "init": str(file),
            "mask": str(file),
            "controls": [
                {"kind": "canny", "picture": str(file), "weight": 0.5},
                {"kind": "canny", "picture": "a" * 64},
            ],
        }
    )
    taken = with_pictures_taken(request, shelf)
    assert shelf.find(str(taken.init)).height == 24
    assert taken.mask != taken.init
    with Image.open(shelf.find(str(taken.mask)).path) as mask:
        assert mask.mode == "L"
    assert [control.picture for control in taken.controls] == [taken.init, "a" * 64]
    assert taken.controls[0].weight == 0.5
    assert taken.prompt == "a beach"
    assert taken.model_fields_set == request.model_fields_set
    assert with_pictures_taken(taken, shelf) == taken


def test_a_request_without_pictures_is_left_alone(shelf: Uploads) -> None:
    request = GenerationRequest(prompt="a beach")
    assert with_pictures_taken(request, shelf) is request


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere.png", "nowhere.png cannot be read: No such file or directory."),
        (".", ". cannot be read: Is a directory."),
        ("text.png", "text.png: This is no picture that can be read"),
        ("a\0b", "null character"),
    ],
)
def test_what_cannot_be_taken_names_the_file(
    shelf: Uploads, tmp_path: Path, name: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("no picture")
    with pytest.raises(BadRequestError) as caught:
        with_pictures_taken(GenerationRequest(init=name), shelf)
    assert sentence in caught.value.message
    assert caught.value.field == "init"


def test_the_file_itself_stays_as_it_was(shelf: Uploads, file: Path) -> None:
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    with_pictures_taken(GenerationRequest(init=str(file)), shelf)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before


def test_where_a_picture_comes_from_is_judged_by_its_file(tmp_path: Path, file: Path) -> None:
    judged: list[bytes] = []

    def judge(data: bytes) -> Origin:
        judged.append(data)
        return Origin(tainted=False)

    shelf = Uploads(tmp_path / "judged", judge=judge)
    taken = with_pictures_taken(parse_request({"prompt": "a beach", "init": str(file)}), shelf)
    assert judged == [file.read_bytes()]
    assert not shelf.origin(str(taken.init)).tainted
