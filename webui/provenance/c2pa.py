"""Content Credentials (C2PA): signed statements in a picture's file, written and read offline.

C2PA Technical Specification 2.2. Signing is done by c2pa-python. Its defaults do not suit: they
embed thumbnails, fetch addresses that are named in a file, and call a signature of anybody valid.
"""

from __future__ import annotations

import io
import json
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import c2pa  # pyright: ignore[reportMissingTypeStubs]

from webui import __version__
from webui.errors import MarkError
from webui.provenance.certificate import Identity, Trust
from webui.provenance.lineage import VOCABULARY

State = Literal["none", "own", "other", "changed", "elsewhere", "unreadable"]
"""What a file's credentials are: not there; this installation's; whole, of somebody who is not
known here; not fitting the file; at an address only, which is not fetched; damaged."""

LINEAGE = "easel.lineage"
"""Label of our own assertion."""

CREATED, OPENED, EDITED = "c2pa.created", "c2pa.opened", "c2pa.edited"

_EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
_PARENT = "parent"
_CHUNK = b"caBX"
_ANY_KIND = "application/octet-stream"
_MOST_ANCESTORS = 32


@dataclass(frozen=True)
class Statement:
    """What is signed about a picture.

    Attributes:
        source_type: IPTC digital source type, the last part of its address.
        lineage: JSON values: taint, operation, hashes; see `webui.provenance.lineage`.
        parent: File of the picture it began from; its own credentials are kept.
    """

    source_type: str
    lineage: Mapping[str, Any]
    parent: bytes | None = None


@dataclass(frozen=True)
class Ancestor:
    """What was signed about a picture that this one was made of, as its credentials keep it.

    Attributes:
        signer, generator, actions, source_types: As in `Credentials`.
        problems: Codes of what did not hold when it went in, as whoever signed next recorded it.
    """

    signer: str | None
    generator: str | None
    actions: tuple[str, ...]
    source_types: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Credentials:
    """What was found in a file.

    Attributes:
        signer: Who is named as the signer; anybody can write any name there.
        generator: The program that is named.
        actions: Names of the actions, the first one first.
        source_types: Digital source types of the actions.
        lineage: Our own assertion; only of credentials that are this installation's.
        problems: Codes of what does not hold, as the specification names them.
        ancestors: The pictures it was made of, the nearest first.
    """

    state: State
    signer: str | None = None
    generator: str | None = None
    actions: tuple[str, ...] = ()
    source_types: tuple[str, ...] = ()
    lineage: Mapping[str, Any] | None = None
    problems: tuple[str, ...] = ()
    ancestors: tuple[Ancestor, ...] = ()


class Signer:
    """Signs PNG files for one installation. To be used by one thread at a time."""

    def __init__(self, identity: Identity) -> None:
        """Raises `MarkError` where the key does not work."""
        self._trust = identity.trust
        chain = (identity.leaf + identity.root).encode()
        try:
            self._context = _context(identity.trust)
            self._signer = c2pa.Signer.from_info(
                c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, chain, identity.key.encode(), None)
            )
        except c2pa.C2paError as error:
            raise _unsigned() from error

    def sign(self, png: bytes, statement: Statement) -> bytes:
        """The file with signed credentials over all of it, and otherwise as it was.

        Raises:
            MarkError: It cannot be signed, or what was signed does not read as it should.
        """
        try:
            signed = self._signed(png, statement)
            found = read(signed, "image/png", self._trust)
        except c2pa.C2paError as error:
            raise _unsigned() from error
        as_meant = found.state == "own" and found.lineage == statement.lineage
        if not as_meant or _without_credentials(signed) != _without_credentials(png):
            raise _unsigned()
        return signed

    def _signed(self, png: bytes, statement: Statement) -> bytes:
        target = io.BytesIO()
        with c2pa.Builder(_manifest(statement), self._context) as builder:
            if statement.parent is not None:
                ingredient = {"title": _PARENT, "relationship": "parentOf", "label": _PARENT}
                builder.add_ingredient(  # pyright: ignore[reportUnknownMemberType]
                    ingredient, kind_of(statement.parent) or _ANY_KIND, io.BytesIO(statement.parent)
                )
            builder.sign(self._signer, "image/png", io.BytesIO(png), target)
        return target.getvalue()


def kind_of(data: bytes) -> str | None:
    """MIME type of a file whose credentials are read, by its first bytes; `None` for others."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def read(data: bytes, kind: str, trust: Trust | None) -> Credentials:
    """The credentials embedded in a file; nothing is ever fetched.

    Args:
        kind: MIME type of the file.
        trust: Whose signatures count; `None`: nobody's.
    """
    try:
        with c2pa.Reader(kind, io.BytesIO(data), context=_context(trust)) as reader:
            return _credentials(reader)
    except c2pa.C2paError as error:
        return Credentials(_state_of(error))


def _context(trust: Trust | None) -> c2pa.Context:
    # A misspelt name is passed over in silence: what each one does is tested.
    settings = json.dumps(
        {
            "version": 1,
            "trust": {
                "user_anchors": None if trust is None else trust.root,
                "trust_config": _EMAIL_PROTECTION,
            },
            "core": {"allowed_network_hosts": []},
            "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
            "builder": {"thumbnail": {"enabled": False}},
        }
    )
    return c2pa.Context.from_json(settings)


def _manifest(statement: Statement) -> dict[str, Any]:
    address = VOCABULARY + statement.source_type
    actions: list[dict[str, Any]] = [{"action": CREATED, "digitalSourceType": address}]
    if statement.parent is not None:
        opened = {"action": OPENED, "parameters": {"ingredientIds": [_PARENT]}}
        actions = [opened, {"action": EDITED, "digitalSourceType": address}]
    return {
        "claim_generator_info": [{"name": "Easel", "version": __version__}],
        "format": "image/png",
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": LINEAGE, "data": dict(statement.lineage)},
        ],
    }


def _credentials(reader: c2pa.Reader) -> Credentials:
    report: dict[str, Any] = json.loads(reader.json())
    manifests = _object(report.get("manifests"))
    active = str(report.get("active_manifest"))
    manifest = _object(manifests.get(active))
    said = _assertions(manifest)
    state = _state_in(
        report, embedded=reader.is_embedded(), ours=isinstance(said.get(LINEAGE), dict)
    )
    actions, types = _actions(said)
    return Credentials(
        state=state,
        signer=_text(_object(manifest.get("signature_info")).get("issuer")),
        generator=_generator(manifest),
        actions=actions,
        source_types=types,
        lineage=_object(said.get(LINEAGE)) if state == "own" else None,
        problems=_problems(report),
        ancestors=tuple(_ancestors(manifests, active)),
    )


def _ancestors(manifests: Mapping[str, Any], active: str) -> Iterator[Ancestor]:
    """Those with credentials, generation by generation; anybody can have signed a circle."""
    waiting, seen = deque([active]), {active}
    while waiting:
        for ingredient in _objects(_object(manifests.get(waiting.popleft())), "ingredients"):
            label = str(ingredient.get("active_manifest"))
            manifest = _object(manifests.get(label))
            if not manifest or label in seen or len(seen) > _MOST_ANCESTORS:
                continue
            seen.add(label)
            waiting.append(label)
            yield Ancestor(
                _text(_object(manifest.get("signature_info")).get("issuer")),
                _generator(manifest),
                *_actions(_assertions(manifest)),
                _problems(ingredient),
            )


def _assertions(manifest: Mapping[str, Any]) -> dict[str, object]:
    return {str(each.get("label")): each.get("data") for each in _objects(manifest, "assertions")}


def _actions(said: Mapping[str, object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the actions, and the digital source types among them."""
    actions = [
        action
        for label, data in said.items()
        if label.startswith("c2pa.actions")
        for action in _objects(_object(data), "actions")
    ]
    types = (action.get("digitalSourceType") for action in actions)
    return (
        tuple(str(action.get("action")) for action in actions),
        tuple(str(each).rpartition("/")[2] for each in types if each is not None),
    )


def _problems(report: Mapping[str, Any]) -> tuple[str, ...]:
    found = _object(_object(report.get("validation_results")).get("activeManifest"))
    return tuple(str(failure.get("code")) for failure in _objects(found, "failure"))


def _state_in(report: Mapping[str, Any], *, embedded: bool, ours: bool) -> State:
    match report.get("validation_state"):
        case "Trusted" if embedded and ours:
            return "own"
        case "Trusted" | "Valid" if embedded:
            return "other"
        case _:
            return "changed"


def _generator(manifest: Mapping[str, Any]) -> str | None:
    for info in _objects(manifest, "claim_generator_info"):
        return f"{info.get('name', '')} {info.get('version') or ''}".strip()
    return _text(manifest.get("claim_generator"))


def _object(value: object) -> Mapping[str, Any]:
    """A JSON object, empty where there is something else: anybody can have signed anything."""
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}


def _objects(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    items = value.get(key)
    return [_object(each) for each in cast(list[Any], items)] if isinstance(items, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _state_of(error: c2pa.C2paError) -> State:
    # The library tells its errors apart by the word in front of the sentence.
    kind = str(error).partition(":")[0]
    return (
        "none" if kind == "ManifestNotFound" else "elsewhere" if kind == "Remote" else "unreadable"
    )


def _without_credentials(png: bytes) -> bytes:
    """The file's parts but for the chunk that holds credentials."""
    kept, position = [png[:8]], 8
    while position + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        end = position + 12 + length
        if kind != _CHUNK:
            kept.append(png[position:end])
        position = end
    return b"".join(kept)


def _unsigned() -> MarkError:
    return MarkError("The picture could not be signed as made by AI, so it was not released.")
