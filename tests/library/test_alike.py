from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tests.library import weights as w
from webui.errors import BrokenFileError
from webui.library.alike import Alike
from webui.library.hashes import HashBook
from webui.library.headers import Header
from webui.library.vaes import VaeShelf

SHAPES = {"a.weight": (4, 8), "b.weight": (8, 4)}


def looking(says: tuple[str, ...] = ()) -> tuple[Alike[str], list[str]]:
    """A look at files, and the names of those whose tensors were looked through."""
    seen: list[str] = []

    def find(header: Header, path: Path) -> str:
        seen.append(path.name)
        return f"{len(header.shapes)} {header.metadata.get('kin', '-')}"

    return Alike(find, says=says), seen


def test_files_with_the_same_tensors_are_looked_through_once_and_each_says_its_own(tmp_path: Path):
    alike, seen = looking(says=("kin",))
    for name, kin, title in (("a", "x", 'one "}{" \\ two'), ("b", "x", "two"), ("c", "y", "é")):
        w.put(tmp_path / f"{name}.safetensors", SHAPES, kin=kin, title=title)
    w.put(tmp_path / "d.safetensors", SHAPES)
    w.put(tmp_path / "e.safetensors", SHAPES | {"c.weight": (1,)}, kin="x")
    looked = {name: alike.look(tmp_path / f"{name}.safetensors") for name in "abcde"}
    assert {name: one.tensors for name, one in looked.items()} == {
        "a": "2 x",
        "b": "2 x",
        "c": "2 y",
        "d": "2 -",
        "e": "3 x",
    }
    assert [looked[name].metadata.get("title") for name in "abcd"] == [
        'one "}{" \\ two',
        "two",
        "é",
        None,
    ]
    assert seen == ["a.safetensors", "c.safetensors", "d.safetensors", "e.safetensors"]
    text = (tmp_path / "b.safetensors").read_bytes()
    assert looked["b"].data_start == 8 + struct.unpack("<Q", text[:8])[0]


def test_one_that_is_cut_is_found_out_though_its_like_is_known(tmp_path: Path):
    alike, _ = looking()
    alike.look(w.put(tmp_path / "a.safetensors", SHAPES, title="one"))
    cut = w.put(tmp_path / "b.safetensors", SHAPES, title="two")
    cut.write_bytes(cut.read_bytes()[:-9])
    with pytest.raises(BrokenFileError, match=r"b\.safetensors is truncated, the last 9 bytes"):
        alike.look(cut)


def test_metadata_that_stand_elsewhere_or_twice_are_read_as_the_whole_header_is(tmp_path: Path):
    tensor = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}
    last = json.dumps({"a": tensor, "__metadata__": {"kin": "x"}})
    twice = '{"__metadata__": {"kin": "x"}, "__metadata__": {"kin": "y"}, ' + last[1:]
    twice = twice.replace(', "__metadata__": {"kin": "x"}}', "}")
    alike, _ = looking(says=("kin",))
    found: list[str] = []
    for text in (last, twice):
        path = tmp_path / "a.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + bytes(4))
        found.append(alike.look(path).tensors)
    assert found == ["1 x", "1 y"]
    for metadata in ('{"kin": 3}', '{"kin": {"a": "b"}}', "[]"):
        text = f'{{"__metadata__": {metadata}, "a": {json.dumps(tensor)}}}'
        path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + bytes(4))
        with pytest.raises(BrokenFileError, match="damaged header"):
            alike.look(path)


def test_a_shelf_knows_a_vae_by_its_folder(tmp_path: Path):
    w.put(tmp_path / "vae" / "sd3.5" / "diffusion_pytorch_model.safetensors", w.vae(16))
    (vae,) = VaeShelf((tmp_path,), HashBook(tmp_path / "hashes.json")).all()
    assert (vae.name, vae.component) == ("sd3.5", "vae-sd3")
