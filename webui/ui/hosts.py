"""Names this server goes by, and who is at this machine."""

from __future__ import annotations

import ipaddress
import re
import socket

from starlette.datastructures import Headers
from starlette.types import Scope

FORWARDED = re.compile(rb"forwarded|x-forwarded-.*|x-real-ip")
"""Headers that a proxy writes, and anybody else can."""


def allowed_host(header: str, names: frozenset[str]) -> bool:
    """Whether a request's Host header is one this server goes by.

    A page of another site can make a name of its own point at this machine (DNS rebinding) and
    then read what it likes; it cannot do that with an address, so addresses are always fine.
    """
    name = name_in(header)
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name in names
    return True


def name_in(header: str) -> str:
    """The host in a Host header, without its port."""
    name = header.rpartition(":")[0] if re.search(r":\d*$", header) else header
    return name.casefold().removesuffix(".")


def known_names(*more: str) -> frozenset[str]:
    """Names this server may be called by: localhost, the machine's own, and `more`."""
    machine = socket.gethostname().casefold()
    own = ("localhost", machine, f"{machine.partition('.')[0]}.local")
    return frozenset({*own, *(name.casefold() for name in more)})


def is_local(scope: Scope) -> bool:
    """Whether nobody but a person at this machine can be asking.

    A tunnel of somebody's own connects from this machine too, but goes by another name or says
    whom it forwards; the one that Easel opens comes in at another socket.
    """
    forwarded = any(FORWARDED.fullmatch(name) for name, _ in scope["headers"])
    client = scope.get("client")
    name = name_in(Headers(scope=scope).get("host", ""))
    return not forwarded and client is not None and is_loopback(client[0]) and is_loopback(name)


def is_loopback(name: str) -> bool:
    """Whether a host name or address is reached from this machine only."""
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.casefold().removesuffix(".") == "localhost"
