"""What `policy` does: the only writer of the operator's settings and of invitations."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, cast

import tomlkit

from webui.cli.policy import AS_SHIPPED
from webui.errors import BadRequestError, StorageError
from webui.levels import STRICT, Level
from webui.library.checkpoints import INDEX, CheckpointShelf
from webui.library.files import PRIVATE, write_atomically
from webui.library.hashes import HashBook
from webui.library.loras import LoraShelf
from webui.safety.audit import FOLDER, Audit, verify_log
from webui.safety.grants import EPOCH_FILE, Epoch
from webui.safety.invitations import Invitations
from webui.safety.operator import (
    FILE,
    LEVEL_VARIABLE,
    Policy,
    PolicyError,
    highest_bound,
    parse_policy,
    read_policy,
    tightest,
)
from webui.safety.private import read_private
from webui.settings import Settings

RESPONSIBLE = "I am responsible for what is made here"
KNOWS = "I know everybody whom I invite, and that they are of age"
TRUSTS = "I know where this model comes from and what it is for"

LONGEST_INVITATION = 720.0
"""Hours."""

_HEAD = "# Easel's settings, written by `python -m webui policy`.\n"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ADAPTER = "adapter_model.safetensors"
_SWITCH = {"true": True, "false": False}

_Alter = Callable[[dict[str, Any]], None]


def _show(_: argparse.Namespace) -> int:
    path = _state() / FILE
    policy = read_policy(path)
    print(f"{path}" if path.exists() else f"{path} does not exist, so everything is strict.")
    print(f"max_level = {policy.max_level}")
    bound = highest_bound(os.environ)
    if bound < policy.max_level:
        print(f"  held at {bound} by {LEVEL_VARIABLE}")
    print(f"share_max_level = {policy.share_max_level}")
    if policy.share_max_level > STRICT and not (policy.knows_invitees or policy.issuer):
        print("  held at 0 until knows_invitees is true or an issuer is configured")
    print(f"knows_invitees = {str(policy.knows_invitees).lower()}")
    print(f"mosaic_previews = {str(policy.mosaic_previews).lower()}")
    for (level, name), value in sorted(policy.thresholds.items()):
        print(f"threshold {name} = {value:g} up to level {level}")
    for slot, digest in sorted(policy.guards.items()):
        print(f"guard {slot} = {digest}")
    for digest in sorted(policy.allowed):
        print(f"allowed {digest}")
    if policy.issuer is not None:
        print(f"issuer = {policy.issuer.name}, {policy.issuer.url}, level {policy.issuer.level}")
    if policy.trouble is not None:
        raise PolicyError(f"Everything is held at the strict level. {policy.trouble}")
    return 0


def _set(options: argparse.Namespace) -> int:
    if options.name == "threshold":
        return _set_threshold(options)
    if options.name == "guard":
        return _set_guard(options)
    name, value = options.name, _SWITCH.get(options.value, options.value)
    sentence = KNOWS if name == "knows_invitees" else RESPONSIBLE
    return _change(lambda said: said.update({name: value}), sentence)


def _set_threshold(options: argparse.Namespace) -> int:
    level, name = str(options.level), options.threshold
    value = None if options.value == AS_SHIPPED else _number(options.value)

    def alter(said: dict[str, Any]) -> None:
        columns = said.setdefault("thresholds", tomlkit.table(is_super_table=True))
        column = columns.setdefault(level, tomlkit.table())
        if value is None:
            column.pop(name, None)
        else:
            column[name] = value

    return _change(alter, RESPONSIBLE)


def _set_guard(options: argparse.Namespace) -> int:
    def alter(said: dict[str, Any]) -> None:
        said.setdefault("guards", tomlkit.table())[options.slot] = options.value

    return _change(alter, RESPONSIBLE)


def _allow(options: argparse.Namespace) -> int:
    digest = _digest_of(options.what)
    print(digest)
    return _change(lambda said: _list(said, lambda known: known | {digest}), TRUSTS)


def _forbid(options: argparse.Namespace) -> int:
    digest = _digest_of(options.what)
    print(digest)
    return _change(lambda said: _list(said, lambda known: known - {digest}), TRUSTS)


def _list(said: dict[str, Any], alter: Callable[[set[str]], set[str]]) -> None:
    said["allowed"] = sorted(alter({*said.get("allowed", ())}))


def _invite(options: argparse.Namespace) -> int:
    state, level = _state(), cast(Level, options.level)
    if not 0 < options.hours <= LONGEST_INVITATION:
        raise BadRequestError(
            f"--hours is {options.hours:g}: it must be more than 0 and at most"
            f" {LONGEST_INVITATION:g}."
        )
    policy = _sound(state)
    if policy.max_level < level:
        raise BadRequestError(
            f"max_level is {policy.max_level}, so nobody can reach level {level}: raise it first"
            f" with `policy set max_level {level}`."
        )
    Audit(state / FOLDER).record("invited", effective=level)
    code = Invitations(state, Epoch(state / EPOCH_FILE)).invite(level, options.hours * 3600)
    print(code)
    print(
        f"It grants level {level} once, within {options.hours:g} hours, and cannot be shown again."
        " With it you vouch that whoever gets it is of age.",
        file=sys.stderr,
    )
    return 0


def _revoke(_: argparse.Namespace) -> int:
    state = _state()
    epoch = Epoch(state / EPOCH_FILE)
    epoch.end()
    Invitations(state, epoch).end_all()
    print("All grants and open invitations have ended.")
    _record_if_possible(state, "revoked")
    return 0


def _audit(options: argparse.Namespace) -> int:
    folder = _state() / FOLDER
    if not options.verify:
        print(folder)
        return 0
    verdict = verify_log(folder)
    print(verdict.sentence)
    return 0 if verdict.is_whole else 1


def _change(alter: _Alter, sentence: str) -> int:
    """Changes the file; what allows more has to be typed in a terminal and needs a restart."""
    state = _state()
    path = state / FILE
    before, data = _sound(state), read_private(path)
    document = tomlkit.parse((data or _HEAD.encode()).decode())
    alter(cast(dict[str, Any], document))
    written = document.as_string().encode()
    after = parse_policy(written)
    loosens = tightest(before, after) != after
    if loosens:
        _confirm(sentence)
        # Whatever took place while the operator was typing is not to be undone.
        if read_private(path) != data:
            raise PolicyError("The settings were changed meanwhile: look at them and try again.")
        Audit(state / FOLDER).record("policy set", effective=after.max_level)
    write_atomically(path, written, mode=PRIVATE)
    if loosens:
        print("Done. It counts once the server has been started again.")
    else:
        print("Done. A running server follows it at once.")
        _record_if_possible(state, "policy set", effective=after.max_level)
    return 0


def _confirm(sentence: str) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise PolicyError("This allows more than before, so it has to be done in a terminal.")
    print(f"This allows more than before. To go on, type: {sentence}")
    typed = ""
    with suppress(EOFError):
        typed = input("> ")
    if " ".join(typed.split()).rstrip(".").casefold() != sentence.casefold():
        raise PolicyError("Nothing was changed: the sentence is another one.")


def _sound(state: Path) -> Policy:
    """The settings, which must be in order to be built upon."""
    policy = read_policy(state / FILE)
    if policy.trouble is not None:
        raise PolicyError(policy.trouble)
    return policy


def _record_if_possible(state: Path, event: str, **facts: object) -> None:
    """What makes things stricter is done, written down or not."""
    try:
        Audit(state / FOLDER).record(event, **facts)
    except StorageError as error:
        print(f"It could not be written to the audit log: {error.message}", file=sys.stderr)


def _digest_of(what: str) -> str:
    """The hash by which the shelves know a model or LoRA, computed anew."""
    if _SHA256.fullmatch(what.casefold()):
        return what.casefold()
    path = Path(what).resolve()
    with TemporaryDirectory() as scratch:
        book = HashBook(Path(scratch) / "hashes.json")
        if (path / INDEX).is_file():
            return CheckpointShelf((path.parent,), book).find(path.name).sha256
        file = path / _ADAPTER if path.is_dir() else path
        shelf = LoraShelf((file.parent,), book)
        for card in shelf.cards():
            if card.file == file.name:
                return shelf.hashes(card).sha256
    raise BadRequestError(
        f"{what} is neither a safetensors file, nor a folder with a model, nor a SHA-256."
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadRequestError(f"{text[:40]!r} is no number.") from None


def _state() -> Path:
    return Settings().state


DEEDS: Mapping[str, Callable[[argparse.Namespace], int]] = MappingProxyType(
    {
        "show": _show,
        "set": _set,
        "allow": _allow,
        "forbid": _forbid,
        "invite": _invite,
        "revoke": _revoke,
        "audit": _audit,
    }
)
"""By the name of the command."""
