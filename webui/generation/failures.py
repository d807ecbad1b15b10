"""What libraries raise while weights are read, turned into sentences."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from webui.errors import BrokenFileError, OutOfMemoryError
from webui.generation.devices import is_out_of_memory

_FAILURES = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
)
"""What reading, converting and running what does not fit raises, besides our own errors."""


@contextmanager
def as_broken(what: str, field: str, *, trouble: str = "could not be loaded") -> Generator[None]:
    """Lets our own errors and want of memory through.

    Args:
        what: Begins the sentence, such as "The model 'meadow'".
        field: That of the request which names it.

    Raises:
        BrokenFileError: Anything else that a library raised, with the first line of its reason.
    """
    try:
        yield
    except _FAILURES as error:
        if is_out_of_memory(error):
            raise
        said = str(error).strip().splitlines()
        reason = said[0][:200] if said else "no reason"
        raise BrokenFileError(f"{what} {trouble}: {reason}", field=field) from error


@contextmanager
def while_loading(what: str, field: str, device: str) -> Generator[None]:
    """The same, where want of memory is that of a device.

    Args:
        what: Without a capital.

    Raises:
        BrokenFileError: As in `as_broken`.
        OutOfMemoryError: The device has not enough.
    """
    try:
        with as_broken(what[0].upper() + what[1:], field):
            yield
    except _FAILURES:
        raise OutOfMemoryError(f"{device} has not enough memory for {what}.") from None
