"""Logins at a real provider on this machine, each wrong in one way: all end with one sentence."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Generator
from time import time

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from joserfc.jws import JWSRegistry

from tests.safety.provider import CLAIM, CLIENT, SECRET, Provider, providing
from webui.errors import GateError
from webui.safety.issuer import NOT_ACCEPTED, Issuer

BACK = "http://127.0.0.1:7860/gate/back"


@pytest.fixture
def provider() -> Generator[Provider]:
    with providing() as provider:
        yield provider


@pytest.fixture
def issuer(provider: Provider) -> Issuer:
    """It has let somebody in, so what it refuses next it refuses for one reason alone."""
    issuer = Issuer(provider.policy())
    assert issuer.finish("me", *provider.visit(issuer.begin("me", BACK))) == 2
    return issuer


def refused(provider: Provider, issuer: Issuer) -> None:
    code, state = provider.visit(issuer.begin("me", BACK))
    refused_as(issuer, "me", code, state)


def refused_as(issuer: Issuer, session: str, code: str, state: str) -> None:
    with pytest.raises(GateError) as error:
        issuer.finish(session, code, state)
    assert error.value.message == NOT_ACCEPTED


def hs256(provider: Provider, honest: str, secret: bytes) -> str:
    """The token, signed by hand: no library makes such a thing any more."""
    head = json.dumps({"alg": "HS256", "kid": provider.key.kid}).encode()
    text = b".".join((urlsafe_b64encode(head).rstrip(b"="), honest.split(".")[1].encode()))
    signature = hmac.new(secret, text, hashlib.sha256).digest()
    return (text + b"." + urlsafe_b64encode(signature).rstrip(b"=")).decode()


def test_oidc_wrong_iss(provider: Provider, issuer: Issuer) -> None:
    others = (
        "https://evil.example",
        provider.address + "/",
        provider.address.upper(),
        [provider.address],
        None,
        ...,
    )
    for iss in others:
        provider.changed(iss=iss)
        refused(provider, issuer)


def test_oidc_wrong_aud(provider: Provider, issuer: Issuer) -> None:
    for aud in ("another", ["another"], [], "", {CLIENT: 1}, None, ..., CLIENT.upper()):
        provider.changed(aud=aud)
        refused(provider, issuer)


def test_oidc_several_aud_without_our_azp(provider: Provider, issuer: Issuer) -> None:
    several = [CLIENT, "another"]
    for azp in (..., None, "another", [CLIENT]):
        provider.changed(aud=several, azp=azp)
        refused(provider, issuer)
    provider.changed(aud=CLIENT, azp="another")
    refused(provider, issuer)
    provider.changed(aud=several, azp=CLIENT)
    assert issuer.finish("me", *provider.visit(issuer.begin("me", BACK))) == 2


def test_oidc_wrong_nonce(provider: Provider, issuer: Issuer) -> None:
    for nonce in ("another", "", None, 0, True, ...):
        provider.changed(nonce=nonce)
        refused(provider, issuer)


def test_oidc_token_of_an_earlier_login(provider: Provider, issuer: Issuer) -> None:
    given: list[str] = []
    provider.forge = lambda honest: given.append(honest) or given[0]
    assert issuer.finish("me", *provider.visit(issuer.begin("me", BACK))) == 2
    refused(provider, issuer)


@pytest.mark.filterwarnings("ignore:JWS algorithm .none.")
def test_oidc_alg_none(provider: Provider, issuer: Issuer) -> None:
    provider.forge = lambda honest: jwt.encode(
        {"alg": "none", "kid": provider.key.kid},
        provider.read(honest),
        provider.key,
        registry=JWSRegistry(algorithms=["none"]),
    )
    refused(provider, issuer)
    provider.forge = lambda honest: honest[: honest.rindex(".") + 1]
    refused(provider, issuer)


def test_oidc_hs256_with_the_public_key(provider: Provider, issuer: Issuer) -> None:
    for secret in (provider.key.as_pem(private=False), SECRET.encode()):
        provider.forge = lambda honest, secret=secret: hs256(provider, honest, secret)
        refused(provider, issuer)


def test_oidc_hs256_with_a_secret_among_the_keys(provider: Provider) -> None:
    secret = OctKey.generate_key(256, auto_kid=True)
    provider.keys.keys.append(secret)
    provider.forge = lambda honest: provider.signed(
        provider.read(honest), secret, alg="HS256", kid=secret.kid
    )
    refused(provider, Issuer(provider.policy()))


def test_oidc_expired(provider: Provider, issuer: Issuer) -> None:
    now = int(time())
    for exp in (now - 120, now - 10**6, 0, -1, None, "never", True, float("nan"), ...):
        provider.changed(exp=exp)
        refused(provider, issuer)


def test_oidc_from_the_future(provider: Provider, issuer: Issuer) -> None:
    now = int(time())
    for claims in ({"iat": now + 600}, {"iat": ...}, {"iat": "now"}, {"nbf": now + 600}):
        provider.changed(**claims)
        refused(provider, issuer)


def test_oidc_claim_absent(provider: Provider, issuer: Issuer) -> None:
    provider.claims = {}
    refused(provider, issuer)
    provider.claims = {CLAIM.upper(): True, f"{CLAIM} ": True}
    refused(provider, issuer)


def test_oidc_claim_false(provider: Provider, issuer: Issuer) -> None:
    others: tuple[object, ...] = (False, None, 0, "", [], {})
    for said in others:
        provider.claims = {CLAIM: said}
        refused(provider, issuer)


def test_oidc_claim_the_string_true(provider: Provider, issuer: Issuer) -> None:
    for said in ("true", "True", 1, 1.0, [True], {"value": True}):
        provider.claims = {CLAIM: said}
        refused(provider, issuer)


def test_oidc_unknown_key(provider: Provider, issuer: Issuer) -> None:
    foreign = RSAKey.generate_key(2048, auto_kid=True)
    for kid in (foreign.kid, provider.key.kid, "../../keys", ""):
        provider.forge = lambda honest, kid=kid: provider.signed(
            provider.read(honest), foreign, kid=kid
        )
        refused(provider, issuer)


def test_oidc_key_inside_the_token(provider: Provider, issuer: Issuer) -> None:
    foreign = RSAKey.generate_key(2048, auto_kid=True)
    provider.forge = lambda honest: provider.signed(
        provider.read(honest), foreign, kid=provider.key.kid, jwk=foreign.as_dict(private=False)
    )
    refused(provider, issuer)


def test_oidc_changed_after_signing(provider: Provider, issuer: Issuer) -> None:
    def swap(honest: str) -> str:
        head, _, signature = honest.split(".")
        other = provider.signed({**provider.read(honest), "extra": 1}).split(".")[1]
        return f"{head}.{other}.{signature}"

    provider.forge = swap
    refused(provider, issuer)


def test_oidc_no_token_at_all(provider: Provider, issuer: Issuer) -> None:
    for token in ("", "a.b.c", "....", "a" * 200_000):
        provider.forge = lambda _, token=token: token
        refused(provider, issuer)


def test_oidc_token_for_another_access_token(provider: Provider, issuer: Issuer) -> None:
    provider.changed(at_hash="AAAAAAAAAAAAAAAAAAAAAA")
    refused(provider, issuer)


def test_oidc_code_used_twice(provider: Provider, issuer: Issuer) -> None:
    code, state = provider.visit(issuer.begin("me", BACK))
    assert issuer.finish("me", code, state) == 2
    exchanged = len(provider.forms)
    refused_as(issuer, "me", code, state)
    assert len(provider.forms) == exchanged
    _, other_state = provider.visit(issuer.begin("me", BACK))
    refused_as(issuer, "me", code, other_state)


def test_oidc_state_of_another_session(provider: Provider, issuer: Issuer) -> None:
    code, state = provider.visit(issuer.begin("me", BACK))
    exchanged = len(provider.forms)
    refused_as(issuer, "another", code, state)
    assert len(provider.forms) == exchanged
    refused_as(issuer, "me", code, state)


def test_oidc_state_replayed(provider: Provider, issuer: Issuer) -> None:
    code, state = provider.visit(issuer.begin("me", BACK))
    assert issuer.finish("me", code, state) == 2
    fresh, _ = provider.visit(issuer.begin("me", BACK))
    refused_as(issuer, "me", fresh, state)


def test_oidc_state_guessed(provider: Provider, issuer: Issuer) -> None:
    code, state = provider.visit(issuer.begin("me", BACK))
    for guess in ("", state[:-1], state.swapcase(), "\ud800", "0" * 200):
        refused_as(issuer, "me", code, guess)
    assert issuer.finish("me", code, state) == 2


def test_oidc_code_of_another_login(provider: Provider, issuer: Issuer) -> None:
    stolen, _ = provider.visit(issuer.begin("victim", BACK))
    _, state = provider.visit(issuer.begin("me", BACK))
    refused_as(issuer, "me", stolen, state)


def test_oidc_pkce_missing(provider: Provider, issuer: Issuer) -> None:
    address = issuer.begin("me", BACK)
    without = address.partition("&code_challenge=")[0]
    answer = httpx2.get(without, follow_redirects=False)
    assert "code=" not in answer.headers.get("location", "")
    code, state = provider.visit(address)
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
    for verifier in ({}, {"code_verifier": "a" * 64}):
        stolen = httpx2.post(
            f"{provider.address}/token", data={**form, **verifier}, auth=(CLIENT, SECRET)
        )
        assert stolen.status_code == 400
        assert "id_token" not in stolen.text
    assert issuer.finish("me", code, state) == 2
    assert len(provider.forms[-1]["code_verifier"]) >= 43


def test_oidc_userinfo_of_somebody_else(provider: Provider) -> None:
    provider.claims = {}
    for sub in ("another", "", None, ...):
        told = {CLAIM: True, "sub": sub}
        provider.userinfo = {name: value for name, value in told.items() if value is not ...}
        refused(provider, Issuer(provider.policy()))
    provider.userinfo = {CLAIM: True, "sub": "somebody"}
    issuer = Issuer(provider.policy())
    assert issuer.finish("me", *provider.visit(issuer.begin("me", BACK))) == 2


def test_oidc_provider_sends_elsewhere(provider: Provider) -> None:
    with providing() as other:
        for path in ("/keys", "/token"):
            elsewhere = ("307 There", [("Location", other.address + path)], b"{}")
            provider.answer = lambda asked, path=path, said=elsewhere: (
                said if asked == path else None
            )
            refused(provider, Issuer(provider.policy()))
        assert other.requests == []
