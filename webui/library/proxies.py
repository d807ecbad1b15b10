"""The proxy that the environment names: HTTPS_PROXY, else ALL_PROXY; NO_PROXY goes without.

Nothing else names one: neither a setting of the system nor anything that can be fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from webui.library.fetch_errors import FetchError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """A proxy that is asked to connect.

    Attributes:
        address: Without the login.
        login: User and password in UTF-8, where it wants them.
    """

    address: str
    host: str
    port: int
    login: tuple[bytes, bytes] | None = field(default=None, repr=False)


def proxy_for(address: str, named: Mapping[str, str]) -> Proxy | None:
    """The proxy that an address is asked through; `None` where it is asked directly.

    Args:
        named: As `urllib.request.getproxies_environment` gives it.

    Raises:
        FetchError: What is named is no proxy that can be used.
    """
    parts = urlsplit(address)
    said = named.get("https") or named.get("all")
    if parts.scheme != "https" or not said:
        return None
    if _goes_without(parts.hostname or "", parts.port or 443, named.get("no", "")):
        return None
    try:
        proxy = urlsplit(said if "://" in said else f"http://{said}")
        host, port = proxy.hostname, proxy.port or _PORTS.get(proxy.scheme)
    except ValueError:
        proxy, host, port = urlsplit(""), None, None
    if not host or port is None or proxy.scheme not in _PORTS:
        raise FetchError(
            "HTTPS_PROXY names no proxy that can be used here: it must begin with http:// or"
            " https://."
        )
    login = None
    if proxy.username:
        login = unquote(proxy.username).encode(), unquote(proxy.password or "").encode()
    shown = f"[{host}]" if ":" in host else host
    return Proxy(f"{proxy.scheme}://{shown}:{port}", host, port, login)


def _goes_without(host: str, port: int, said: str) -> bool:
    """Whether NO_PROXY names a host, the domain it is in, or all."""
    for one in said.split(","):
        name = one.strip().removeprefix("*").removeprefix(".").lower()
        name = name.removesuffix(f":{port}")
        if one.strip() == "*" or (name and f".{host}".endswith(f".{name}")):
            return True
    return False
