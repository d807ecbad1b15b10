"""Asking through a proxy that the environment names."""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from webui.library.fetch_errors import CutError, FetchError
from webui.library.outward import Outward
from webui.library.proxies import proxy_for

NAME = "models.example"


def certificate(folder: Path) -> Path:
    """A certificate for `NAME` with its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / "certificate.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


class StandInProxy:
    """Connects to nowhere: it is each server it is asked for itself, and answers with `body`."""

    def __init__(self, file: Path) -> None:
        self.asked: list[str] = []
        self.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self.body = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(file)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                asked = connection.recv(65536).decode()
                if not asked:
                    continue
                self.asked.append(asked)
                connection.sendall(self.answer)
                if b" 200 " not in self.answer:
                    continue
                try:
                    with self._tls.wrap_socket(connection, server_side=True) as safe:
                        self.asked.append(safe.recv(65536).decode())
                        safe.sendall(self.body)
                except OSError:
                    continue


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[StandInProxy, None, None]:
    file = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    standing_in = StandInProxy(file)
    yield standing_in
    standing_in.close()


def unknown(host: str, port: int) -> list[str]:
    """As it is behind a proxy: names of the world outside are not found."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        raise CutError(f"{host} cannot be found") from None


def outward(proxy: StandInProxy, login: str = "", **named: str) -> Outward:
    proxies = {"https": f"http://{login}127.0.0.1:{proxy.port}"} | named
    return Outward(resolve=unknown, proxies=proxies, tokens={NAME: "secret"})


def test_the_proxy_finds_the_name_and_hears_nothing_of_what_is_asked(proxy: StandInProxy) -> None:
    asking = outward(proxy, "me:p%40ss@")
    assert asking.document(f"https://{NAME}/a?b=c") == b"hi"
    connect, asked = proxy.asked
    assert connect.startswith(f"CONNECT {NAME}:443 ")
    login = base64.b64encode(b"me:p@ss").decode()
    assert f"proxy-authorization: basic {login}".casefold() in connect.casefold()
    assert "secret" not in connect
    assert asked.startswith("GET /a?b=c ")
    assert "Bearer secret" in asked
    assert "p@ss" not in asked + repr(asking)
    assert asking.reaches(f"https://{NAME}")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.1",
        "[::1]",
        "169.254.169.254",
        "printer",
        "2130706433",
        "wiki.corp",
        "nas.local",
    ],
)
def test_nothing_around_is_asked_for_through_the_proxy(proxy: StandInProxy, host: str) -> None:
    with pytest.raises(FetchError, match="network around") as caught:
        outward(proxy).document(f"https://{host}/x")
    assert not isinstance(caught.value, CutError)
    proxy.body = f"HTTP/1.1 302 Found\r\nlocation: https://{host}/x\r\n\r\n".encode()
    with pytest.raises(FetchError, match="network around"):
        outward(proxy).document(f"https://{NAME}/x")
    assert [asked.split()[1] for asked in proxy.asked] == [f"{NAME}:443", "/x"]


def test_a_name_that_is_found_here_is_looked_at_though_the_proxy_would_find_it(
    proxy: StandInProxy,
) -> None:
    proxies = {"https": f"127.0.0.1:{proxy.port}"}
    within = Outward(resolve=lambda host, port: ["93.184.216.34", "10.1.2.3"], proxies=proxies)
    with pytest.raises(FetchError, match=r"wiki\.example leads to 10\.1\.2\.3"):
        within.document("https://wiki.example/x")
    assert proxy.asked == []


def test_whoever_answers_must_have_the_certificate_of_the_name(proxy: StandInProxy) -> None:
    with pytest.raises(CutError, match=r"through the proxy 127\.0\.0\.1, or not safely"):
        outward(proxy).document("https://other.example/x")
    assert [asked.split()[0] for asked in proxy.asked] == ["CONNECT"]


@pytest.mark.parametrize(("status", "is_cut"), [("407 Login", False), ("504 Nowhere", True)])
def test_what_the_proxy_does_not_give_is_said(
    proxy: StandInProxy, status: str, is_cut: bool
) -> None:
    proxy.answer = f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode()
    says = rf"models\.example is not given through the proxy 127\.0\.0\.1 \(it says {status[:3]}\)"
    with pytest.raises(FetchError, match=says) as caught:
        outward(proxy).document(f"https://{NAME}/x")
    assert isinstance(caught.value, CutError) == is_cut


@pytest.mark.parametrize("no", ["*", "other, example", ".example", "*.example", f"{NAME}:443"])
def test_what_needs_no_proxy_goes_without(proxy: StandInProxy, no: str) -> None:
    with pytest.raises(FetchError, match="cannot be found"):
        outward(proxy, no=no).document(f"https://{NAME}/x")
    assert proxy.asked == []


def test_what_is_only_called_alike_goes_through_it(proxy: StandInProxy) -> None:
    others = "ample, models.example:80, a.models.example, ,."
    assert outward(proxy, no=others).document(f"https://{NAME}/x") == b"hi"


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ({}, None),
        ({"http": "a:1"}, None),
        ({"https": "a:1"}, "http://a:1"),
        ({"all": "http://a"}, "http://a:80"),
        ({"https": "https://u:p@[::1]:8443/", "all": "b:1"}, "https://[::1]:8443"),
    ],
)
def test_the_proxy_that_is_named(named: dict[str, str], address: str | None) -> None:
    found = proxy_for(f"https://{NAME}/x", named)
    assert (found and found.address) == address
    assert proxy_for("http://127.0.0.1/x", named) is None


@pytest.mark.parametrize("named", ["socks5://a:1", "http://", "http://a:b", "http://[a"])
def test_what_is_no_proxy_that_can_be_used_is_said(named: str) -> None:
    with pytest.raises(FetchError, match="must begin with http://"):
        proxy_for(f"https://{NAME}/x", {"https": named})
