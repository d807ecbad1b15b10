"""`python -m webui`."""

from __future__ import annotations

import os
import sys

from webui.cli import main

if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # All is closed by now, and taking gradio or torch apart in order would only cost seconds.
    os._exit(code)
