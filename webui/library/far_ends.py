"""Far ends of connections: what may be connected to, and what is this machine or around it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import httpcore2

from webui.library.fetch_errors import CutError, FetchError

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_MOST_ADDRESSES = 8
_PRIVATE_NAMES = frozenset(
    {
        "local",
        "localhost",
        "internal",
        "intranet",
        "private",
        "corp",
        "home",
        "lan",
        "arpa",
        "onion",
    }
)
"""Last parts of names that nobody out there has."""

Resolve = Callable[[str, int], list[str]]
"""The addresses that a host name stands for."""


class LookedAt(httpcore2.NetworkBackend):
    """Connects to addresses of the open network alone."""

    def __init__(self, resolve: Resolve, *, loopback: bool) -> None:
        self._resolve = resolve
        self._loopback = loopback
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """A connection to the first address that takes one, after all have been looked at."""
        addresses = self._resolve(host, port)[:_MOST_ADDRESSES]
        self._check(host, addresses)
        failure: Exception = httpcore2.ConnectError("the name has no address")
        for address in addresses:
            try:
                return self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    def check_name(self, host: str, port: int) -> None:
        """Passes a host that somebody else connects to, who finds its addresses himself.

        Names of the network around are found here as well; one that is not found here leads out.

        Raises:
            FetchError: It is this machine or the network around it, as far as can be told.
        """
        try:
            addresses = self._resolve(host, port)
        except CutError:
            addresses = []
        self._check(host, addresses)
        if not addresses and ("." not in host or host.rpartition(".")[2] in _PRIVATE_NAMES):
            raise FetchError(
                f"{host} is a name of the network around this machine: nothing is fetched from"
                " there."
            )

    def _check(self, host: str, addresses: Iterable[str]) -> None:
        for address in addresses:
            if not self._is_fine(address):
                raise FetchError(
                    f"{host} leads to {address}, which is this machine or the network around it:"
                    " nothing is fetched from there."
                )

    def _is_fine(self, address: str) -> bool:
        return is_public(address) or (self._loopback and ipaddress.ip_address(address).is_loopback)


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses that a host name stands for, in the order they are best tried in.

    Raises:
        CutError: There is none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise CutError(f"{host} cannot be found: is this machine on the network?") from None
    # A scope ("%eth0") belongs to addresses of the network around, which are refused with it.
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def is_public(address: str) -> bool:
    """Whether an address is one of the open network, and hides none that is not."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        within = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if within is None and ip in _NAT64:
            within = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if within is not None:
            return is_public(str(within))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def is_safe(address: str, *, here: bool = True) -> bool:
    """Whether nobody on the way can change what is said there.

    Args:
        here: Whether this machine's own addresses are fine without https.
    """
    try:
        parts = urlsplit(address)
        name = parts.hostname or ""
    except ValueError:
        return False
    if not name or parts.username is not None or parts.fragment:
        return False
    return parts.scheme == "https" or (here and parts.scheme == "http" and _is_loopback(name))


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def host_of(address: str) -> str:
    """The host name in an address, for sentences: the rest may hold a secret."""
    return urlsplit(address).hostname or "the server"
