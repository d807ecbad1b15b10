"""The socket that the page listens on, and sentences where it cannot be had."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from dataclasses import dataclass

from webui.errors import StartError
from webui.settings import ServerSettings

_LAST_PORT = 65_535
_PORTS_TRIED = 20


@dataclass(frozen=True)
class Listener:
    """A bound, listening socket and the address to open in a browser."""

    socket: socket.socket
    address: str


def bind(settings: ServerSettings) -> Listener:
    """Takes the port; connections wait in its backlog until `serve` answers them.

    Raises:
        StartError: The port is taken or not allowed, or the address is not this machine's.
    """
    if not 0 <= settings.port <= _LAST_PORT:
        raise StartError(f"Port {settings.port} does not exist: choose one from 1024 to 65535.")
    try:
        bound = listen(settings.host, settings.port)
    except (OSError, UnicodeError) as error:
        raise StartError(_why_not(error, settings)) from None
    return Listener(socket=bound, address=_address(settings.host, bound.getsockname()[1]))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: The address or port cannot be had.
    """
    family, *_, where = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.create_server(where[:2], family=family, backlog=128)
    # Only where the protocol is named does asyncio send at once; else most answers take 40 ms.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=bound.detach())


def _why_not(error: OSError | UnicodeError, settings: ServerSettings) -> str:
    host, port = settings.host, settings.port
    match error:
        case OSError(errno=errno.EADDRINUSE):
            return (
                f"Port {port} is in use: end the program that has it, or start with"
                f" --port {_free_port(host, port)}."
            )
        case OSError(errno=errno.EACCES | errno.EPERM):
            return f"Port {port} may not be used by this account: choose one above 1024."
        case _:
            return f"{host!r} is not an address of this machine: use --host 127.0.0.1."


def _free_port(host: str, taken: int) -> int:
    """The first free port after `taken`."""
    for port in range(taken + 1, min(taken + _PORTS_TRIED, _LAST_PORT) + 1):
        with contextlib.suppress(OSError), listen(host, port):
            return port
    return 0


def _address(host: str, port: int) -> str:
    """The address to open: listening everywhere includes this machine."""
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        everywhere = not host
    name = "127.0.0.1" if everywhere else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
