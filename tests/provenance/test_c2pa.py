from __future__ import annotations

import io
import json
import struct
import threading
import zlib
from typing import Any

import c2pa as library  # pyright: ignore[reportMissingTypeStubs]
import pytest

from tests.provenance.listening import Trap, listening
from tests.provenance.scenes import marked, opened, png, saved_as, scene
from webui.errors import MarkError
from webui.provenance import c2pa
from webui.provenance.c2pa import LINEAGE, Signer, Statement, kind_of, read
from webui.provenance.certificate import Identity, Trust
from webui.provenance.lineage import VOCABULARY
from webui.provenance.pngtext import insert_text, read_text

PNG = png(scene(1))
KIND = "image/png"
STATEMENT = Statement("trainedAlgorithmicMedia", {"tainted": False, "operation": "text"})


def foreign(
    identity: Identity,
    source: bytes = PNG,
    *,
    assertions: tuple[dict[str, Any], ...] = (),
    settings: dict[str, Any] | None = None,
    remote: str | None = None,
) -> bytes:
    """A file signed with the library as it comes, by anybody."""
    chain = (identity.leaf + identity.root).encode()
    info = library.C2paSignerInfo(library.C2paSigningAlg.ES256, chain, identity.key.encode(), None)
    target = io.BytesIO()
    created = {"action": "c2pa.created", "digitalSourceType": VOCABULARY + "digitalCreation"}
    said = {
        "claim_generator_info": [{"name": "Paint", "version": "2"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}, *assertions],
    }
    asked = settings or {"builder": {"thumbnail": {"enabled": False}}}
    context = library.Context.from_json(json.dumps(asked))
    with library.Builder(json.dumps(said), context) as builder:
        if remote is not None:
            builder.set_no_embed()
            builder.set_remote_url(remote)
        builder.sign(library.Signer.from_info(info), KIND, io.BytesIO(source), target)
    return target.getvalue()


def chunk_of(data: bytes, kind: bytes) -> bytes:
    start = data.index(kind) - 4
    (length,) = struct.unpack_from(">I", data, start)
    return data[start : start + 12 + length]


def test_what_is_signed_is_read_again(signer: Signer, identity: Identity) -> None:
    signed = signer.sign(PNG, STATEMENT)
    found = read(signed, KIND, identity.trust)
    assert found.state == "own"
    assert found.lineage == STATEMENT.lineage
    assert found.actions == ("c2pa.created",)
    assert found.source_types == ("trainedAlgorithmicMedia",)
    assert found.generator is not None
    assert found.generator.startswith("Easel ")
    assert found.problems == ()


def test_the_file_is_otherwise_byte_by_byte_what_it_was(signer: Signer) -> None:
    source = insert_text(PNG, {"easel": "{}", "parameters": "a hill\nSteps: 1"})
    signed = signer.sign(source, STATEMENT)
    assert signed.replace(chunk_of(signed, b"caBX"), b"") == source
    assert read_text(signed) == read_text(source)
    assert (opened(signed) == opened(PNG)).all()


def test_there_is_no_thumbnail_and_little_is_added(signer: Signer, identity: Identity) -> None:
    parent = Statement("compositeWithTrainedAlgorithmicMedia", {"tainted": True}, parent=PNG)
    assert len(signer.sign(PNG, STATEMENT)) - len(PNG) < 6_000
    assert len(signer.sign(PNG, parent)) - len(PNG) < 8_000
    with_thumbnail = foreign(identity, settings={"builder": {"thumbnails": {"enabled": False}}})
    assert len(with_thumbnail) - len(PNG) > 20_000, "a misspelt setting should have no effect"


def test_a_picture_begun_from_another_names_it(signer: Signer, identity: Identity) -> None:
    parent = Statement("compositeWithTrainedAlgorithmicMedia", {"tainted": True}, parent=PNG)
    found = read(signer.sign(png(scene(2)), parent), KIND, identity.trust)
    assert found.state == "own"
    assert found.actions == ("c2pa.opened", "c2pa.edited")
    assert found.source_types == ("compositeWithTrainedAlgorithmicMedia",)


def test_the_credentials_of_the_parent_are_kept(
    signer: Signer, identity: Identity, other: Identity
) -> None:
    parent = foreign(other)
    statement = Statement("compositeWithTrainedAlgorithmicMedia", {"tainted": True}, parent=parent)
    signed = signer.sign(png(scene(2)), statement)
    assert read(signed, KIND, identity.trust).state == "own"
    reader = library.Reader(KIND, io.BytesIO(signed))
    assert len(json.loads(reader.json())["manifests"]) == 2


def test_nothing_there(identity: Identity) -> None:
    assert read(PNG, KIND, identity.trust).state == "none"
    assert read(saved_as("JPEG", scene(1)), "image/jpeg", None).state == "none"


def test_another_installation_is_not_known(
    signer: Signer, identity: Identity, other: Identity
) -> None:
    signed = signer.sign(PNG, STATEMENT)
    for trust in (other.trust, None):
        found = read(signed, KIND, trust)
        assert found.state == "other"
        assert found.lineage is None
        assert found.problems == ("signingCredential.untrusted",)
    assert read(foreign(other), KIND, identity.trust).state == "other"


def test_a_name_that_is_copied_makes_nobody_known(identity: Identity, other: Identity) -> None:
    forged = foreign(other, assertions=({"label": LINEAGE, "data": {"tainted": False}},))
    found = read(forged, KIND, identity.trust)
    assert (found.state, found.signer, found.lineage) == ("other", "Easel", None)


def test_the_own_key_without_our_statement_is_not_ours(identity: Identity) -> None:
    assert read(foreign(identity), KIND, identity.trust).state == "other"


def test_a_statement_that_is_no_object_is_none(identity: Identity) -> None:
    signed = foreign(identity, assertions=({"label": LINEAGE, "data": ["tainted"]},))
    assert read(signed, KIND, identity.trust).state == "other"


@pytest.mark.parametrize("place", ["pixels", "text"])
def test_one_changed_byte_is_seen(signer: Signer, identity: Identity, place: str) -> None:
    signed = bytearray(signer.sign(insert_text(PNG, {"easel": "{ }"}), STATEMENT))
    at = signed.index(b"IDAT") + 100 if place == "pixels" else signed.index(b"{ }") + 1
    signed[at] ^= 1
    found = read(bytes(signed), KIND, identity.trust)
    assert found.state == "changed"
    assert "assertion.dataHash.mismatch" in found.problems
    assert found.lineage is None


def test_credentials_moved_to_another_picture_do_not_fit(
    signer: Signer, identity: Identity
) -> None:
    moved = chunk_of(signer.sign(PNG, STATEMENT), b"caBX")
    target = png(scene(2))
    assert read(target[:33] + moved + target[33:], KIND, identity.trust).state == "changed"


def test_a_changed_taint_is_seen(signer: Signer, identity: Identity) -> None:
    signed = signer.sign(PNG, Statement("trainedAlgorithmicMedia", {"tainted": True}))
    chunk = chunk_of(signed, b"caBX")
    at = chunk.index(b"tainted") + 7
    assert chunk[at] == 0xF5, "true in CBOR"
    data = chunk[4:at] + b"\xf4" + chunk[at + 1 : -4]
    forged = chunk[:4] + data + struct.pack(">I", zlib.crc32(data))
    assert read(signed.replace(chunk, forged), KIND, identity.trust).state == "changed"


def test_damaged_credentials(signer: Signer, identity: Identity) -> None:
    data = b"caBX" + b"\x00\x00\x00\x20jumbnothing"
    broken = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    found = read(PNG[:33] + broken + PNG[33:], KIND, identity.trust)
    assert found.state in ("unreadable", "none")
    assert read(b"no picture", KIND, identity.trust).state == "unreadable"


def test_nothing_is_fetched(identity: Identity, other: Identity, signer: Signer) -> None:
    with listening() as trap:
        remote = foreign(other, remote=trap.address)
        assert read(remote, KIND, identity.trust).state == "elsewhere"
        assert not trap.was_called()
        as_parent = Statement("compositeWithTrainedAlgorithmicMedia", {"a": 1}, parent=remote)
        signer.sign(PNG, as_parent)
        assert not trap.was_called()


def test_the_trap_catches_what_the_library_does_by_itself(other: Identity) -> None:
    with listening() as trap:
        remote = foreign(other, remote=trap.address)
        assert _fetches(remote, trap, {})
        assert _fetches(remote, trap, {"verify": {"remote_manifests_fetch": False}})
        assert not _fetches(remote, trap, {"verify": {"remote_manifest_fetch": False}})
        assert not _fetches(remote, trap, {"core": {"allowed_network_hosts": []}})


def _fetches(remote: bytes, trap: Trap, settings: dict[str, Any]) -> bool:
    def attempt() -> None:
        with pytest.raises(library.C2paError):
            library.Reader(
                KIND,
                io.BytesIO(remote),
                context=library.Context.from_json(json.dumps(settings)),
            )

    # The library waits for an answer, which the trap's closing of the connection is.
    thread = threading.Thread(target=attempt)
    thread.start()
    called = False
    while thread.is_alive() and not called:
        called = trap.was_called()
    thread.join()
    return called or trap.was_called()


def test_each_setting_has_its_effect(
    monkeypatch: pytest.MonkeyPatch, signer: Signer, identity: Identity
) -> None:
    """A misspelt name is passed over in silence, so each is taken away and must be missed."""
    signed = signer.sign(PNG, STATEMENT)
    written = json.dumps
    for name in ("user_anchors", "trust"):

        def misspelt(value: object, name: str = name) -> str:
            return written(value).replace(f'"{name}"', f'"{name}x"')

        monkeypatch.setattr(c2pa.json, "dumps", misspelt)
        assert read(signed, KIND, identity.trust).state == "other"
        with pytest.raises(MarkError):
            Signer(identity).sign(PNG, STATEMENT)
    monkeypatch.undo()
    assert read(signed, KIND, identity.trust).state == "own"


def test_a_key_that_does_not_work_is_one_sentence(identity: Identity, other: Identity) -> None:
    with pytest.raises(MarkError, match="could not be signed"):
        Signer(Identity("no key", identity.leaf, identity.root))
    crossed = Signer(Identity(other.key, identity.leaf, identity.root))
    with pytest.raises(MarkError, match="not released"):
        crossed.sign(PNG, STATEMENT)


def test_what_does_not_read_as_it_should_is_not_released(
    signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MarkError):
        signer.sign(b"no picture", STATEMENT)
    honest = signer._signed  # pyright: ignore[reportPrivateUsage]
    for signed in (
        honest(png(scene(2)), STATEMENT),
        honest(PNG, Statement("trainedAlgorithmicMedia", {"tainted": True})),
    ):

        def another(*_: object, signed: bytes = signed) -> bytes:
            return signed

        monkeypatch.setattr(signer, "_signed", another)
        with pytest.raises(MarkError):
            signer.sign(PNG, STATEMENT)


def test_jpeg_and_webp_are_read_too(identity: Identity, signer: Signer) -> None:
    for kind, name in (("image/jpeg", "JPEG"), ("image/webp", "WEBP")):
        assert read(saved_as(name, opened(marked(scene(1)))), kind, identity.trust).state == "none"


def test_hostile_values_are_read_as_nothing(identity: Identity) -> None:
    report: dict[str, Any] = {
        "active_manifest": "a",
        "manifests": {
            "a": {
                "claim_generator": "Old 1",
                "assertions": [{"label": "c2pa.actions", "data": {"actions": "none"}}, 5],
                "signature_info": "nobody",
            }
        },
        "validation_results": [],
        "validation_state": "Invalid",
    }

    class Hostile:
        def json(self) -> str:
            return json.dumps(report)

        def is_embedded(self) -> bool:
            return True

    found = c2pa._credentials(Hostile())  # pyright: ignore
    assert found == c2pa.Credentials("changed", generator="Old 1")
    report["manifests"] = None
    assert c2pa._credentials(Hostile()) == c2pa.Credentials("changed")  # pyright: ignore


def test_trust_is_one_installation(identity: Identity, other: Identity, signer: Signer) -> None:
    signed = signer.sign(PNG, STATEMENT)
    assert read(signed, KIND, Trust(other.root + identity.root)).state == "own"


def test_kinds_are_known_by_their_first_bytes() -> None:
    kinds = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "BMP": None}
    assert {kind: kind_of(saved_as(kind, scene(1))) for kind in kinds} == kinds
    assert kind_of(b"") is None


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "BMP"])
def test_a_parent_can_be_of_any_kind(signer: Signer, identity: Identity, kind: str) -> None:
    statement = Statement("compositeWithTrainedAlgorithmicMedia", {}, saved_as(kind, scene(2)))
    assert read(signer.sign(PNG, statement), KIND, identity.trust).state == "own"


def test_ancestors_are_told_with_what_did_not_hold(
    signer: Signer, identity: Identity, other: Identity
) -> None:
    composite = "compositeWithTrainedAlgorithmicMedia"
    first = signer.sign(png(scene(2)), Statement(composite, {"tainted": True}, foreign(other)))
    second = signer.sign(png(scene(3)), Statement(composite, {"tainted": True}, first))
    found = read(second, KIND, identity.trust)
    assert found.state == "own"
    nearest, farthest = found.ancestors
    assert (nearest.actions, nearest.problems) == (("c2pa.opened", "c2pa.edited"), ())
    assert nearest.source_types == (composite,)
    assert farthest.generator == "Paint 2"
    assert farthest.source_types == ("digitalCreation",)
    assert farthest.problems == ("signingCredential.untrusted",)
    assert read(PNG, KIND, identity.trust).ancestors == ()


def test_a_circle_or_a_crowd_of_ancestors_ends() -> None:
    def made_of(*labels: str) -> dict[str, Any]:
        return {"ingredients": [{"active_manifest": label} for label in labels]}

    circle = {"a": made_of("b", "a", "missing"), "b": made_of("a", "b", "c"), "c": {"label": "c"}}
    assert len(list(c2pa._ancestors(circle, "a"))) == 2  # pyright: ignore[reportPrivateUsage]
    crowd = {str(n): made_of(*(str(k) for k in range(200))) for n in range(200)}
    assert len(list(c2pa._ancestors(crowd, "0"))) == 32  # pyright: ignore[reportPrivateUsage]
