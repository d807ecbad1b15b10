"""Answers of servers out there, over connections whose far end has been looked at.

Every address that a host name stands for is looked at before one is connected to, and the
connection goes to the very address that was looked at: neither a redirect nor a name that changes
its mind leads into this machine or the network around it.

Where the environment names a proxy, that alone is connected to, and it finds the addresses. Names
and addresses that can be told to be of the network around are then not asked for either, and what
answers must have the certificate of the name that was asked for.
"""

from __future__ import annotations

import json
import math
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import urlsplit

import httpcore2
import httpx2

from webui.library.far_ends import LookedAt, Resolve, addresses_of, host_of, is_safe
from webui.library.fetch_errors import CutError, FetchError
from webui.library.proxies import Proxy, proxy_for

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
_USER_AGENT = "Easel"


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
        proxies: What the environment says of proxies, as
            `urllib.request.getproxies_environment` gives it.
    """

    def __init__(
        self,
        *,
        tokens: Mapping[str, str] = MappingProxyType({}),
        loopback: bool = False,
        resolve: Resolve | None = None,
        proxies: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._tokens = dict(tokens)
        self._loopback = loopback
        self._network = LookedAt(resolve or addresses_of, loopback=loopback)
        self._proxies = dict(proxies)

    def has_token(self, host: str) -> bool:
        """Whether an access token is set for the host."""
        return host in self._tokens

    def reaches(self, address: str) -> bool:
        """Whether the server at an address, or the proxy before it, takes connections.

        Nothing is asked of it.
        """
        parts = urlsplit(address)
        try:
            proxy = proxy_for(address, self._proxies)
            if proxy is not None:
                way, host, port = httpcore2.SyncBackend(), proxy.host, proxy.port
            else:
                way, host, port = self._network, parts.hostname or "", parts.port or 443
            way.connect_tcp(host, port, REACHED_SECONDS).close()
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
        with ExitStack() as stack:
            pools: dict[Proxy | None, httpcore2.ConnectionPool] = {}
            seen: list[httpx2.Headers] = []
            for _ in range(MOST_REDIRECTS + 1):
                self._check(address)
                proxy = proxy_for(address, self._proxies)
                if proxy not in pools:
                    pools[proxy] = stack.enter_context(self._pool(address, proxy))
                if proxy is not None:
                    self._network.check_name(host_of(address), urlsplit(address).port or 443)
                with self._asked(pools[proxy], address, headers, proxy) as answer:
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

    def _pool(self, address: str, proxy: Proxy | None) -> httpcore2.ConnectionPool:
        # Its making is slow, and nothing but a test begins without it.
        tls = None if address.startswith("http:") else self._tls
        if proxy is None:
            return httpcore2.ConnectionPool(ssl_context=tls, network_backend=self._network)
        # Proxies lie in the network around: this one address was named by the machine's owner.
        return httpcore2.HTTPProxy(proxy.address, proxy_auth=proxy.login, ssl_context=tls)

    @contextmanager
    def _asked(
        self,
        pool: httpcore2.ConnectionPool,
        address: str,
        headers: Mapping[str, str],
        proxy: Proxy | None,
    ) -> Generator[httpcore2.Response, None, None]:
        # What is packed may be of any size once it is unpacked.
        sent = {"user-agent": _USER_AGENT, "accept-encoding": "identity", **headers}
        url = httpx2.URL(address)
        sent["host"] = url.netloc.decode("ascii")
        if token := self._tokens.get(url.host):
            sent["authorization"] = f"Bearer {token}"
        limits = {"connect": CONNECT_SECONDS, "read": READ_SECONDS, "write": READ_SECONDS}
        with (
            _as_cut(url.host, proxy),
            pool.stream(
                "GET", str(url), headers=[*sent.items()], extensions={"timeout": limits}
            ) as answer,
        ):
            yield answer

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx2.create_ssl_context()


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
def _as_cut(host: str, proxy: Proxy | None = None) -> Generator[None, None, None]:
    by = "" if proxy is None else f" through the proxy {proxy.host}"
    try:
        yield
    except httpcore2.ConnectTimeout:
        raise CutError(f"{host} does not answer{by}.") from None
    except httpcore2.TimeoutException:
        raise CutError(f"{host} has been silent for {READ_SECONDS:.0f} seconds.") from None
    except httpcore2.ConnectError:
        raise CutError(f"{host} cannot be reached{by}, or not safely.") from None
    except httpcore2.ProxyError as error:
        said = str(error).partition(" ")[0]
        kind = CutError if said.startswith("5") else FetchError
        raise kind(f"{host} is not given{by} (it says {said}).") from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError):
        raise CutError(f"{host} broke the connection off.") from None
