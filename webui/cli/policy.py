"""`policy`: the operator's settings, invitations and the audit log."""

from __future__ import annotations

import argparse

from webui.levels import LEVELS
from webui.safety.operator import SLOTS
from webui.safety.policy import THRESHOLDS

AS_SHIPPED = "shipped"


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Gives the parser this command's commands and their flags."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, allow_abbrev=False)
        command.set_defaults(run=_run, deed=name)
        return command

    add("show", "print the settings that count")
    _add_set(add("set", "change one setting"))
    for name, help in (
        ("allow", "trust a model, LoRA or embedding by its content"),
        ("forbid", "trust it no more"),
    ):
        add(name, help).add_argument(
            "what", metavar="PATH_OR_SHA256", help="its file or folder, or its hash"
        )
    invite = add("invite", "print a code that grants a level once")
    invite.add_argument(
        "--level", type=int, choices=LEVELS[1:], required=True, help="what it grants"
    )
    invite.add_argument(
        "--hours", type=float, default=24.0, metavar="H", help="how long it can be redeemed (24)"
    )
    add("revoke", "end all grants and open invitations, running jobs included")
    add("audit", "say where the audit log is").add_argument(
        "--verify", action="store_true", help="say whether it is whole; exit code 1 when not"
    )


def _add_set(parser: argparse.ArgumentParser) -> None:
    names = parser.add_subparsers(required=True, metavar="NAME", dest="name")
    for name, help in (
        ("max_level", "what anybody may reach"),
        ("share_max_level", "what visitors from other machines may reach"),
    ):
        level = names.add_parser(name, help=help, allow_abbrev=False)
        level.add_argument("value", type=int, choices=LEVELS)
    for name, help in (
        ("knows_invitees", "whether you know everybody whom you invite"),
        ("mosaic_previews", "whether pictures in the making are always shown as a mosaic"),
    ):
        switch = names.add_parser(name, help=help, allow_abbrev=False)
        switch.add_argument("value", choices=("true", "false"))
    threshold = names.add_parser(
        "threshold", help="a score from which on pictures are withheld", allow_abbrev=False
    )
    threshold.add_argument("threshold", choices=THRESHOLDS)
    threshold.add_argument("value", help=f"lower than the shipped one, or {AS_SHIPPED!r}")
    threshold.add_argument(
        "--level",
        type=int,
        choices=LEVELS,
        default=LEVELS[-1],
        help="for this level and the stricter ones; all of them if left out",
    )
    guard = names.add_parser(
        "guard", help="the hash by which a classifier is known", allow_abbrev=False
    )
    guard.add_argument("slot", choices=SLOTS)
    guard.add_argument("value", metavar="SHA256")


def _run(options: argparse.Namespace) -> int:
    # Only now, because a server starts without what this command alone needs.
    from webui.cli.policy_deeds import DEEDS

    return DEEDS[options.deed](options)
