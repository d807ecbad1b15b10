"""Sets Easel up and starts it: `python launch.py`; `python launch.py --help` for the rest.

This file must be readable by every Python there is, so that an old one gets a sentence instead
of a syntax error; what it does is in `webui/launcher/`, which needs the standard library only.
"""

import os
import sys

OLDEST = (3, 11)

if sys.version_info[:2] < OLDEST:
    sys.exit(
        "Easel needs Python 3.11 or newer, and this is Python %d.%d. Install a newer one "  # noqa: UP031
        "(python.org, or your system's packages) and run this again with it, for example: "
        "python3.12 launch.py" % sys.version_info[:2]
    )

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

if __name__ == "__main__":
    from webui.launcher.commands import main

    sys.exit(main(sys.argv[1:]))
