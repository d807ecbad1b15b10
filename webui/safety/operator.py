"""What the operator of an installation has set: read from `policy.toml`, strict when in doubt.

```toml
max_level = 1              # what anybody may reach: 0, 1 or 2
share_max_level = 0        # what visitors from other machines may reach
knows_invitees = false     # whether the operator knows everybody who is given an invitation
mosaic_previews = false    # whether pictures in the making are always shown as a mosaic
allowed = ["<sha256>"]     # models and LoRAs that are trusted

[thresholds.1]             # lower than the table's, for this level and those below it
anus = 0.2

[guards]                   # classifiers by slot, pinned
nsfw = "<sha256>"

[issuer]                   # a login that states the age
url = "https://login.example"
client_id = "easel"
client_secret = "..."
claim = "age_over_18"
value = true
level = 2
name = "Example"
```
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from webui.errors import BadRequestError
from webui.levels import LEVELS, STRICT, Level, lowest
from webui.request import nearest
from webui.safety.policy import (
    AS_SHIPPED,
    THRESHOLDS,
    Threshold,
    Tightened,
    shipped_threshold,
)
from webui.safety.private import UntrustedFileError, read_private

FILE = "policy.toml"
"""Within the state folder."""

LEVEL_VARIABLE = "EASEL_MAX_LEVEL"

SLOTS = ("nsfw", "face-age", "explicit", "text")
"""Folders of the guards whose models the operator provides and pins."""

_KEYS = (
    "max_level",
    "share_max_level",
    "knows_invitees",
    "mosaic_previews",
    "allowed",
    "thresholds",
    "guards",
    "issuer",
)
_ISSUER_KEYS = ("url", "client_id", "client_secret", "claim", "value", "level", "name")
_ISSUER_NEEDS = ("url", "client_id", "claim", "value", "level")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KINDS: Mapping[type, str] = MappingProxyType(
    {bool: "true or false", str: "text", list: "a list", dict: "a table"}
)
_HERE = ("localhost", "127.0.0.1", "::1")

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class PolicyError(BadRequestError):
    """The operator's file says something that cannot be used."""


@dataclass(frozen=True)
class IssuerPolicy:
    """A provider of OpenID Connect whose logins state the age.

    Attributes:
        url: The issuer's identifier.
        claim: Name of the claim that states it.
        value: What the claim must be, of this very type: "true" is not `True`.
        level: What such a login grants.
        name: What the page calls it.
    """

    url: str
    client_id: str
    claim: str
    value: bool | int | str
    level: Level
    client_secret: str = field(default="", repr=False)
    name: str = "login"


@dataclass(frozen=True)
class Policy:
    """The operator's settings; as they are without a file, everything is at its strictest.

    Attributes:
        max_level: What anybody may reach.
        share_max_level: What askers from other machines may reach.
        knows_invitees: Whether the operator vouches for knowing everybody who is invited.
        mosaic_previews: Whether pictures in the making are always shown as a mosaic.
        thresholds: In place of the table's; none is higher than it.
        allowed: SHA-256 of models, LoRAs and embeddings that are trusted.
        guards: SHA-256 of the classifiers, by slot.
        trouble: Why the file is not followed, in one sentence; all else is strict then.
    """

    max_level: Level = STRICT
    share_max_level: Level = STRICT
    knows_invitees: bool = False
    mosaic_previews: bool = False
    thresholds: Tightened = field(default_factory=lambda: AS_SHIPPED)
    allowed: frozenset[str] = frozenset()
    guards: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    issuer: IssuerPolicy | None = None
    trouble: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over all of it: another one voids what was granted under this one."""
        said = [
            self.max_level,
            self.share_max_level,
            self.knows_invitees,
            self.mosaic_previews,
            sorted((*at, value) for at, value in self.thresholds.items()),
            sorted(self.allowed),
            sorted(self.guards.items()),
            None if self.issuer is None else [self.issuer.client_secret, repr(self.issuer)],
            self.trouble,
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def read_policy(path: Path) -> Policy:
    """The settings in a file; strict ones, with the reason in `trouble`, if it cannot be relied on.

    Without a file they are strict and nothing is wrong.
    """
    try:
        data = read_private(path)
        return Policy() if data is None else parse_policy(data)
    except UntrustedFileError as error:
        return Policy(mosaic_previews=True, trouble=error.message)
    except PolicyError as error:
        return Policy(mosaic_previews=True, trouble=f"{path}: {error.message}")


def parse_policy(data: bytes) -> Policy:
    """The settings in the bytes of a file.

    Raises:
        PolicyError: One sentence about the first thing that is wrong.
    """
    if not data.strip():
        raise PolicyError("The file is empty.")
    try:
        said = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        # UnicodeDecodeError and TOMLDecodeError are of the first kind.
        raise PolicyError(f"This is no TOML: {error}.") from None
    _known(said, _KEYS, "key")
    return Policy(
        max_level=_level(said, "max_level"),
        share_max_level=_level(said, "share_max_level"),
        knows_invitees=_typed(said, "knows_invitees", bool, False),
        mosaic_previews=_typed(said, "mosaic_previews", bool, False),
        thresholds=_thresholds(_typed(said, "thresholds", dict, {})),
        allowed=frozenset(
            _digest(each, "allowed") for each in cast(list[object], _typed(said, "allowed", list))
        ),
        guards=_guards(_typed(said, "guards", dict, {})),
        issuer=_issuer(_typed(said, "issuer", dict, {})) if "issuer" in said else None,
    )


def tightest(one: Policy, other: Policy) -> Policy:
    """Settings that allow nothing which either of the two does not allow."""
    thresholds = dict(one.thresholds)
    for at, value in other.thresholds.items():
        thresholds[at] = min(value, thresholds.get(at, value))
    return Policy(
        max_level=lowest(one.max_level, other.max_level),
        share_max_level=lowest(one.share_max_level, other.share_max_level),
        knows_invitees=one.knows_invitees and other.knows_invitees,
        mosaic_previews=one.mosaic_previews or other.mosaic_previews,
        thresholds=MappingProxyType(thresholds),
        allowed=one.allowed & other.allowed,
        guards=MappingProxyType(dict(one.guards.items() & other.guards.items())),
        issuer=one.issuer if one.issuer == other.issuer else None,
    )


def highest_bound(environment: Mapping[str, str], flag: Level | None = None) -> Level:
    """What environment and flag leave of the operator's maximum; they can only lower it.

    Args:
        environment: Its `EASEL_MAX_LEVEL` is "0", "1" or "2"; anything else in it is strict.
        flag: From the command line.
    """
    said = environment.get(LEVEL_VARIABLE)
    bounds = [] if said is None else [{str(n): n for n in LEVELS}.get(said, STRICT)]
    return lowest(LEVELS[-1], *bounds, *(() if flag is None else (flag,)))


class PolicyWatcher:
    """The settings that count while a server runs: what is tighter counts at once.

    What is looser needs a restart, so that whoever gets at the file of a running server gains
    nothing by it. Safe to use from several threads.
    """

    def __init__(self, path: Path, *, bound: Level = LEVELS[-1]) -> None:
        """`bound` is what `highest_bound` gives."""
        self._path = path
        self._bound = bound
        self._lock = Lock()
        self._stamp = _stamp(path)
        found = read_policy(path)
        self._followed = self._bounded(found)
        self._current = replace(self._followed, trouble=found.trouble)
        self._tell()

    def policy(self) -> Policy:
        """The settings now; the file is read again when it has changed."""
        with self._lock:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                self._take(read_policy(self._path))
                self._tell()
            return self._current

    def _take(self, found: Policy) -> None:
        if found.trouble is None:
            self._followed = self._current = tightest(self._followed, found)
        else:
            # A file that cannot be relied on takes no tightening back either.
            self._current = replace(found, thresholds=self._followed.thresholds)

    def _bounded(self, found: Policy) -> Policy:
        return replace(found, max_level=lowest(found.max_level, self._bound), trouble=None)

    def _tell(self) -> None:
        if self._current.trouble is not None:
            _log.warning("Everything is held at the strict level. %s", self._current.trouble)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_size,
        found.st_ino,
        found.st_mode,
        found.st_uid,
    )


def _known(said: Mapping[str, object], known: tuple[str, ...], what: str) -> None:
    for name in said:
        if name not in known:
            raise PolicyError(f"Unknown {what} {name[:40]!r}: {nearest(name, known)}")


def _typed(said: Mapping[str, Any], key: str, kind: type[_T], default: _T | None = None) -> _T:
    value = said.get(key, kind() if default is None else default)
    # By the very type: `True` is an int to isinstance.
    if type(value) is not kind:
        raise PolicyError(f"{key} is {_shown(value)}: it must be {_KINDS[kind]}.")
    return cast(_T, value)


def _shown(value: object) -> str:
    return repr(value)[:60]


def _level(said: Mapping[str, Any], key: str) -> Level:
    value = said.get(key, STRICT)
    for level in LEVELS:
        if type(value) is int and value == level:
            return level
    raise PolicyError(f"{key} is {_shown(value)}: it must be 0, 1 or 2.")


def _digest(value: object, key: str) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise PolicyError(
            f"{key} has {_shown(value)}: it must be a SHA-256 in 64 small hex digits."
        )
    return value


def _guards(said: Mapping[str, Any]) -> Mapping[str, str]:
    _known(said, SLOTS, "guard")
    return MappingProxyType(
        {slot: _digest(said[slot], f"guards.{slot}") for slot in SLOTS if slot in said}
    )


def _thresholds(said: Mapping[str, Any]) -> Tightened:
    _known(said, tuple(map(str, LEVELS)), "level in thresholds")
    found: dict[tuple[Level, Threshold], float] = {}
    for level in LEVELS:
        column = _typed(said, str(level), dict, {})
        _known(column, THRESHOLDS, "threshold")
        for name in THRESHOLDS:
            if name in column:
                found[level, name] = _tighter(level, name, column[name])
    return MappingProxyType(found)


def _tighter(level: Level, name: Threshold, value: object) -> float:
    shipped = shipped_threshold(level, name)
    most = 1.0 if shipped is None else shipped
    # Written so that NaN is out of the range.
    if type(value) not in (int, float) or not 0 <= cast(float, value) <= most:
        raise PolicyError(
            f"The threshold {name} of level {level} is {_shown(value)}: it can only be tightened,"
            f" so it must be a number from 0 to {most:g}."
        )
    return float(cast(float, value))


def _issuer(said: Mapping[str, Any]) -> IssuerPolicy:
    _known(said, _ISSUER_KEYS, "key in issuer")
    for key in _ISSUER_NEEDS:
        if key not in said:
            raise PolicyError(f"issuer has no {key}.")
    url = _typed(said, "url", str)
    if not _is_safe(url):
        raise PolicyError(f"The issuer's url is {_shown(url)}: it must begin with https://.")
    value = said["value"]
    if type(value) not in (bool, int, str):
        raise PolicyError(
            f"The issuer's value is {_shown(value)}: it must be true, false, a whole number or"
            " text."
        )
    return IssuerPolicy(
        url=url,
        client_id=_typed(said, "client_id", str),
        claim=_typed(said, "claim", str),
        value=cast("bool | int | str", value),
        level=_level(said, "level"),
        client_secret=_typed(said, "client_secret", str),
        name=_typed(said, "name", str, IssuerPolicy.name),
    )


def _is_safe(url: str) -> bool:
    """Whether what is asked of it cannot be read or changed on the way."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _HERE)
        )
    except ValueError:
        return False
