"""Answers of servers out there, over connections whose far end has been looked at.

Every address that a host name stands for is looked at before one is connected to, and the
connection goes to the very address that was looked at: neither a redirect nor a name that changes
its mind leads into this machine or the network around it.
"""

from __future__ import annotations

import ipaddress
import json
import math
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import urlsplit

import httpcore2
import httpx2

from webui.errors import WebuiError

CONNECT_SECONDS = 15.0
REACHED_SECONDS = 3.0
"""How long it may take to find out that there is no network."""

READ_SECONDS = 20.0
"""How long a server may be silent."""

MOST_REDIRECTS = 6

MAX_DOCUMENT_BYTES = 8 * 1024**2
"""Longest document that is read whole, such as the list of a repository's files."""

DOCUMENT_SECONDS = 60.0
"""How long that may take."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_MOST_ADDRESSES = 8
_USER_AGENT = "Easel"

Resolve = Callable[[str, int], list[str]]
"""The addresses that a host name stands for."""


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


@dataclass(frozen=True)
class Answer:
    """An answer whose body has not been read.

    Attributes:
        address: Where it came from in the end.
        on_the_way: The headers of the redirects that led there.
        pieces: Reads the body; raises `CutError` when it breaks off.
    """

    status: int
    headers: httpx2.Headers
    address: str
    on_the_way: tuple[httpx2.Headers, ...]
    pieces: Callable[[], Iterator[bytes]] = field(repr=False)


class Outward:
    """Asks servers out there, by https alone.

    Args:
        tokens: Access tokens by host name; a host gets its own and no other.
        loopback: Whether this machine may be asked as well, and without https (for tests).
        resolve: Finds the addresses of a host name.
    """

    def __init__(
        self,
        *,
        tokens: Mapping[str, str] = MappingProxyType({}),
        loopback: bool = False,
        resolve: Resolve | None = None,
    ) -> None:
        self._tokens = dict(tokens)
        self._loopback = loopback
        self._network = _LookedAt(resolve or addresses_of, loopback=loopback)

    def has_token(self, host: str) -> bool:
        """Whether an access token is set for the host."""
        return host in self._tokens

    def reaches(self, address: str) -> bool:
        """Whether the server at an address takes connections; nothing is asked of it."""
        parts = urlsplit(address)
        port = parts.port or 443
        try:
            self._network.connect_tcp(parts.hostname or "", port, REACHED_SECONDS).close()
        except (FetchError, httpcore2.NetworkError, httpcore2.TimeoutException):
            return False
        return True

    @contextmanager
    def get(
        self, address: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> Generator[Answer, None, None]:
        """The answer at the end of all redirects; it ends with the context.

        Raises:
            FetchError: The address, or one it redirects to, is none that may be asked.
            CutError: The server cannot be reached or does not answer.
        """
        # Its making is slow, and nothing but a test begins without it.
        tls = None if address.startswith("http:") else self._tls
        with httpcore2.ConnectionPool(ssl_context=tls, network_backend=self._network) as pool:
            seen: list[httpx2.Headers] = []
            for _ in range(MOST_REDIRECTS + 1):
                self._check(address)
                with self._asked(pool, address, headers) as answer:
                    said = httpx2.Headers(answer.headers)
                    if answer.status not in _REDIRECTS or "location" not in said:
                        yield Answer(
                            answer.status, said, address, tuple(seen), lambda a=answer: _read(a)
                        )
                        return
                seen.append(said)
                address = _joined(address, said["location"])
            raise FetchError("The server redirects from one address to the next without an end.")

    def document(self, address: str) -> bytes:
        """A document that is read whole.

        Raises:
            FetchError: There is none, it may not be read, or it is too long.
            CutError: The server cannot be reached or breaks off.
        """
        ends = time.monotonic() + DOCUMENT_SECONDS
        with self.get(address) as answer:
            check_status(answer, has_token=self.has_token(host_of(address)))
            body = bytearray()
            for piece in answer.pieces():
                body += piece
                if len(body) > MAX_DOCUMENT_BYTES or time.monotonic() > ends:
                    raise FetchError(f"The answer of {host_of(address)} is too long or too slow.")
        return bytes(body)

    def json(self, address: str) -> dict[str, Any]:
        """A JSON object.

        Raises:
            FetchError: There is no such object.
            CutError: The server cannot be reached or breaks off.
        """
        try:
            found: Any = json.loads(self.document(address))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise FetchError(f"{host_of(address)} answers with something else than was asked for.")
        return cast(dict[str, Any], found)

    def _check(self, address: str) -> None:
        if not is_safe(address, here=self._loopback):
            raise FetchError("Only addresses that begin with https:// are fetched from.")

    @contextmanager
    def _asked(
        self, pool: httpcore2.ConnectionPool, address: str, headers: Mapping[str, str]
    ) -> Generator[httpcore2.Response, None, None]:
        # What is packed may be of any size once it is unpacked.
        sent = {"user-agent": _USER_AGENT, "accept-encoding": "identity", **headers}
        url = httpx2.URL(address)
        sent["host"] = url.netloc.decode("ascii")
        if token := self._tokens.get(url.host):
            sent["authorization"] = f"Bearer {token}"
        limits = {"connect": CONNECT_SECONDS, "read": READ_SECONDS, "write": READ_SECONDS}
        with (
            _as_cut(url.host),
            pool.stream(
                "GET", str(url), headers=[*sent.items()], extensions={"timeout": limits}
            ) as answer,
        ):
            yield answer

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx2.create_ssl_context()


class _LookedAt(httpcore2.NetworkBackend):
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
        for address in addresses:
            if not self._is_fine(address):
                raise FetchError(
                    f"{host} leads to {address}, which is this machine or the network around it:"
                    " nothing is fetched from there."
                )
        failure: Exception = httpcore2.ConnectError("the name has no address")
        for address in addresses:
            try:
                return self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

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


def check_status(answer: Answer, *, has_token: bool) -> None:
    """Raises what a status other than "here it is" means.

    Raises:
        FetchError: There is nothing, or it is not for everybody.
        CutError: The server is busy or has trouble of its own.
    """
    status, host = answer.status, host_of(answer.address)
    if status in (200, 206):
        return
    if status in (401, 403):
        raise FetchError(
            f"{host} does not give this to everybody: accept its terms on its page"
            + ("." if has_token else ", and set an access token for it.")
        )
    if status in (404, 410):
        raise FetchError(f"There is nothing at this address any more ({host} says {status}).")
    if status == 451:
        raise FetchError(f"{host} may not give this out where you are (451).")
    if status in (408, 425, 429) or status >= 500:
        what = "asks to be left alone for a while" if status == 429 else "has trouble of its own"
        raise CutError(f"{host} {what} ({status}).", wait=_seconds(answer.headers))
    raise FetchError(f"{host} does not give this file (it says {status}).")


def _seconds(headers: httpx2.Headers) -> float:
    try:
        seconds = float(headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), 3600.0) if math.isfinite(seconds) else 0.0


def _read(answer: httpcore2.Response) -> Iterator[bytes]:
    with _as_cut("The server"):
        yield from answer.iter_stream()


def _joined(address: str, location: str) -> str:
    try:
        return str(httpx2.URL(address).join(location).copy_with(fragment=None))
    except (httpx2.InvalidURL, ValueError):
        raise FetchError(f"{host_of(address)} redirects to something that is no address.") from None


@contextmanager
def _as_cut(host: str) -> Generator[None, None, None]:
    try:
        yield
    except httpcore2.ConnectTimeout:
        raise CutError(f"{host} does not answer.") from None
    except httpcore2.TimeoutException:
        raise CutError(f"{host} has been silent for {READ_SECONDS:.0f} seconds.") from None
    except httpcore2.ConnectError:
        raise CutError(f"{host} cannot be reached, or not safely.") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError):
        raise CutError(f"{host} broke the connection off.") from None
