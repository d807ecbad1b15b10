"""Connections to servers out there, and the ones that are never made."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.library.download_server import DownloadServer, serving
from webui.library.far_ends import is_public
from webui.library.fetch_errors import CutError, FetchError
from webui.library.outward import MOST_REDIRECTS, Outward


@pytest.fixture
def server() -> Generator[DownloadServer, None, None]:
    with serving() as server:
        yield server


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
    ],
)
def test_addresses_of_this_machine_and_around_it_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1", "64:ff9b::5db8:d822"])
def test_addresses_of_the_open_network_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://example.com/x",
        "http://127.0.0.1/x",
        "ftp://example.com/x",
        "file:///etc/passwd",
        "https://user:word@example.com/x",
    ],
)
def test_only_https_is_asked(address: str) -> None:
    resolved: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        resolved.append(host)
        return ["93.184.216.34"]

    with pytest.raises(FetchError, match="https"):
        Outward(resolve=resolve).document(address)
    assert resolved == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["10.1.2.3"], ["93.184.216.34", "192.168.0.9"], ["::1"]]
)
def test_a_name_that_leads_in_here_is_not_connected_to(addresses: list[str]) -> None:
    with pytest.raises(FetchError, match="the network around it"):
        Outward(resolve=lambda host, port: addresses).document("https://example.com/x")


@pytest.mark.parametrize(
    "to",
    [
        "http://10.0.0.1/x",
        "https://10.0.0.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:192.168.0.1]/x",
        "https://2130706433/x",
        "http://example.com/x",
        "file:///etc/passwd",
    ],
)
def test_no_redirect_leads_into_a_private_network(server: DownloadServer, to: str) -> None:
    address = server.put("/a", b"", redirect=to)
    # Without the network no name but the first is found, and none is needed.
    with pytest.raises(FetchError):
        Outward().document(address)
    refused = Outward(loopback=True, resolve=lambda host, port: [_as_address(host)])
    with pytest.raises(FetchError) as caught:
        refused.document(address)
    assert not isinstance(caught.value, CutError), "refused, not tried in vain"


def _as_address(host: str) -> str:
    return {"2130706433": "10.0.0.1"}.get(host, host)


def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to(
    server: DownloadServer,
) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    server.put("/a", b"x")
    port = server.address.rpartition(":")[2]
    outward = Outward(loopback=True, resolve=lambda host, port: answers.pop(0))
    assert outward.document(f"http://localhost:{port}/a") == b"x"
    assert len(answers) == 1, "asked for once"


def test_redirects_end(server: DownloadServer) -> None:
    server.put("/a", b"", redirect=f"{server.address}/a")
    with pytest.raises(FetchError, match="without an end"):
        Outward(loopback=True).document(f"{server.address}/a")
    assert len(server.asked) == MOST_REDIRECTS + 1


def test_a_token_goes_to_its_host_alone(server: DownloadServer) -> None:
    port = server.address.rpartition(":")[2]
    server.put("/a", b"", redirect=f"http://localhost:{port}/b")
    server.put("/b", b"x")
    outward = Outward(loopback=True, tokens={"127.0.0.1": "secret"})
    assert outward.document(f"{server.address}/a") == b"x"
    sent = [asked.headers.get("authorization") for asked in server.asked]
    assert sent == ["Bearer secret", None]
    assert "secret" not in repr(outward)


def test_a_token_is_asked_for_where_there_is_none(server: DownloadServer) -> None:
    address = server.put("/a", b"", statuses=[(401, {}), (403, {})])
    with pytest.raises(FetchError, match="access token"):
        Outward(loopback=True).document(address)
    with pytest.raises(FetchError, match=r"on its page\.$"):
        Outward(loopback=True, tokens={"127.0.0.1": "x"}).document(address)


def test_a_document_that_is_too_long_is_not_read_to_its_end(server: DownloadServer) -> None:
    address = server.put("/a", b"{}", length=None, endless=True)
    with pytest.raises(FetchError, match="too long"):
        Outward(loopback=True).json(address)


def test_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(CutError, match="cannot be reached"):
        Outward(loopback=True).document("http://127.0.0.1:9/x")


def test_whether_a_server_is_reached_is_found_out_without_asking_it(
    server: DownloadServer,
) -> None:
    assert Outward(loopback=True).reaches(server.address)
    assert not Outward(loopback=True).reaches("http://127.0.0.1:9")
    assert not Outward(resolve=lambda host, port: ["10.0.0.1"]).reaches("https://example.com")
    assert server.asked == []
