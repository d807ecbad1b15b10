"""The one family of errors: each says in one sentence what a user can do about it.

The edges (page, command line, HTTP) render `WebuiError.message` as it stands and take the
status and exit code from the class; nothing below them prints or swallows an error.
"""

from __future__ import annotations

from typing import ClassVar


class WebuiError(Exception):
    """Something a user can act on.

    Attributes:
        message: One sentence, ready to be shown.
        field: The request field it is about, where there is one, for placing the message; a part
            of it by its place, such as "loras.2".
        status: HTTP status an API answers with.
        exit_code: Exit code of the command line.
    """

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class BadRequestError(WebuiError):
    """A value, key or file in the request cannot be used."""

    status = 400
    exit_code = 2


class NotFoundError(BadRequestError):
    """A named thing (model, picture, preset) is not on the shelf."""

    status = 404


class BrokenFileError(BadRequestError):
    """A file on disk is truncated, damaged, or of a kind that is not read."""

    status = 422


class RefusedError(WebuiError):
    """The request was refused by the content filter before anything was made."""

    status = 403
    exit_code = 3


class GateError(RefusedError):
    """The gate does not open: a code, link or login was not accepted, or may not be used here."""


class GuardError(WebuiError):
    """A guard that must be working is missing or failed, so nothing is made (fail closed)."""

    status = 503


class MarkError(WebuiError):
    """A picture could not be marked as made by AI, so it was not released (fail closed)."""

    status = 503


class StorageError(WebuiError):
    """A picture or a setting could not be written: disk full, folder read-only."""

    status = 507


class OutOfMemoryError(WebuiError):
    """The device has not enough memory for this request."""

    status = 507


class BusyError(WebuiError):
    """The queue is full, or this session already has as many jobs as it may."""

    status = 429


class EngineError(WebuiError):
    """The engine process ended in mid-job or could not be started."""

    status = 503


class StartError(WebuiError):
    """The server cannot start as asked: port in use, folder not writable."""

    exit_code = 2


def error_named(name: str, message: str, *, field: str | None = None) -> WebuiError:
    """An error that has travelled as text, as one of its class again; `WebuiError` if unknown."""
    kinds: list[type[WebuiError]] = [WebuiError]
    for kind in kinds:
        if kind.__name__ == name:
            return kind(message, field=field)
        kinds += kind.__subclasses__()
    return WebuiError(message, field=field)
