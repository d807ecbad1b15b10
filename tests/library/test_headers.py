from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tests.library.weights import put_gguf
from webui.errors import BrokenFileError
from webui.library.headers import read_header
from webui.library.recognition import recognise


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


def entry(begin: int, end: int, *shape: object, dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def write(path: Path, tensors: dict[str, Any], body: int) -> Path:
    text = json.dumps(tensors).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\0" * body)
    return path


def test_types_and_bytes_are_told(tmp_path: Path):
    tensors = {
        "a": entry(0, 24, 2, 3),
        "b": entry(24, 28, dtype="I32"),
        "c": entry(28, 30, 4, dtype="F4"),
        "d": entry(30, 30, 0, dtype="F8_E4M3"),
    }
    header = read_header(write(tmp_path / "x.safetensors", tensors, 30))
    assert header.dtypes == {"a": "F32", "b": "I32", "c": "F4", "d": "F8_E4M3"}
    assert header.sizes == {"a": 24, "b": 4, "c": 2, "d": 0}
    assert not header.is_gguf


@pytest.mark.parametrize(
    ("tensors", "body"),
    [
        ({"a": entry(0, 4, 1), "b": entry(0, 4, 1)}, 4),
        ({"a": entry(0, 8, 2), "b": entry(4, 12, 2)}, 12),
        ({"a": entry(4, 8, 1)}, 8),
        ({"a": entry(0, 4, 1), "b": entry(8, 12, 1)}, 12),
        ({"a": entry(-4, 0, 1)}, 4),
        ({"a": entry(4, 0, 1)}, 4),
        ({"a": entry(0, 8, 1)}, 8),
        ({"a": entry(0, 4, -1)}, 4),
        ({"a": entry(0, 4, -1, -1)}, 4),
        ({"a": entry(0, 4, True)}, 4),
        ({"a": entry(0, 4, 1.0)}, 4),
        ({"a": entry(0, 4, 1, dtype="F31")}, 4),
        ({"a": entry(0, 4, 1, dtype=["F32"])}, 4),
        ({"a": entry(0, 4, *[2**47] * 10_000)}, 4),
        ({"a": {**entry(0, 4, 1), "shape": {}}}, 4),
        ({"a": {**entry(0, 4, 1), "data_offsets": [0, 4, 4]}}, 4),
        ({"a": entry(0, 4, [0], 10**12)}, 4),
        ({"a": entry(0, 4, 1)}, 5),
        ({"__metadata__": {"a": 1}, "a": entry(0, 4, 1)}, 4),
    ],
)
def test_hostile_offsets_and_shapes_are_refused_as_the_library_would(
    tmp_path: Path, tensors: dict[str, Any], body: int
):
    path = write(tmp_path / "x.safetensors", tensors, body)
    with pytest.raises(BrokenFileError, match=r"x\.safetensors .*damaged"):
        read_header(path)
    with pytest.raises(SafetensorError), safe_open(path, "np"):
        pass


@pytest.mark.parametrize("shape", [(0, 2**60), (0, *[1] * 64)])
def test_shapes_that_nobody_has_are_refused_even_where_they_hold_nothing(
    tmp_path: Path, shape: tuple[int, ...]
):
    path = write(tmp_path / "x.safetensors", {"a": entry(0, 0, *shape)}, 0)
    with pytest.raises(BrokenFileError, match="damaged"):
        read_header(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=300), gguf=st.booleans())
def test_arbitrary_bytes_raise_nothing_else(tmp_path: Path, data: bytes, gguf: bool):
    path = tmp_path / ("x.gguf" if gguf else "x.safetensors")
    path.write_bytes(b"GGUF\x03\0\0\0" + data if gguf else struct.pack("<Q", len(data)) + data)
    with contextlib.suppress(BrokenFileError):
        recognise(read_header(path), file=path.name)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "U8", "F4", "x"]) | JSON,
        "shape": st.lists(st.integers(-1, 4), max_size=4) | JSON,
        "data_offsets": st.lists(st.integers(-1, 64), min_size=2, max_size=2) | JSON,
    }
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tensors=st.dictionaries(
        st.text(max_size=30) | st.just("__metadata__"), ENTRIES | JSON, max_size=4
    )
)
def test_arbitrary_headers_raise_nothing_else_and_what_passes_the_library_reads(
    tmp_path: Path, tensors: dict[str, Any]
):
    path = write(tmp_path / "x.safetensors", tensors, 64)
    try:
        recognise(read_header(path), file=path.name)
    except BrokenFileError:
        return
    library: Any = safe_open(path, "np")
    with library as file:
        assert set(file.keys()) == set(tensors) - {"__metadata__"}


def test_a_gguf_header_is_read_like_another(tmp_path: Path):
    path = put_gguf(
        tmp_path / "x.gguf",
        {"x.weight": (64, 256), "bias": (7,)},
        "Q4_K",
        {"general.architecture": "flux"},
        {"x.weight": (64, 64, 2, 2)},
        vocabulary=30_000,
    )
    header = read_header(path)
    assert header.shapes == {"x.weight": (64, 64, 2, 2), "bias": (7,)}
    assert header.dtypes == {"x.weight": "Q4_K", "bias": "F32"}
    assert header.sizes == {"x.weight": 64 * 144, "bias": 28}
    assert header.metadata == {"general.architecture": "flux"}
    assert header.is_gguf
    assert path.stat().st_size - header.data_start == 64 * 144 + 32


@pytest.mark.parametrize("kept", [0, 3, 8, 20, 60, -40])
def test_a_truncated_gguf_file_is_named(tmp_path: Path, kept: int):
    path = put_gguf(tmp_path / "x.gguf", {"x.weight": (64, 256)}, texts={"a": "b"})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BrokenFileError, match=r"x\.gguf is truncated"):
        read_header(path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PK\x03\x04" + b"\0" * 40, "is not a GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "damaged header"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62), "far too long"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<I", 99), "damaged"),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, 1) + b"a" + struct.pack("<IQIQ", 1, 1, 77, 0),
            "unknown type 77",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, 1) + b"a" + struct.pack("<IQIQ", 1, 31, 2, 0),
            "damaged at tensor",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQ", 3, 2, 0)
            + b"".join(
                struct.pack("<Q", 1) + n + struct.pack("<IQIQ", 1, 8, 0, 0) for n in (b"a", b"b")
            )
            + b"\0" * 99,
            "overlap",
        ),
    ],
)
def test_a_hostile_gguf_header_is_refused(tmp_path: Path, data: bytes, says: str):
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(BrokenFileError, match=says):
        read_header(path)


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path):
    with pytest.raises(BrokenFileError, match="cannot be read: No such file"):
        read_header(tmp_path / "x.safetensors")
