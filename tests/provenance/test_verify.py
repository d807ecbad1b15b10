from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.provenance.listening import listening
from tests.provenance.scenes import marked, opened, png, recipe, saved_as, scene
from tests.provenance.test_c2pa import foreign
from webui.clearance import Cleared
from webui.errors import BadRequestError, BrokenFileError
from webui.provenance import verify as verifying
from webui.provenance.c2pa import Ancestor, Credentials, Signer
from webui.provenance.certificate import Identity
from webui.provenance.pngtext import XMP, insert_text
from webui.provenance.report import to_json, to_text
from webui.provenance.sign import sign
from webui.provenance.verify import verify, verify_file
from webui.provenance.xmp import write_xmp

PARENT = png(scene(2))


@pytest.fixture(scope="module")
def whole(signer: Signer) -> bytes:
    return sign(Cleared(marked(scene(1)), 0), recipe(), signer).data


def saved_with(**options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene(1)).save(file, **options)
    return file.getvalue()


def test_a_picture_of_this_installation_is_whole(whole: bytes, identity: Identity) -> None:
    found = verify(whole, identity.trust)
    assert found.is_whole
    assert found.verdict == "whole"
    assert (found.kind, found.width, found.height) == ("PNG", 256, 256)
    assert found.recipe is not None
    assert found.recipe.request["prompt"] == "a hill"
    assert found.troubles == ()


def test_elsewhere_only_the_watermark_is_certain(whole: bytes, other: Identity) -> None:
    for trust in (other.trust, None):
        found = verify(whole, trust)
        assert found.verdict == "marked"
        assert found.credentials.state == "other"


@pytest.mark.parametrize(("kind", "quality"), [("JPEG", 75), ("WEBP", 90), ("PNG", 0)])
def test_re_saved_only_the_watermark_is_left(
    whole: bytes, identity: Identity, kind: str, quality: int
) -> None:
    found = verify(saved_as(kind, opened(whole), quality), identity.trust)
    assert found.verdict == "marked"
    assert (found.credentials.state, found.source_type, found.recipe) == ("none", None, None)
    assert "not fetched" not in to_text("a", found)


def test_a_layer_that_is_missing_is_seen(signer: Signer, identity: Identity) -> None:
    from webui.provenance.c2pa import Statement

    bare = signer.sign(marked(scene(1)), Statement("trainedAlgorithmicMedia", {"tainted": False}))
    assert verify(bare, identity.trust).verdict == "own"


def test_a_small_painted_part_is_whole_without_the_watermark(
    signer: Signer, identity: Identity
) -> None:
    painted = recipe(tainted=True, init="a" * 64, mask="b" * 64)
    found = verify(sign(Cleared(png(scene(1)), 0), painted, signer, PARENT).data, identity.trust)
    assert not found.is_marked
    assert found.verdict == "whole"
    text = to_text("a.png", found)
    assert f"parent {'a' * 64}; mask {'b' * 64}; tainted" in text


def test_a_changed_text_is_seen_even_where_the_pixels_stay(
    signer: Signer, whole: bytes, identity: Identity
) -> None:
    unmarked = sign(
        Cleared(png(scene(1)), 0),
        recipe(tainted=True, init="a" * 64, mask="b" * 64),
        signer,
        PARENT,
    ).data
    changed = insert_text(unmarked, {"parameters": "another hill"})
    found = verify(changed, identity.trust)
    assert found.verdict == "changed"
    assert "problems: " in to_text("a", found)
    assert verify(insert_text(whole, {"a": "b"}), identity.trust).verdict == "marked"


def test_somebody_elses_credentials_are_named_and_not_believed(
    identity: Identity, other: Identity
) -> None:
    found = verify(foreign(other), identity.trust)
    assert found.verdict == "other"
    text = to_text("a.png", found)
    assert "the signer is not known here" in text
    assert "names as signer 'Easel'" in text
    assert "made with 'Paint 2'" in text


def test_the_credentials_of_what_it_was_made_of_are_shown(
    signer: Signer, identity: Identity, other: Identity
) -> None:
    begun = recipe(tainted=True, init="a" * 64)
    cleared = Cleared(marked(scene(1)), 0)
    found = verify(sign(cleared, begun, signer, foreign(other)).data, identity.trust)
    assert found.verdict == "whole"
    text = to_text("a.png", found)
    line = "a picture that names as signer 'Easel'; made with 'Paint 2'; c2pa.created"
    assert f"made of      {line}" in text
    assert "problems: signingCredential.untrusted" in text
    (ancestor,) = to_json("a.png", found)["credentials"]["ancestors"]
    assert ancestor["generator"] == "Paint 2"
    own = verify(sign(cleared, begun, signer, sign(cleared, recipe(), signer).data).data, None)
    assert "made with 'Easel 0.1.0'; c2pa.created" in to_text("a.png", own)
    nameless = Credentials("other", ancestors=(Ancestor(None, None, (), (), ()),))
    assert "a picture that names no signer\n" in to_text("a", replace(found, credentials=nameless))


def test_credentials_elsewhere_are_not_fetched(identity: Identity, other: Identity) -> None:
    with listening() as trap:
        found = verify(foreign(other, remote=trap.address), identity.trust)
        assert not trap.was_called()
    assert found.credentials.state == "elsewhere"
    assert found.verdict == "other"
    assert "not fetched" in to_text("a.png", found)


def test_texts_that_anybody_can_write_are_claims(identity: Identity) -> None:
    plain = png(scene(1))
    infotext = "a hill\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 3, Size: 64x64"
    for texts, line in (
        ({"parameters": infotext}, "A1111"),
        ({"workflow": "{}", "prompt": "{}"}, "of ComfyUI (unsigned)"),
        ({"easel": recipe().to_json()}, "of Easel: model postcard, seed 3"),
        ({XMP: write_xmp("trainedAlgorithmicMedia")}, "states trainedAlgorithmicMedia"),
    ):
        found = verify(insert_text(plain, texts), identity.trust)
        assert found.verdict == "claimed"
        assert line in to_text("a.png", found)
    photo = insert_text(plain, {XMP: write_xmp("digitalCapture")})
    assert verify(photo, identity.trust).verdict == "unknown"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_xmp_of_every_kind_of_file_is_read(kind: str) -> None:
    packet = write_xmp("trainedAlgorithmicMedia")
    if kind == "PNG":
        texts = PngInfo()
        texts.add_itxt(XMP, packet)
        data = saved_with(format=kind, pnginfo=texts)
    else:
        data = saved_with(format=kind, xmp=packet.encode())
    found = verify(data, None)
    assert found.kind == kind
    assert found.source_type == "trainedAlgorithmicMedia"


def test_nothing_at_all() -> None:
    found = verify(png(scene(1)), None)
    assert found.verdict == "unknown"
    assert "that does not mean that no AI made it" in to_text("a.png", found)


def test_what_cannot_be_read_is_told() -> None:
    plain = png(scene(1))
    cut = verify(plain[: len(plain) // 2], None)
    assert cut.watermark is None
    assert any("pixels are damaged" in trouble for trouble in cut.troubles)
    assert "not looked for" in to_text("a.png", cut)
    assert "trouble" in to_text("a.png", cut)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = png(scene(1))
    monkeypatch.setattr(verifying, "MAX_PIXELS", 1000)
    found = verify(plain, None)
    assert found.watermark is None
    assert "megapixels" in found.troubles[0]
    monkeypatch.setattr(verifying, "MAX_BYTES", 1000)
    with pytest.raises(BrokenFileError, match="larger than"):
        verify(plain, None)


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(40), b"<svg/>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_one_sentence(data: bytes) -> None:
    with pytest.raises(BrokenFileError, match="no picture"):
        verify(data, None)


def test_files(tmp_path: Path, whole: bytes, identity: Identity) -> None:
    (tmp_path / "a.png").write_bytes(whole)
    assert verify_file(tmp_path / "a.png", identity.trust).is_whole
    with pytest.raises(BadRequestError, match="cannot be read"):
        verify_file(tmp_path / "gone.png", None)
    with pytest.raises(BadRequestError, match="cannot be read"):
        verify_file(tmp_path, None)


def test_as_json(whole: bytes, identity: Identity, other: Identity) -> None:
    found = json.loads(json.dumps(to_json("a.png", verify(whole, identity.trust))))
    assert found["file"] == "a.png"
    assert found["verdict"] == "whole"
    assert found["credentials"]["lineage"]["operation"] == "text"
    assert found["watermark"] == {"present": True, "bits": 64, "of": 64}
    assert found["recipe"]["from"] == "easel"
    bare = verify(png(scene(1)), None)
    missing = json.loads(json.dumps(to_json("b", replace(bare, watermark=None))))
    assert (missing["watermark"], missing["recipe"]) == (None, None)


def test_a_lineage_of_another_shape_is_shown_as_far_as_it_goes(
    signer: Signer, identity: Identity
) -> None:
    from webui.provenance.c2pa import Statement

    odd = signer.sign(png(scene(1)), Statement("trainedAlgorithmicMedia", {"schema": 9}))
    found = verify(odd, identity.trust)
    assert found.verdict == "own"
    assert "ancestry" in to_text("a.png", found)
