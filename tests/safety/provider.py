"""A real OpenID Connect provider on this machine, whose answers can be made wrong.

Authlib's own authorization server: the code grant with PKCE. It asks nobody for a password.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from html import escape
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx2
from authlib.oauth2 import rfc6749
from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import UserInfo
from authlib.oidc.core.grants import OpenIDCode
from joserfc import jwt
from joserfc.jwk import KeySet, OKPKey, RSAKey

from webui.safety.operator import IssuerPolicy

CLIENT = "easel"
SECRET = "the secret of a test"
CLAIM = "age_over_18"

# Authlib is not typed; pyright would ask for a name for each of its values.
_AuthorizationServer: Any = rfc6749.AuthorizationServer
_CodeGrant: Any = grants.AuthorizationCodeGrant
_Request: Any = rfc6749.OAuth2Request
_OpenIDCode: Any = OpenIDCode
_UserInfo: Any = UserInfo
_BearerTokens: Any = BearerTokenGenerator
_CodeChallenge: Any = CodeChallenge
_Payload: Any = BasicOAuth2Payload


@cache
def _usual_key() -> RSAKey:
    return RSAKey.generate_key(2048, auto_kid=True)


@dataclass(frozen=True)
class Code:
    """An authorization code and what it was given out for."""

    code: str
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> int:
        return int(time.time())

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


@dataclass
class Provider:
    """What the provider says, and can be made to say.

    Attributes:
        address: The issuer.
        claims: What it knows about everybody.
        userinfo: What its userinfo says beside `claims`; `None`: it has none.
        discovery: What its discovery document says instead.
        forge: Gets every ID token and returns the one that is given out.
        answer: Gets a path and may answer there itself: status, headers and body.
        shows_a_page: Whether it has people press a button before it sends them back.
        auth_method: How clients prove who they are.
        requests: Paths that were asked for.
        forms: What was posted to the token endpoint.
    """

    address: str = ""
    claims: dict[str, Any] = field(default_factory=lambda: {CLAIM: True})
    userinfo: dict[str, Any] | None = None
    discovery: dict[str, Any] = field(default_factory=dict[str, Any])
    forge: Callable[[str], str] = str
    answer: Callable[[str], tuple[str, list[tuple[str, str]], bytes] | None] = lambda _: None
    shows_a_page: bool = False
    auth_method: str = "client_secret_basic"
    keys: KeySet = field(default_factory=lambda: KeySet([_usual_key()]))
    algorithm: str = "RS256"
    requests: list[str] = field(default_factory=list[str])
    forms: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    codes: dict[str, Code] = field(default_factory=dict[str, Code])

    @property
    def key(self) -> Any:
        """What tokens are signed with."""
        return self.keys.keys[0]

    def policy(self, **other: Any) -> IssuerPolicy:
        """What an operator who trusts this provider configures."""
        usual: dict[str, Any] = {
            "url": self.address,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "claim": CLAIM,
            "value": True,
            "level": 2,
            "name": "A test",
        }
        return IssuerPolicy(**{**usual, **other})

    def changed(self, **claims: Any) -> None:
        """Makes every ID token say something else; `...` leaves a claim out."""

        def change(honest: str) -> str:
            said = {**self.read(honest), **claims}
            return self.signed({name: value for name, value in said.items() if value is not ...})

        self.forge = change

    def read(self, token: str) -> dict[str, Any]:
        """The claims of one of its own tokens."""
        return jwt.decode(token, self.keys, [self.algorithm]).claims

    def signed(self, claims: dict[str, Any], key: Any = None, **header: Any) -> str:
        """A token, signed with its own key unless another is given."""
        head = {"alg": self.algorithm, "kid": self.key.kid, **header}
        return jwt.encode(head, claims, key or self.key, [head["alg"]])

    def new_key(self) -> None:
        """Signs with another key from now on, and forgets the one before."""
        self.keys = KeySet([RSAKey.generate_key(2048, auto_kid=True)])

    def ed25519(self, algorithm: str) -> None:
        """Signs with another kind of key from now on."""
        self.keys = KeySet([OKPKey.generate_key("Ed25519", auto_kid=True)])
        self.algorithm = algorithm

    def visit(self, address: str) -> tuple[str, str]:
        """Follows a login's address as a browser does; the code and state that come back."""
        answer = httpx2.get(address, follow_redirects=False)
        assert answer.status_code == 302, answer.text
        query = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
        return query["code"], query["state"]


@contextmanager
def providing(name: str = "127.0.0.1") -> Generator[Provider]:
    """A provider that is reached by that name of this machine."""
    provider = Provider()
    with make_server("127.0.0.1", 0, _Application(provider), _Server, _Quiet) as server:
        provider.address = f"http://{name}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield provider
        server.shutdown()
        thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass(frozen=True)
class _Client:
    """Easel, as it is registered there."""

    auth_method: str
    client_id: str = CLIENT

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, address: str) -> bool:
        return urlsplit(address).path == "/gate/back"

    def check_client_secret(self, secret: str) -> bool:
        return secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == self.auth_method

    def check_response_type(self, kind: str) -> bool:
        return kind == "code"

    def check_grant_type(self, kind: str) -> bool:
        return kind == "authorization_code"


class _WsgiRequest(_Request):
    def __init__(self, environ: dict[str, Any]) -> None:
        query: str = environ["QUERY_STRING"]
        parent: Any = super()
        parent.__init__(
            environ["REQUEST_METHOD"],
            f"http://{environ['HTTP_HOST']}{environ['PATH_INFO']}?{query}",
            headers={"Authorization": environ.get("HTTP_AUTHORIZATION", "")},
        )
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
        self.posted = dict(parse_qsl(body))
        self.payload = _Payload({**dict(parse_qsl(query)), **self.posted})

    @cached_property
    def form(self) -> dict[str, str]:
        return self.posted


class _Authorization(_AuthorizationServer):
    """Authlib's server over the memory of one `Provider`."""

    def __init__(self, provider: Provider) -> None:
        parent: Any = super()
        parent.__init__(scopes_supported=["openid"])
        self.provider = provider
        self.tokens: set[str] = set()
        tokens = _BearerTokens(_new_token)
        self.register_token_generator("default", tokens)
        self.register_grant(
            _Grant, [_OpenID(provider), _CodeChallenge(required=True), _must_have_pkce]
        )

    def query_client(self, client_id: str) -> _Client | None:
        return _Client(self.provider.auth_method) if client_id == CLIENT else None

    def save_token(self, token: dict[str, Any], request: object) -> None:
        self.tokens.add(token["access_token"])

    def create_oauth2_request(self, request: Any) -> Any:
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> tuple[int, Any, Any]:
        return status, body, headers

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        pass


def _new_token(**_: object) -> str:
    return secrets.token_urlsafe(32)


def _must_have_pkce(grant: Any) -> None:
    """Refuses what begins or ends without PKCE, whoever the client is (RFC 9700, 2.1.1)."""

    def at_the_beginning(grant: Any, _: str) -> None:
        if grant.request.payload.data.get("code_challenge_method") != "S256":
            raise rfc6749.InvalidRequestError("PKCE is missing")

    grant.register_hook("after_validate_authorization_request_payload", at_the_beginning)


class _Grant(_CodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post", "none")

    def save_authorization_code(self, code: str, request: Any) -> None:
        asked = request.payload.data
        self.server.provider.codes[code] = Code(
            code=code,
            redirect_uri=asked["redirect_uri"],
            scope=asked["scope"],
            nonce=asked.get("nonce"),
            code_challenge=asked.get("code_challenge"),
            code_challenge_method=asked.get("code_challenge_method"),
        )

    def query_authorization_code(self, code: str, client: object) -> Code | None:
        return self.server.provider.codes.get(code)

    def delete_authorization_code(self, authorization_code: Code) -> None:
        del self.server.provider.codes[authorization_code.code]

    def authenticate_user(self, authorization_code: Code) -> str:
        return "somebody"


class _OpenID(_OpenIDCode):
    def __init__(self, provider: Provider) -> None:
        parent: Any = super()
        parent.__init__(require_nonce=True)
        self.provider = provider

    def exists_nonce(self, nonce: str, request: object) -> bool:
        return any(code.nonce == nonce for code in self.provider.codes.values())

    def resolve_client_private_key(self, client: object) -> Any:
        return self.provider.key

    def get_client_algorithm(self, client: object) -> str:
        return self.provider.algorithm

    def get_encode_header(self, client: object) -> dict[str, Any]:
        return {"alg": self.provider.algorithm, "kid": self.provider.key.kid}

    def get_client_claims(self, client: _Client) -> dict[str, Any]:
        return {"iss": self.provider.address, "aud": [client.client_id]}

    def generate_user_info(self, user: str, scope: str) -> Any:
        named = {"name": "Nobody", "birthdate": "1970-01-01"}
        return _UserInfo(sub=user, **named, **self.provider.claims)

    def encode_id_token(self, token: Any, request: object) -> str:
        parent: Any = super()
        return self.provider.forge(parent.encode_id_token(token, request))


class _Application:
    """The provider's few addresses, after WSGI."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._server: Any = _Authorization(provider)

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        self._provider.requests.append(path)
        other = self._provider.answer(path)
        if other is not None:
            start(*other[:2])
            return [other[2]]
        status, body, headers = self._answer(path, environ)
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        start(f"{status} Whatever", [*headers, ("Content-Length", str(len(content)))])
        return [content]

    def _answer(self, path: str, environ: dict[str, Any]) -> tuple[int, Any, list[Any]]:
        match path:
            case "/.well-known/openid-configuration":
                return 200, self._discovery(), []
            case "/keys":
                return 200, self._provider.keys.as_dict(private=False), []
            case "/authorize":
                request = _WsgiRequest(environ)
                if self._provider.shows_a_page and "pressed" not in request.payload.data:
                    return 200, _form(request.payload.data), [("Content-Type", "text/html")]
                grant = self._server.get_consent_grant(request, "somebody")
                return self._server.create_authorization_response(request, "somebody", grant)
            case "/token":
                request = _WsgiRequest(environ)
                self._provider.forms.append(request.form)
                return self._server.create_token_response(request)
            case "/userinfo" if self._provider.userinfo is not None:
                bearer = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
                known = bearer in self._server.tokens
                return (200, self._provider.userinfo, []) if known else (401, {}, [])
            case _:
                return 404, {}, []

    def _discovery(self) -> dict[str, Any]:
        address = self._provider.address
        said: dict[str, Any] = {
            "issuer": address,
            "authorization_endpoint": f"{address}/authorize",
            "token_endpoint": f"{address}/token",
            "jwks_uri": f"{address}/keys",
            "response_types_supported": ["code"],
            "token_endpoint_auth_methods_supported": [self._provider.auth_method],
            "code_challenge_methods_supported": ["S256"],
        }
        if self._provider.userinfo is not None:
            said["userinfo_endpoint"] = f"{address}/userinfo"
        return {**said, **self._provider.discovery}


def _form(asked: dict[str, str]) -> str:
    """A page whose only button goes on with the login."""
    fields = (f'<input type="hidden" name="{n}" value="{escape(v)}">' for n, v in asked.items())
    return f'<form>{"".join(fields)}<button name="pressed" value="1">Log in</button></form>'


def query_of(address: str) -> dict[str, str]:
    """The parameters in an address, each of which must be there once."""
    found = parse_qs(urlsplit(address).query, strict_parsing=True)
    assert all(len(values) == 1 for values in found.values())
    return {name: values[0] for name, values in found.items()}
