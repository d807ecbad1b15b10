"""Libraries that are to say nothing on the console."""

from __future__ import annotations

import threading
from typing import Any

import diffusers
import transformers
from tqdm import tqdm


def quiet_libraries() -> None:
    """Keeps progress bars and advice meant for programmers off the console."""
    # tqdm's own lock takes a semaphore of the system, reported as leaked when a process is killed.
    bars: Any = tqdm
    bars.set_lock(threading.RLock())
    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
