"""Logins at the operator's OpenID Connect provider: the one way to a grant that is age assurance.

The authorization code flow with PKCE, after OpenID Connect Core 1.0, section 3.1, and RFC 9700.
What comes back is a level or a refusal: no claim outlives the login.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

from authlib.integrations import httpx_client
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import get_well_known_url
from joserfc import jwt
from joserfc.jwk import GuestProtocol, KeySet
from joserfc.jws import JWSRegistry
from pydantic import BaseModel

from webui.errors import BadRequestError, GateError
from webui.levels import Level, as_level
from webui.library.far_ends import is_safe
from webui.safety.fetching import (
    READ_SECONDS,
    Bounded,
    Kept,
    RefusalError,
    fetch,
    object_in,
)
from webui.safety.operator import IssuerPolicy

NOT_ACCEPTED = "The login was not accepted."
"""The one answer to every login that ends without a grant."""

UNREACHABLE = "The login provider cannot be used at the moment: try again in a minute."

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
"""What an ID token may be signed with; the last two are names of the same (RFC 9864)."""

LOGIN_SECONDS = 600.0
"""How long the way to the provider and back may take."""

MAX_LOGINS = 1_000
"""Logins that may be under way at the same time; the oldest gives way."""

MAX_LOGINS_PER_SESSION = 5
_ABSENT: Final = object()
_LEEWAY_SECONDS = 60

_log = logging.getLogger(__name__)


class _Discovery(BaseModel):
    """What is used of a provider's metadata (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


@dataclass(frozen=True)
class _Login:
    """A login under way.

    Attributes:
        back: The address the provider sends the browser back to.
        ends: When it is too late, in ticks.
    """

    session: str
    nonce: str
    verifier: str
    back: str
    ends: float


class Issuer:
    """Begins and ends logins. One for each engine; safe to use from several threads.

    Args:
        clock: Seconds since the epoch, which tokens are measured by.
        ticks: Seconds that never jump, which everything else is measured by.

    Raises:
        BadRequestError: The provider's address is not one that can be trusted.
    """

    def __init__(
        self,
        policy: IssuerPolicy,
        *,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        if not is_safe(policy.url):
            raise BadRequestError(
                "The issuer's url must begin with https:// (http:// is for this machine only)."
            )
        self._policy = policy
        self._clock = clock
        self._ticks = ticks
        self._transport = Bounded(ticks)
        self._discovery = Kept(self._fetch_discovery, ticks)
        self._keys = Kept(self._fetch_keys, ticks)
        self._registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        self._logins: OrderedDict[str, _Login] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, session_id: str, back: str) -> str:
        """The address to send the session's browser to.

        Args:
            back: The address the provider sends it back to.

        Raises:
            GateError: The provider does not answer as it should.
        """
        try:
            endpoint = self._discovery.get().authorization_endpoint
        except Exception as error:  # noqa: BLE001  (whatever the provider answers)
            _log.warning("A login could not be begun: %s.", _reason(error))
            raise GateError(UNREACHABLE) from None
        state = secrets.token_urlsafe(32)
        login = _Login(
            session=session_id,
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            back=back,
            ends=self._ticks() + LOGIN_SECONDS,
        )
        with self._client(back) as client:
            address, _ = client.create_authorization_url(
                endpoint, state=state, nonce=login.nonce, code_verifier=login.verifier
            )
        self._remember(state, login)
        return address

    def finish(self, session_id: str, code: str, state: str) -> Level:
        """The level that the login is good for; its state is used up in any case.

        Raises:
            GateError: It is not accepted, for whatever reason.
        """
        with self._lock:
            login = self._logins.pop(state, None)
        try:
            if login is None or login.session != session_id or self._ticks() > login.ends:
                raise RefusalError("this session has begun no such login")
            self._check(code, login)
        except Exception as error:  # noqa: BLE001  (whatever is wrong, it is not accepted)
            _log.warning("A login was not accepted: %s.", _reason(error))
            raise GateError(NOT_ACCEPTED) from None
        return as_level(self._policy.level)

    def _remember(self, state: str, login: _Login) -> None:
        now = self._ticks()
        with self._lock:
            for key in [key for key, one in self._logins.items() if now > one.ends]:
                del self._logins[key]
            own = [key for key, one in self._logins.items() if one.session == login.session]
            if len(own) >= MAX_LOGINS_PER_SESSION:
                del self._logins[own[0]]
            elif len(self._logins) >= MAX_LOGINS:
                self._logins.popitem(last=False)
            self._logins[state] = login

    def _client(self, back: str, auth_method: str | None = None) -> Any:
        """Authlib's client, which is not typed."""
        return cast(Any, httpx_client).OAuth2Client(
            client_id=self._policy.client_id,
            client_secret=self._policy.client_secret,
            token_endpoint_auth_method=auth_method,
            redirect_uri=back,
            scope="openid",
            code_challenge_method="S256",
            transport=self._transport,
            timeout=READ_SECONDS,
            follow_redirects=False,
        )

    def _check(self, code: str, login: _Login) -> None:
        """Exchanges the code for an ID token and looks for the claim."""
        found = self._discovery.get()
        with self._client(login.back, self._auth_method(found)) as client:
            token = client.fetch_token(
                found.token_endpoint,
                grant_type="authorization_code",
                code=code,
                code_verifier=login.verifier,
            )
            claims = self._claims(token, login.nonce)
            value = _find(claims, self._policy.claim)
            if value is _ABSENT and found.userinfo_endpoint is not None:
                told = object_in(client.get(found.userinfo_endpoint))
                if told.get("sub") != claims["sub"]:
                    raise RefusalError("the provider's userinfo is about somebody else")
                value = _find(told, self._policy.claim)
        if type(value) is not type(self._policy.value) or value != self._policy.value:
            raise RefusalError("the claim is absent, or not what the operator accepts")

    def _auth_method(self, found: _Discovery) -> str:
        """How the client proves who it is at the token endpoint."""
        if not self._policy.client_secret:
            return "none"
        if "client_secret_basic" in found.token_endpoint_auth_methods_supported:
            return "client_secret_basic"
        return "client_secret_post"

    def _claims(self, token: dict[str, Any], nonce: str) -> dict[str, Any]:
        """The ID token's, once it is known to be the provider's, for us, and of this login."""
        read = jwt.decode(token["id_token"], self._keys_for, registry=self._registry)
        claims: Any = cast(Any, CodeIDToken)(
            read.claims,
            read.header,
            options={"iss": {"value": self._policy.url}, "aud": {"value": self._policy.client_id}},
            params={
                "nonce": nonce,
                "client_id": self._policy.client_id,
                "access_token": token.get("access_token"),
            },
        )
        claims.validate(now=int(self._clock()), leeway=_LEEWAY_SECONDS)
        return claims

    def _keys_for(self, token: GuestProtocol) -> KeySet:
        """The provider's keys, fetched anew when they do not have the token's."""
        kid = token.headers().get("kid")
        return self._keys.get(lambda keys: kid is None or any(key.kid == kid for key in keys))

    def _fetch_discovery(self) -> _Discovery:
        found = _Discovery.model_validate(
            fetch(self._transport, get_well_known_url(self._policy.url, external=True))
        )
        if found.issuer != self._policy.url:
            raise RefusalError("the provider goes by another name than the operator's")
        here = urlsplit(self._policy.url).scheme == "http"
        for address in (
            found.authorization_endpoint,
            found.token_endpoint,
            found.jwks_uri,
            found.userinfo_endpoint,
        ):
            if address is not None and not is_safe(address, here=here):
                raise RefusalError("the provider names an address without https")
        return found

    def _fetch_keys(self) -> KeySet:
        return KeySet.import_key_set(
            cast(Any, fetch(self._transport, self._discovery.get().jwks_uri))
        )


def _find(claims: dict[str, Any], path: str) -> object:
    """The claim of that name, else where its dots lead to, else `_ABSENT`."""
    if path in claims:
        return claims[path]
    place: object = claims
    for name in path.split("."):
        if not isinstance(place, dict) or name not in place:
            return _ABSENT
        place = cast(dict[str, object], place)[name]
    return place


def _reason(error: Exception) -> str:
    """For the log: errors of others may quote tokens, so only their kind is told."""
    return str(error) if isinstance(error, RefusalError) else type(error).__name__
