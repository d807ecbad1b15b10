"""Work that nobody waits for."""

from __future__ import annotations

import os
import sys


def be_modest() -> None:
    """Lets this thread have the processor only when nobody else wants it, where that can be asked.

    The least of the ordinary priorities takes some hundredths of each core, and what is computed on
    all cores at once is as slow as the slowest of them.
    """
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
