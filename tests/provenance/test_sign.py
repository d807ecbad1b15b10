from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from tests.provenance.scenes import marked, opened, png, recipe, scene
from tests.provenance.test_c2pa import foreign
from webui.clearance import Cleared
from webui.errors import MarkError
from webui.provenance import c2pa
from webui.provenance.c2pa import Signer
from webui.provenance.certificate import Identity
from webui.provenance.pngtext import XMP, read_text
from webui.provenance.sign import sign

CLEARED = Cleared(marked(scene(1)), 0)
PARENT = png(scene(2))


def chunks(data: bytes) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    position = 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        found.append((kind.decode(), data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def test_all_layers_are_in_the_file(signer: Signer, identity: Identity) -> None:
    signed = sign(CLEARED, recipe(), signer)
    assert signed.sha256 == hashlib.sha256(signed.data).hexdigest()
    kinds = [kind for kind, _ in chunks(signed.data)]
    assert kinds[:5] == ["IHDR", "caBX", "tEXt", "tEXt", "iTXt"]
    assert set(read_text(signed.data)) == {"easel", "parameters", XMP}
    found = c2pa.read(signed.data, "image/png", identity.trust)
    assert found.state == "own"
    assert found.lineage is not None
    assert found.lineage["watermark"] == {"id": "easel-1", "bits": 64, "partial": False}


def test_the_pixels_are_those_that_were_cleared(signer: Signer) -> None:
    signed = sign(CLEARED, recipe(), signer)
    pixels = [data for kind, data in chunks(CLEARED.data) if kind == "IDAT"]
    assert [data for kind, data in chunks(signed.data) if kind == "IDAT"] == pixels
    assert np.array_equal(opened(signed.data), opened(CLEARED.data))


def test_the_marks_add_less_than_40_kilobytes(signer: Signer) -> None:
    begun = recipe(tainted=True, init="a" * 64)
    assert len(sign(CLEARED, begun, signer, PARENT).data) - len(CLEARED.data) < 40_000


@pytest.mark.parametrize("tainted", [True, False])
def test_the_taint_is_signed(signer: Signer, identity: Identity, tainted: bool) -> None:
    signed = sign(CLEARED, recipe(tainted=tainted), signer)
    lineage = c2pa.read(signed.data, "image/png", identity.trust).lineage
    assert lineage is not None
    assert lineage["tainted"] is tainted


def test_a_picture_without_the_watermark_is_not_released(signer: Signer) -> None:
    with pytest.raises(MarkError, match="not released"):
        sign(Cleared(png(scene(1)), 0), recipe(), signer)
    with pytest.raises(MarkError, match="not released"):
        sign(Cleared(png(scene(1)), 0), recipe(tainted=True, init="a" * 64), signer, PARENT)


def test_a_part_may_be_too_small_for_it_and_that_is_signed(
    signer: Signer, identity: Identity
) -> None:
    painted = recipe(tainted=True, init="a" * 64, mask="b" * 64)
    signed = sign(Cleared(png(scene(1)), 0), painted, signer, PARENT)
    lineage = c2pa.read(signed.data, "image/png", identity.trust).lineage
    assert lineage is not None
    assert lineage["watermark"]["partial"] is True
    assert lineage["watermark"]["bits"] < 54


def test_what_is_no_picture_is_not_released(signer: Signer) -> None:
    with pytest.raises(MarkError):
        sign(Cleared(b"nothing", 0), recipe(), signer)


def test_credentials_that_cannot_be_kept_are_left_out(
    signer: Signer, identity: Identity, other: Identity
) -> None:
    damaged = bytearray(foreign(other))
    damaged[damaged.index(b"caBX") + 300] ^= 255
    begun = recipe(tainted=True, init="a" * 64)
    with pytest.raises(MarkError):
        sign(CLEARED, begun, signer, bytes(damaged))
    signed = sign(CLEARED, begun, signer, bytes(damaged), PARENT)
    found = c2pa.read(signed.data, "image/png", identity.trust)
    assert (found.state, found.actions[0], found.ancestors) == ("own", "c2pa.opened", ())
    kept = sign(CLEARED, begun, signer, foreign(other), PARENT)
    (ancestor,) = c2pa.read(kept.data, "image/png", identity.trust).ancestors
    assert ancestor.generator == "Paint 2"
