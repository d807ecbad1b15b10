"""The command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from webui.cli.benching import add_bench
from webui.cli.generating import add_generate
from webui.cli.policy import add_policy
from webui.cli.serving import add_serve
from webui.cli.verifying import add_verify
from webui.errors import WebuiError


def main(arguments: Sequence[str]) -> int:
    """Runs one command; gives the process's exit code (0 done, 2 bad input, 3 withheld)."""
    # Models come from this machine; no library may ask a hub or report anything.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except WebuiError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="webui", description="Make pictures on your own machine.", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_serve(commands.add_parser("serve", help="start the page", allow_abbrev=False))
    add_generate(
        commands.add_parser(
            "generate",
            help="make pictures without a server; prints one JSON event a line",
            allow_abbrev=False,
        )
    )
    add_verify(
        commands.add_parser(
            "verify",
            help="say what pictures tell about how they were made, and what of it is certain",
            allow_abbrev=False,
        )
    )
    add_policy(
        commands.add_parser(
            "policy",
            help="what this installation allows: settings, invitations, the audit log",
            allow_abbrev=False,
        )
    )
    add_bench(
        commands.add_parser("bench", help="measure beside plain diffusers", allow_abbrev=False)
    )
    return parser
