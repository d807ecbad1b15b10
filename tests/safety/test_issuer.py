from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from time import time

import pytest
from joserfc import jwt

from tests.safety.provider import CLIENT, Provider, providing, query_of
from webui.errors import BadRequestError, GateError
from webui.levels import Level
from webui.library.far_ends import is_safe
from webui.safety.fetching import (
    ANSWER_SECONDS,
    KEPT_SECONDS,
    MAX_ANSWER_BYTES,
    RETRY_SECONDS,
)
from webui.safety.issuer import (
    LOGIN_SECONDS,
    MAX_LOGINS,
    MAX_LOGINS_PER_SESSION,
    NOT_ACCEPTED,
    UNREACHABLE,
    Issuer,
)

BACK = "http://127.0.0.1:7860/gate/back"
METADATA = "/.well-known/openid-configuration"


class Ticks:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def provider() -> Generator[Provider]:
    with providing() as provider:
        yield provider


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def issuer(provider: Provider, ticks: Ticks) -> Issuer:
    return Issuer(provider.policy(), ticks=ticks)


def log_in(provider: Provider, issuer: Issuer, session: str = "me") -> Level:
    """A whole login, as a browser takes it through."""
    return issuer.finish(session, *provider.visit(issuer.begin(session, BACK)))


def is_refused(provider: Provider, issuer: Issuer) -> bool:
    """Whether a whole login ends with the one sentence."""
    with pytest.raises(GateError) as refused:
        log_in(provider, issuer)
    return refused.value.message == NOT_ACCEPTED


def test_a_login_gives_the_level_the_operator_chose(provider: Provider) -> None:
    for level in (0, 1, 2):
        assert log_in(provider, Issuer(provider.policy(level=level))) == level


def test_a_login_begins_with_a_code_flow_and_pkce(provider: Provider, issuer: Issuer) -> None:
    address = issuer.begin("me", BACK)
    asked = query_of(address)
    assert address.startswith(f"{provider.address}/authorize?")
    assert asked["response_type"] == "code"
    assert asked["client_id"] == CLIENT
    assert asked["redirect_uri"] == BACK
    assert asked["scope"] == "openid"
    assert asked["code_challenge_method"] == "S256"
    again = query_of(issuer.begin("me", BACK))
    for drawn in ("state", "nonce", "code_challenge"):
        assert len(asked[drawn]) >= 43
        assert asked[drawn] != again[drawn]


@pytest.mark.parametrize(
    ("method", "secret", "posted"),
    [
        ("client_secret_basic", True, set[str]()),
        ("client_secret_post", True, {"client_id", "client_secret"}),
        ("none", False, {"client_id"}),
    ],
)
def test_easel_proves_who_it_is_as_the_provider_wants(
    provider: Provider, method: str, secret: bool, posted: set[str]
) -> None:
    provider.auth_method = method
    policy = provider.policy() if secret else provider.policy(client_secret="")
    assert log_in(provider, Issuer(policy)) == 2
    (form,) = provider.forms
    assert form.keys() - {"grant_type", "redirect_uri", "code", "code_verifier"} == posted


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
def test_rsa_signatures_are_read(provider: Provider, issuer: Issuer, algorithm: str) -> None:
    provider.algorithm = algorithm
    assert log_in(provider, issuer) == 2


@pytest.mark.parametrize("algorithm", ["EdDSA", "Ed25519"])
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_edwards_signatures_are_read(provider: Provider, issuer: Issuer, algorithm: str) -> None:
    provider.ed25519(algorithm)
    assert log_in(provider, issuer) == 2


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (True, True),
        (False, False),
        (18, 18),
        ("adult", "adult"),
    ],
)
def test_the_claim_must_be_of_the_same_type_and_value(
    provider: Provider, wanted: bool | int | str, said: object
) -> None:
    issuer = Issuer(provider.policy(value=wanted))
    provider.changed(age_over_18=said)
    assert log_in(provider, issuer) == 2
    others = (True, False, 1, 0, 1.0, 18, 18.0, 1.5, "adult", "Adult", "true", "18", None, [said])
    for other in others:
        if type(other) is not type(said) or other != said:
            provider.changed(age_over_18=other)
            assert is_refused(provider, issuer), other


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("age.over.18", {"age": {"over": {"18": True}}}),
        ("https://example.org/adult", {"https://example.org/adult": True}),
    ],
)
def test_a_claim_may_lie_in_objects_or_have_dots(
    provider: Provider, claim: str, said: dict[str, object]
) -> None:
    provider.changed(age_over_18=..., **said)
    assert log_in(provider, Issuer(provider.policy(claim=claim))) == 2


def test_a_path_that_leads_nowhere_is_no_claim(provider: Provider) -> None:
    issuer = Issuer(provider.policy(claim="age.over"))
    for said in ("x", {}, {"under": True}, [True], None):
        provider.changed(age=said)
        assert is_refused(provider, issuer), said


def test_userinfo_is_asked_where_the_token_lacks_the_claim(provider: Provider) -> None:
    provider.userinfo = {"sub": "somebody", "age_over_18": True}
    issuer = Issuer(provider.policy())
    assert log_in(provider, issuer) == 2
    assert "/userinfo" not in provider.requests
    provider.changed(age_over_18=...)
    assert log_in(provider, issuer) == 2
    assert "/userinfo" in provider.requests
    provider.userinfo = {"sub": "somebody"}
    assert is_refused(provider, issuer)


def test_userinfo_does_not_overrule_the_token(provider: Provider, issuer: Issuer) -> None:
    provider.userinfo = {"sub": "somebody", "age_over_18": True}
    for said in (False, None, "true"):
        provider.changed(age_over_18=said)
        assert is_refused(provider, issuer)
    assert "/userinfo" not in provider.requests


def test_a_new_key_is_fetched_once_a_minute(
    provider: Provider, issuer: Issuer, ticks: Ticks
) -> None:
    assert log_in(provider, issuer) == 2
    assert log_in(provider, issuer) == 2
    assert provider.requests.count("/keys") == 1
    provider.new_key()
    assert is_refused(provider, issuer)
    assert provider.requests.count("/keys") == 1
    ticks.now += RETRY_SECONDS
    assert log_in(provider, issuer) == 2
    provider.forge = lambda honest: provider.signed(provider.read(honest), kid="unheard of")
    for _ in range(3):
        assert is_refused(provider, issuer)
    assert provider.requests.count("/keys") == 2
    assert provider.requests.count(METADATA) == 1


def test_a_token_may_name_no_key_where_there_is_only_one(
    provider: Provider, issuer: Issuer
) -> None:
    provider.forge = lambda honest: provider.signed(provider.read(honest), kid="")
    assert is_refused(provider, issuer)
    provider.forge = lambda honest: _without_kid(provider, honest)
    assert log_in(provider, issuer) == 2


def _without_kid(provider: Provider, honest: str) -> str:
    return jwt.encode({"alg": "RS256"}, provider.read(honest), provider.key, ["RS256"])


def test_what_a_provider_says_of_itself_is_kept_for_an_hour(
    provider: Provider, issuer: Issuer, ticks: Ticks
) -> None:
    issuer.begin("me", BACK)
    ticks.now += KEPT_SECONDS - 1
    issuer.begin("me", BACK)
    assert provider.requests.count(METADATA) == 1
    ticks.now += 1
    provider.answer = lambda path: ("503 Down", [], b"")
    for _ in range(2):
        with pytest.raises(GateError) as refused:
            issuer.begin("me", BACK)
        assert refused.value.message == UNREACHABLE
    assert provider.requests.count(METADATA) == 2
    ticks.now += RETRY_SECONDS
    provider.answer = lambda path: None
    issuer.begin("me", BACK)


def test_the_clocks_may_differ_by_a_minute(provider: Provider) -> None:
    for off, accepted in ((-59, True), (-120, False), (3600 + 30, True), (3600 + 120, False)):
        issuer = Issuer(provider.policy(), clock=lambda off=off: time() + off)
        if accepted:
            assert log_in(provider, issuer) == 2, off
        else:
            assert is_refused(provider, issuer), off


def test_a_login_may_take_ten_minutes(provider: Provider, issuer: Issuer, ticks: Ticks) -> None:
    came = provider.visit(issuer.begin("me", BACK))
    ticks.now += LOGIN_SECONDS
    assert issuer.finish("me", *came) == 2
    came = provider.visit(issuer.begin("me", BACK))
    ticks.now += LOGIN_SECONDS + 1
    with pytest.raises(GateError, match=NOT_ACCEPTED):
        issuer.finish("me", *came)


def test_logins_under_way_are_bounded(provider: Provider, ticks: Ticks) -> None:
    issuer = Issuer(provider.policy(), ticks=ticks)
    first = provider.visit(issuer.begin("me", BACK))
    second = provider.visit(issuer.begin("me", BACK))
    for _ in range(MAX_LOGINS_PER_SESSION - 1):
        issuer.begin("me", BACK)
    with pytest.raises(GateError):
        issuer.finish("me", *first)
    assert issuer.finish("me", *second) == 2
    mine = provider.visit(issuer.begin("me", BACK))
    for number in range(MAX_LOGINS):
        issuer.begin(f"another {number}", BACK)
    with pytest.raises(GateError):
        issuer.finish("me", *mine)
    ticks.now += LOGIN_SECONDS + 1
    assert log_in(provider, issuer) == 2


def test_several_may_log_in_at_once(provider: Provider) -> None:
    issuer = Issuer(provider.policy())
    levels: list[Level] = []

    def one(name: str) -> None:
        levels.append(log_in(provider, issuer, name))

    threads = [threading.Thread(target=one, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert levels == [2] * 6
    assert provider.requests.count(METADATA) == provider.requests.count("/keys") == 1


@pytest.mark.parametrize(
    "answer",
    [
        ("200 OK", list[tuple[str, str]](), b"[]"),
        ("200 OK", list[tuple[str, str]](), b"{}"),
        ("200 OK", list[tuple[str, str]](), b"\xff" * 9),
        ("200 OK", list[tuple[str, str]](), b"[" * 100_000),
        ("404 Not Found", list[tuple[str, str]](), b"{}"),
        ("200 OK", list[tuple[str, str]](), b" " * (MAX_ANSWER_BYTES + 1)),
        ("200 OK", [("Content-Encoding", "gzip")], b"\x1f\x8b"),
        ("302 Found", [("Location", "/keys")], b""),
    ],
)
@pytest.mark.parametrize("where", [METADATA, "/token", "/keys", "/userinfo"])
def test_whatever_a_provider_answers_it_is_a_refusal(
    provider: Provider,
    issuer: Issuer,
    where: str,
    answer: tuple[str, list[tuple[str, str]], bytes],
) -> None:
    provider.userinfo = {"sub": "somebody", "age_over_18": True}
    provider.changed(age_over_18=...)
    provider.answer = lambda path: answer if path == where else None
    with pytest.raises(GateError) as refused:
        log_in(provider, issuer)
    assert refused.value.message == (UNREACHABLE if where == METADATA else NOT_ACCEPTED)
    assert refused.value.status == 403


def test_a_provider_that_is_too_slow_is_left(
    provider: Provider, issuer: Issuer, ticks: Ticks
) -> None:
    def slowly(path: str) -> None:
        ticks.now += ANSWER_SECONDS + 1

    provider.answer = slowly
    with pytest.raises(GateError, match=UNREACHABLE):
        issuer.begin("me", BACK)


def test_nobody_there_is_a_refusal(ticks: Ticks) -> None:
    with providing() as provider:
        issuer = Issuer(provider.policy(), ticks=ticks)
    with pytest.raises(GateError, match=UNREACHABLE):
        issuer.begin("me", BACK)


def elsewhere(address: str) -> dict[str, str]:
    return dict.fromkeys(("authorization_endpoint", "token_endpoint", "jwks_uri"), address)


@pytest.mark.parametrize("change", ["name", "slash", "http", "script", "file"])
def test_a_provider_must_name_itself_and_safe_addresses(provider: Provider, change: str) -> None:
    said: dict[str, Callable[[], dict[str, str]]] = {
        "name": lambda: {"issuer": "https://example.org"},
        "slash": lambda: {"issuer": f"{provider.address}/"},
        "http": lambda: {"userinfo_endpoint": "http://example.org/"},
        "script": lambda: elsewhere("javascript:alert(1)"),
        "file": lambda: elsewhere("file:///etc/hostname"),
    }
    provider.discovery = said[change]()
    with pytest.raises(GateError, match=UNREACHABLE):
        Issuer(provider.policy()).begin("me", BACK)


@pytest.mark.parametrize(
    ("address", "safe", "safe_elsewhere"),
    [
        ("https://example.org", True, True),
        ("https://example.org:8443/realm", True, True),
        ("http://127.0.0.1:8080", True, False),
        ("http://[::1]:8080", True, False),
        ("http://localhost:8080", True, False),
        ("http://example.org", False, False),
        ("http://localhost.example.org", False, False),
        ("http://127.0.0.1.example.org", False, False),
        ("http://192.168.1.9", False, False),
        ("https://name@example.org", False, False),
        ("https://example.org/#fragment", False, False),
        ("https://", False, False),
        ("https://[::1", False, False),
        ("ftp://example.org", False, False),
        ("example.org", False, False),
        ("", False, False),
    ],
)
def test_addresses_are_safe_with_https_or_at_this_machine(
    provider: Provider, address: str, safe: bool, safe_elsewhere: bool
) -> None:
    assert is_safe(address) is safe
    assert is_safe(address, here=False) is safe_elsewhere
    if not safe:
        with pytest.raises(BadRequestError, match="must begin with https://"):
            Issuer(provider.policy(url=address))


def test_the_log_says_why_and_quotes_nothing(
    provider: Provider, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    given: list[str] = []

    def spoil(honest: str) -> str:
        given.append(honest)
        return provider.signed({**provider.read(honest), "aud": "another"})

    provider.forge = spoil
    code, state = provider.visit(issuer.begin("me", BACK))
    caplog.clear()
    with pytest.raises(GateError) as refused:
        issuer.finish("me", code, state)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    ours = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("authlib"))
    assert "A login was not accepted: InvalidClaimError." in ours
    for secret in (code, state, given[0], "somebody", "Nobody", "1970", provider.forms[0]["code"]):
        assert secret not in ours


def test_the_secret_is_not_shown_with_the_policy(provider: Provider) -> None:
    assert provider.policy().client_secret not in repr(provider.policy())


def test_nothing_of_a_person_is_kept(provider: Provider, issuer: Issuer) -> None:
    assert log_in(provider, issuer) == 2
    kept = repr(_all_of(issuer))
    for known in ("somebody", "Nobody", "1970-01-01"):
        assert known not in kept


def _all_of(thing: object, depth: int = 6) -> object:
    """Everything that can be reached from a thing through its own attributes."""
    if depth == 0 or not hasattr(thing, "__dict__"):
        return thing
    return {name: _all_of(value, depth - 1) for name, value in vars(thing).items()}
