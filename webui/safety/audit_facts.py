"""The closed set of what the audit log can say. It has no room for free text.

No prompt, matched word, picture, address or code can be written, by mistake neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from webui.levels import LEVELS
from webui.safety.policy import Scores, trusted
from webui.standing import CeilingKind

AuditEvent = Literal[
    "started",
    "admitted",
    "dequeued",
    "refused",
    "released",
    "withheld",
    "failed",
    "link printed",
    "grant by owner",
    "grant by invite",
    "grant by issuer",
    "grant refused",
    "grant ended",
    "locked out",
    "invited",
    "revoked",
    "policy set",
    "guard failed",
    "share started",
    "share stopped",
]
"""What can happen; the facts that go with it are `Fact`s."""

EVENTS = cast(tuple[AuditEvent, ...], get_args(AuditEvent))

Rule = Literal[
    "H1",
    "H2",
    "H3",
    "prompt",
    "tokens",
    "brought",
    "region",
    "picture",
    "guard",
    "mark",
]
"""Which rule decided: a hard one, or the check that it was. Never what it found."""

Fact = Literal[
    "job",
    "session",
    "requested",
    "effective",
    "ceiling",
    "rule",
    "versions",
    "scores",
    "prompt",
    "files",
    "tainted",
]
"""What can be told of an event.

job: hexadecimal id. session, prompt: as `Audit.pseudonym` gives it. requested, effective: levels.
ceiling: a `CeilingKind`. rule: a `Rule`. versions: package to version. scores: as `buckets` gives
them. files: hex SHA-256 of released files. tainted: a bool.
"""

_ID = re.compile(r"[0-9a-f]{8,64}")
_PSEUDONYM = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PACKAGE = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_VERSION = re.compile(r"\d[\w.+!-]{0,60}", re.ASCII)
_SCORES = frozenset(field.name for field in fields(Scores))
_LAST_BUCKET = 9


def buckets(scores: Scores) -> dict[str, int]:
    """The scores in tenths, rounded down; 9 is the last, and that of what is no score."""
    values = {name: value for name, value in asdict(scores).items() if value is not None}
    return {name: min(_LAST_BUCKET, int(10 * trusted(value))) for name, value in values.items()}


def told(event: str, facts: Mapping[str, object]) -> dict[str, object]:
    """What is written of an event; facts that are `None` are left out.

    Args:
        event: An `AuditEvent`.
        facts: By the names of `Fact`.

    Raises:
        TypeError: There is no such fact.
        ValueError: There is no such event, or the fact cannot have this value; the message does
            not tell it.
    """
    if event not in EVENTS:
        raise ValueError("The audit log has no such event.")
    said: dict[str, object] = {"event": event}
    for name, value in facts.items():
        if name not in _CHECKS:
            raise TypeError("The audit log has no such fact.")
        if value is None:
            continue
        if not _CHECKS[name](value):
            raise ValueError(f"The audit log takes no such value for {name!r}.")
        said[name] = value
    return said


def _fits(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_level(value: object) -> bool:
    return type(value) is int and value in LEVELS


def _is_bucket(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LAST_BUCKET


def _are(
    names: Callable[[object], bool], values: Callable[[object], bool]
) -> Callable[[object], bool]:
    def fit(value: object) -> bool:
        return isinstance(value, Mapping) and all(
            names(key) and values(each) for key, each in cast(Mapping[Any, Any], value).items()
        )

    return fit


def _are_digests(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        _fits(_SHA256)(each) for each in cast(list[object], value)
    )


_CHECKS: Mapping[str, Callable[[object], bool]] = MappingProxyType(
    {
        "job": _fits(_ID),
        "session": _fits(_PSEUDONYM),
        "requested": _is_level,
        "effective": _is_level,
        "ceiling": lambda value: value in get_args(CeilingKind),
        "rule": lambda value: value in get_args(Rule),
        "versions": _are(_fits(_PACKAGE), _fits(_VERSION)),
        "scores": _are(lambda name: name in _SCORES, _is_bucket),
        "prompt": _fits(_PSEUDONYM),
        "files": _are_digests,
        "tainted": lambda value: isinstance(value, bool),
    }
)
