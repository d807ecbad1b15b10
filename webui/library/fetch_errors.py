"""What goes wrong when something is asked for out there."""

from __future__ import annotations

from webui.errors import WebuiError


class FetchError(WebuiError):
    """A server's answer is not what was asked for, and asking again would not change that."""

    status = 502


class CutError(FetchError):
    """The network or the server gave out: it may go on later.

    Attributes:
        wait: Seconds the server asks to be left alone for; 0 when it does not say.
    """

    def __init__(self, message: str, *, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait
