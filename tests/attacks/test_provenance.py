"""Attacks on taint: pictures, maps and weights from outside passed off as this installation's."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save as save_tensors

from tests.fakes import gradient
from tests.guards import use_guard
from tests.provenance.listening import listening
from tests.provenance.test_c2pa import chunk_of, foreign
from tests.safety.stubs import ScoreStub, always_healthy, placeholder_lexicon
from tests.test_engine import SESSION, Scripted, saved, silent
from webui.cli.building import build_engine, shelves_in
from webui.engine import Engine
from webui.errors import BadRequestError, BrokenFileError, NotFoundError
from webui.events import Event
from webui.generator import Cancel, Session
from webui.library.checkpoints import CheckpointShelf
from webui.library.hashes import HashBook
from webui.library.uploads import Uploads
from webui.provenance.c2pa import LINEAGE, Signer, Statement
from webui.provenance.certificate import identity_in, new_identity, trust_in
from webui.provenance.lineage import SCHEMA
from webui.provenance.pngtext import insert_text
from webui.provenance.verify import Verification, verify
from webui.request import GenerationRequest, parse_request
from webui.safety.guard import Guard
from webui.safety.known import is_known
from webui.settings import ROOT, Settings

PROMPT = "a forest by day"
POSE: dict[str, Any] = {
    "width": 256,
    "height": 256,
    "people": [[[60.0 + 8 * n, 40.0 + 10 * n, True] for n in range(18)]],
}
UNTAINTED: dict[str, Any] = {"schema": SCHEMA, "tainted": False}


@dataclass(frozen=True)
class House:
    """The real engine with the embedded model, and its shelf of pictures brought in."""

    engine: Engine
    uploads: Uploads
    settings: Settings

    def run(self, **asked: Any) -> list[Event]:
        request = GenerationRequest.model_validate(
            {"prompt": PROMPT, "seed": 5, "steps": 4, "strength": 0.5} | asked
        )
        return list(self.engine.generate(request, SESSION, Cancel()))

    def made(self, **asked: Any) -> bytes:
        (picture,) = saved(self.run(**asked))
        return Path(picture.path).read_bytes()

    def bring(self, file: bytes) -> str:
        return self.uploads.take(file).id

    def verified(self, file: bytes) -> Verification:
        return verify(file, trust_in(self.settings.state))

    def is_tainted(self, file: bytes) -> bool:
        """What is signed in a picture of this house."""
        lineage = self.verified(file).credentials.lineage
        assert lineage is not None
        return lineage["tainted"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    settings = Settings(outputs=folder / "outputs", state=folder / "state", loras=folder / "loras")
    settings.loras.mkdir()
    engine = build_engine(settings, silent)
    yield House(engine, shelves_in(settings).uploads, settings)
    engine.close()


@pytest.fixture
def house(built: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """With a guard that lets everything through, as taint does not depend on what is seen."""
    use_guard(built.engine, monkeypatch, Scripted())
    return built


@pytest.fixture(scope="module")
def own(built: House) -> bytes:
    """The file of a picture that this house has made of text alone."""
    with pytest.MonkeyPatch.context() as patch:
        use_guard(built.engine, patch, Scripted())
        return built.made()


def as_png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


OUTSIDE = as_png(gradient(256, 256, 3))


def test_an_upload_is_worked_on_at_the_strict_level_whatever_is_granted(built: House) -> None:
    name = built.bring(OUTSIDE)
    guard = Guard(ScoreStub(), placeholder_lexicon(), self_test=always_healthy)
    asks = Session(id="a", level=2)
    for named in ({"init": name}, {"controls": [{"kind": "canny", "picture": name}]}):
        request = parse_request({"prompt": PROMPT, **named})
        assert guard.admit(request, asks).level == 0


def test_taint_stays_over_five_generations(house: House) -> None:
    file = OUTSIDE
    for generation in range(5):
        file = house.made(init=house.bring(file), seed=generation)
        found = house.verified(file)
        assert found.verdict == "whole"
        assert house.is_tainted(file), f"laundered in generation {generation}"
        assert len(found.credentials.ancestors) == generation
    edges = {"kind": "canny", "picture": house.bring(file)}
    assert house.uploads.origin(edges["picture"]).tainted


def test_an_own_picture_is_used_again_untainted_and_its_pixels_are_those_signed(
    house: House, own: bytes
) -> None:
    name = house.bring(own)
    assert np.array_equal(pixels(house.uploads.read(name)), pixels(own))
    again = house.made(init=name)
    assert not house.is_tainted(own)
    assert not house.is_tainted(again)
    assert not house.is_tainted(house.made(init=house.bring(again), seed=6))


def test_one_changed_byte_of_an_own_picture_taints(
    house: House, own: bytes, tmp_path: Path
) -> None:
    text = insert_text(own, {"Comment": "a"})
    one = pixels(own).copy()
    one[0, 0, 0] ^= 1
    chunk = chunk_of(own, b"caBX")
    pixel = as_png(Image.fromarray(one))
    moved = pixel[:33] + chunk + pixel[33:]
    longer = own + b"\0"
    for changed in (text, pixel, moved, longer):
        assert house.verified(changed).verdict != "whole"
    for changed in (pixel, moved):
        assert house.uploads.origin(house.bring(changed)).tainted
    # The pixels of these stay the same: where they were never seen signed, that is not enough.
    elsewhere = shelves_in(Settings(state=tmp_path / "state")).uploads
    shutil.copytree(house.settings.state / "signing", tmp_path / "state" / "signing")
    for changed in (text, longer):
        assert elsewhere.origin(elsewhere.take(changed).id).tainted
    assert not elsewhere.origin(elsewhere.take(own).id).tainted
    assert house.is_tainted(house.made(init=house.bring(moved)))


def test_an_own_picture_without_its_credentials_is_from_outside(
    house: House, tmp_path: Path
) -> None:
    file = house.made(seed=77)
    uploads = shelves_in(Settings(state=house.settings.state)).uploads
    stripped = file.replace(chunk_of(file, b"caBX"), b"")
    resaved = as_png(Image.open(io.BytesIO(file)))
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(file)).save(jpeg, "JPEG", quality=95)
    for copy in (stripped, resaved, jpeg.getvalue()):
        assert uploads.origin(uploads.take(copy).id).tainted
    assert not uploads.origin(uploads.take(file).id).tainted


def test_credentials_of_others_never_vouch(house: House) -> None:
    other = new_identity()
    claim = {"label": LINEAGE, "data": UNTAINTED}
    statement = Statement("trainedAlgorithmicMedia", UNTAINTED)
    files = {
        "foreign": foreign(other, OUTSIDE),
        "self-signed with our words": foreign(other, OUTSIDE, assertions=(claim,)),
        "another installation's": Signer(other).sign(OUTSIDE, statement),
        "moved": OUTSIDE[:33] + chunk_of(house.made(), b"caBX") + OUTSIDE[33:],
    }
    names = {what: house.bring(file) for what, file in files.items()}
    for what, name in names.items():
        assert house.uploads.origin(name).tainted, what
    assert house.is_tainted(house.made(init=names["moved"]))


def test_a_manifest_at_an_address_is_never_fetched(house: House) -> None:
    with listening() as trap:
        remote = foreign(new_identity(), OUTSIDE, remote=trap.address)
        name = house.bring(remote)
        assert house.uploads.origin(name).tainted
        assert house.is_tainted(house.made(init=name, seed=9))
        assert not trap.was_called()


def test_a_foreign_manifest_goes_on_and_is_shown(house: House, tmp_path: Path) -> None:
    name = house.bring(foreign(new_identity(), OUTSIDE))
    file = tmp_path / "made.png"
    file.write_bytes(house.made(init=name, seed=10))
    command = [sys.executable, "-m", "webui", "verify", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stdout
    assert "made of" in told
    assert "made with 'Paint 2'" in told
    assert house.is_tainted(file.read_bytes())


def test_a_damaged_manifest_stops_nothing_and_vouches_for_nothing(house: House) -> None:
    whole = foreign(identity_in(house.settings.state), OUTSIDE)
    old = chunk_of(whole, b"caBX")
    body = bytearray(old[4:-4])
    body[300] ^= 255
    new = old[:4] + body + zlib.crc32(body).to_bytes(4, "big")
    name = house.bring(whole.replace(old, new))
    assert house.is_tainted(house.made(init=name, seed=11))


def test_a_verdict_cannot_be_brought_along(house: House, own: bytes) -> None:
    record = house.uploads.origin(house.bring(own))
    assert not record.tainted
    folder = house.settings.state / "uploads"
    name = house.bring(as_png(gradient(64, 64, 9)))
    forged = json.dumps({"id": name, "tainted": False, "original": "", "seal": "0" * 64})
    (folder / f"{name}.origin").write_text(forged)
    assert house.uploads.origin(name).tainted
    shutil.copy(folder / f"{house.bring(own)}.origin", folder / f"{name}.origin")
    assert house.uploads.origin(name).tainted
    with pytest.raises(BrokenFileError):
        house.bring(forged.encode())
    with pytest.raises(NotFoundError):
        house.uploads.read(f"{name}.origin")


def test_a_photo_of_a_pose_and_a_map_from_outside_taint_and_a_drawn_pose_does_not(
    house: House, own: bytes
) -> None:
    drawn = house.made(controls=[{"pose": POSE}])
    assert not house.is_tainted(drawn)
    given: dict[str, Any] = {"kind": "pose", "preprocessor": "none"}
    for file, tainted in ((own, False), (OUTSIDE, True)):
        control = given | {"picture": house.bring(file)}
        assert house.is_tainted(house.made(controls=[control])) is tainted


def test_a_mask_taints(house: House, own: bytes) -> None:
    drawn = Image.new("L", (256, 256))
    drawn.paste(255, (64, 64, 192, 192))
    mask = house.uploads.take(as_png(drawn), kind="mask").id
    assert house.is_tainted(house.made(init=house.bring(own), mask=mask))
    painted = house.uploads.take(own, kind="mask").id
    assert house.uploads.origin(painted).tainted


def test_latents_cannot_be_brought_in(house: House) -> None:
    latents = torch.zeros(1, 4, 32, 32)
    array = io.BytesIO()
    np.save(array, latents.numpy())
    for file in (save_tensors({"latents": latents}), array.getvalue()):
        with pytest.raises(BrokenFileError, match="no picture"):
            house.bring(file)
    for field in ("latents", "init_latents", "tainted", "origin"):
        with pytest.raises(BadRequestError):
            parse_request({"prompt": PROMPT, field: False})


def test_a_lora_is_known_by_its_content_whatever_it_is_called(house: House) -> None:
    shipped = ROOT / "loras" / "postcard-neon.safetensors"
    shutil.copy(shipped, house.settings.loras / "mine.safetensors")
    trained = bytearray(shipped.read_bytes())
    trained[-1] ^= 1
    other = house.settings.loras / "postcard-neon.safetensors"
    other.write_bytes(trained)
    card = json.dumps({"sha256": "b0c266f3", "name": "postcard-neon"})
    other.with_suffix(".json").write_text(card)
    for name, tainted in (("mine", False), ("postcard-papercut", False), ("postcard-neon", True)):
        assert house.is_tainted(house.made(loras=[{"name": name}])) is tainted, name


def test_a_model_by_the_embedded_ones_name_is_not_it(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "postcard", tmp_path / "models" / "postcard")
    shelf = CheckpointShelf((tmp_path / "models",), HashBook(tmp_path / "hashes.json"))
    assert is_known(shelf.find("postcard").sha256)
    weights = tmp_path / "models" / "postcard" / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert not is_known(shelf.find("postcard").sha256)


def test_weights_exchanged_behind_the_hash_book_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"known")
    book = HashBook(tmp_path / "hashes.json")
    before, stat = book.sha256(file), file.stat()
    other = tmp_path / "b"
    other.write_bytes(b"other")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert book.sha256(file) != before
