from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from webui.errors import BrokenFileError
from webui.library.headers import read_header


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "part.safetensors"
    path.write_bytes(save({"a": np.zeros((2, 3), np.float16)}, metadata={"made": "here"}))
    return path


def test_a_whole_file_tells_its_shapes_and_metadata(whole: Path):
    header = read_header(whole)
    assert header.shapes == {"a": (2, 3)}
    assert header.metadata == {"made": "here"}
    assert header.data_start == whole.stat().st_size - 12


@pytest.mark.parametrize("kept", [0, 7, 8, 20, -1])
def test_a_truncated_file_is_named_in_one_sentence(whole: Path, kept: int):
    whole.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(BrokenFileError, match=r"part\.safetensors is truncated"):
        read_header(whole)


@pytest.mark.parametrize(
    "header",
    [
        b"[1, 2]",
        b"not json",
        b"{}",
        b'{"a": 5}',
        b'{"a": {"shape": [1]}}',
        b'{"a": {"shape": ["x"], "data_offsets": [0, 4]}}',
        b'{"a":' * 30_000,
    ],
)
def test_a_damaged_header_is_an_error(tmp_path: Path, header: bytes):
    path = tmp_path / "part.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    with pytest.raises(BrokenFileError, match="damaged"):
        read_header(path)


def test_a_header_length_past_any_bound_is_refused_without_reading_it(tmp_path: Path):
    path = tmp_path / "part.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(BrokenFileError, match="truncated or not a safetensors file"):
        read_header(path)
