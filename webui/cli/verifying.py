"""`verify`: says what pictures tell about how they were made."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from webui.errors import WebuiError
from webui.settings import Settings


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Gives the parser this command's flags."""
    parser.set_defaults(run=_verify)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG or WebP")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def _verify(options: argparse.Namespace) -> int:
    """Gives 0 when all are whole and this installation's, 1 when not, 2 when one is no picture."""
    from webui.provenance.certificate import trust_in
    from webui.provenance.report import to_json, to_text
    from webui.provenance.verify import verify_file

    trust = trust_in(Settings().state)
    codes: list[int] = []
    for path in options.files:
        try:
            found = verify_file(path, trust)
        except WebuiError as error:
            print(f"{path}: {error.message}", file=sys.stderr)
            codes.append(error.exit_code)
            continue
        print(json.dumps(to_json(str(path), found)) if options.json else to_text(str(path), found))
        codes.append(0 if found.is_whole else 1)
    return max(codes)
