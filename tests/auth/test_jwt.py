"""Identities from JSON Web Tokens, and attacks on them."""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

import kps
from kps.io_common.explaining import listen_for_explanations

jwt = pytest.importorskip("jwt", reason="PyJWT is not installed")

SECRET, OTHER_SECRET = (
    b"a secret of at least thirty-two bytes",
    b"another secret, just as long as that",
)
HOUR = 3600


def now() -> int:
    return int(time.time())


def claims(**changes: Any) -> dict[str, Any]:
    """Claims that are all right; ``None`` takes one away."""
    made = {"sub": "alice", "exp": now() + HOUR} | changes
    return {name: value for name, value in made.items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    return str(jwt.encode(claims(**changes), key, algorithm))


def b64(data: bytes | dict[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(head: Any, payload: Any, secret: bytes = SECRET) -> str:
    """A token of any head and content with a good HMAC, which no library would make."""
    text = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(payload).encode())}"
    return f"{text}.{b64(hmac.digest(secret, text.encode(), 'sha256'))}"


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def other_rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def ec_key(curve: Callable[[], ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


def public(key: Any) -> bytes:
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert isinstance(pem, bytes)
    return pem


def private(key: Any) -> bytes:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    assert isinstance(pem, bytes)
    return pem


# -- tokens that are good ---------------------------------------------------------------------


def test_what_a_token_says() -> None:
    end = now() + HOUR
    identity = kps.JWTVerifier(SECRET)(token(exp=end))
    assert identity is not None
    assert (identity.name, identity.permissions) == ("alice", kps.Permissions())
    assert identity.lifetime is not None
    assert identity.lifetime == pytest.approx(end - time.time(), abs=60)


@pytest.mark.parametrize("end", [1 << 62, 10**400, 1e300])
def test_an_end_that_never_comes(end: float) -> None:
    identity = kps.JWTVerifier(SECRET)(token(exp=end))
    assert identity is not None
    assert identity.lifetime is not None
    assert identity.lifetime == 1e9


@pytest.mark.parametrize(
    ("algorithm", "key"), [("RS256", rsa_key), ("ES256", ec_key)], ids=["RS256", "ES256"]
)
def test_public_keys(algorithm: str, key: Callable[[], Any], tmp_path: Path) -> None:
    path = tmp_path / "public.pem"
    path.write_bytes(public(key()))
    good = token(key(), algorithm)
    for verifier in (
        kps.JWTVerifier(public(key()), algorithm=algorithm),
        kps.JWTVerifier(public(key()).decode(), algorithm=algorithm),
        kps.JWTVerifier.from_file(path, algorithm=algorithm),
    ):
        assert verifier(good) is not None
        assert verifier(good[:-8] + "AAAAAAAA") is None
        assert verifier(token()) is None


def test_permissions() -> None:
    verifier = kps.JWTVerifier(SECRET)
    identity = verifier(token(kps={"publish": ["chat/*"], "peer": True}))
    assert identity is not None
    assert identity.permissions == kps.Permissions(publish=["chat/*"], peer=True)
    verifier = kps.JWTVerifier(SECRET, permissions=kps.Permissions(publish=[], console=True))
    for claim, permissions in (
        (None, kps.Permissions(publish=[], console=True)),
        ({}, kps.Permissions(publish=[], console=True)),
        ({"ids": ["x"], "console": False}, kps.Permissions(publish=[], ids=["x"])),
        ({"publish": ["**"]}, kps.Permissions(console=True)),
    ):
        identity = verifier(token(kps=claim))
        assert identity is not None
        assert identity.permissions == permissions


@pytest.mark.parametrize(
    "claim",
    [
        {"publsh": []},
        {"publish": "chat"},
        {"publish": [1]},
        {"publish": ["*"]},
        {"subscribe": ["a/**", "*"]},
        {"ids": [""]},
        {"publish": None},
        {"publish": {"a": 1}},
        {"peer": 1},
        {"peer": "true"},
        {"console": None},
        {"__class__": []},
        [],
        "*",
        True,
        0,
    ],
    ids=str,
)
def test_permissions_that_cannot_be_read(claim: Any) -> None:
    assert kps.JWTVerifier(SECRET)(token(kps=claim)) is None


def test_permissions_of_null() -> None:
    assert kps.JWTVerifier(SECRET)(signed({"alg": "HS256"}, claims() | {"kps": None})) is None


def test_several_keys() -> None:
    verifier = kps.JWTVerifier(SECRET, OTHER_SECRET)
    assert verifier(token(SECRET)) is not None
    assert verifier(token(OTHER_SECRET)) is not None
    assert verifier(token(b"a third secret that nobody told us of")) is None
    assert verifier(token(OTHER_SECRET, exp=now() - 1)) is None
    verifier = kps.JWTVerifier(public(rsa_key()), public(other_rsa_key()), algorithm="RS256")
    assert verifier(token(other_rsa_key(), "RS256")) is not None


def test_audience() -> None:
    for mine, theirs, fits in (
        ("bus", "bus", True),
        ("bus", ["shop", "bus"], True),
        (["bus", "kps"], "kps", True),
        ("bus", "shop", False),
        ("bus", ["shop"], False),
        ("bus", "buses", False),
        ("bus", "bu", False),
        ("bus", [], False),
        ("bus", None, False),
        ("bus", 5, False),
        ("bus", {"bus": 1}, False),
        (["bus"], "shop", False),
        ([], "shop", False),
        (None, "shop", False),  # it is for somebody else
        (None, None, True),
    ):
        verifier = kps.JWTVerifier(SECRET, audience=mine)
        assert (verifier(token(aud=theirs)) is not None) is fits, (mine, theirs)


@pytest.mark.parametrize("empty", ["", [], None, 0, False, {}, "x", [""], [None]], ids=repr)
def test_a_token_with_an_audience_is_for_another(empty: Any) -> None:
    """Whatever is in it: who wrote ``aud`` meant somebody."""
    made = signed({"alg": "HS256"}, claims() | {"aud": empty})
    assert kps.JWTVerifier(SECRET)(made) is None
    assert kps.JWTVerifier(SECRET, audience="bus")(made) is None


@pytest.mark.parametrize("option", ["audience", "issuer"])
@pytest.mark.parametrize("value", ["", ["bus", ""], [5], [None]], ids=repr)
def test_options_that_make_no_sense(option: str, value: Any) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(kps.InvalidArgument, match=option):
        kps.JWTVerifier(SECRET, **options)


def test_issuer() -> None:
    for mine, theirs, fits in (
        ("https://id", "https://id", True),
        (["https://id", "https://old"], "https://old", True),
        ("https://id", "https://evil", False),
        ("https://id", "https", False),  # a part of it
        ("https://id", "", False),
        ("https://id", None, False),
        (["https://id"], "https://evil", False),
        (None, "https://any", True),
    ):
        verifier = kps.JWTVerifier(SECRET, issuer=mine)
        assert (verifier(token(iss=theirs)) is not None) is fits, (mine, theirs)
    wrong: list[Any] = [5, ["https://id"], {"https://id": 1}]
    for theirs in wrong:
        made = signed({"alg": "HS256"}, claims() | {"iss": theirs})
        assert kps.JWTVerifier(SECRET, issuer="https://id")(made) is None


def test_times() -> None:
    strict, lenient = kps.JWTVerifier(SECRET), kps.JWTVerifier(SECRET, leeway=2 * HOUR)
    for claim, when in (("exp", now() - 1), ("nbf", now() + HOUR), ("iat", now() + HOUR)):
        made = signed({"alg": "HS256"}, claims(**{claim: when}))
        assert strict(made) is None
        assert lenient(made) is not None
    assert lenient(token(exp=now() - 3 * HOUR)) is None
    assert strict(token(nbf=now() - HOUR, iat=now() - HOUR)) is not None
    identity = lenient(token(exp=now() - HOUR))
    assert identity is not None
    assert identity.lifetime == pytest.approx(HOUR, abs=60)  # until it is refused


# -- tokens that are not ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["exp", "sub"])
def test_claims_that_must_be_there(name: str) -> None:
    assert kps.JWTVerifier(SECRET)(signed({"alg": "HS256"}, claims(**{name: None}))) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": ""},
        {"sub": 5},
        {"sub": ["alice"]},
        {"sub": True},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": []},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": 0},
        {"exp": -1},
        {"nbf": "soon"},
        {"nbf": float("inf")},
        {"iat": {}},
        {"iat": None},
        {"iat": False},
        {"iat": ""},
        {"nbf": None},
        {"nbf": False},
        {"nbf": "0"},
        {"exp": None},
        {"exp": False},
        {"sub": None},
        {"sub": False},
        {"kps": None},
        {"kps": False},
        {"kps": []},
        {"kps": ""},
    ],
    ids=str,
)
def test_claims_of_the_wrong_kind(changes: dict[str, Any]) -> None:
    assert kps.JWTVerifier(SECRET)(signed({"alg": "HS256"}, claims() | changes)) is None


def test_no_signature() -> None:
    """The head says that there is none to look at."""
    for algorithm in ("none", "None", "NONE", "nOnE", "", None):
        text = f"{b64({'alg': algorithm, 'typ': 'JWT'})}.{b64(claims())}"
        for made in (f"{text}.", text, f"{text}.{b64(b'x')}", signed({"alg": algorithm}, claims())):
            for verifier in (
                kps.JWTVerifier(SECRET),
                kps.JWTVerifier(public(rsa_key()), algorithm="RS256"),
                kps.JWTVerifier(public(ec_key()), algorithm="ES256"),
            ):
                assert verifier(made) is None


@pytest.mark.parametrize(
    ("algorithm", "key"), [("RS256", rsa_key), ("ES256", ec_key)], ids=["RS256", "ES256"]
)
def test_a_public_key_is_no_secret(algorithm: str, key: Callable[[], Any]) -> None:
    """Who knows it, as all may, cannot sign with it by HMAC."""
    pem = public(key())
    der = (
        key()
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    verifier = kps.JWTVerifier(pem, algorithm=algorithm)
    for secret in (pem, pem.strip(), der):
        for head in ("HS256", algorithm):
            assert verifier(signed({"alg": head, "typ": "JWT"}, claims(), secret)) is None
    # And the operator's mistake that would make it one.
    for secret in (pem, der, private(key())):
        with pytest.raises(kps.InvalidArgument, match="a key of another algorithm"):
            kps.JWTVerifier(secret)


def test_other_algorithms_of_the_same_family() -> None:
    hs = kps.JWTVerifier(SECRET * 3)
    for algorithm in ("HS384", "HS512"):
        assert hs(token(SECRET * 3, algorithm)) is None
    rs = kps.JWTVerifier(public(rsa_key()), algorithm="RS256")
    for algorithm in ("RS384", "RS512", "PS256"):
        assert rs(token(rsa_key(), algorithm)) is None
    assert rs(token(rsa_key(), "RS256")) is not None
    es = kps.JWTVerifier(public(ec_key()), algorithm="ES256")
    assert es(token(ec_key(ec.SECP384R1), "ES384")) is None


def test_what_the_head_may_ask_for() -> None:
    """Keys that it brings along, places to fetch some from, and ways to read the rest."""
    verifier = kps.JWTVerifier(SECRET)
    harmless: list[dict[str, Any]] = [
        {"jwk": {"kty": "oct", "k": b64(OTHER_SECRET)}},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/keys"},
        {"kid": "../../dev/null"},
    ]
    for extra in harmless:
        assert verifier(signed({"alg": "HS256"} | extra, claims(), OTHER_SECRET)) is None
        assert verifier(signed({"alg": "HS256"} | extra, claims())) is not None
    bad: list[dict[str, Any]] = [
        {"crit": ["unheard-of"], "unheard-of": 1},
        {"crit": "b64"},
        {"crit": [{}]},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"kid": 5},
        {"alg": ["HS256"]},
        {"alg": {}},
        {"alg": 5},
    ]
    for extra in bad:
        assert verifier(signed({"alg": "HS256"} | extra, claims())) is None


def test_a_changed_token() -> None:
    verifier = kps.JWTVerifier(SECRET)
    head, payload, signature = token().split(".")
    assert verifier(f"{head}.{payload}.{signature}") is not None
    for made in (
        f"{head}.{b64(claims(sub='root'))}.{signature}",
        f"{head}.{payload}.",
        f"{head}.{payload}",
        f"{head}..{signature}",
        f".{payload}.{signature}",
        f"{head}.{payload}.{signature}.{signature}",
        f"{head}.{payload}.{signature[:-1]}",
        f" {head}.{payload}.{signature}",
        f"{head}.{payload}.{signature}\n",
        f"{head}. {payload}.{signature}",
        f"Bearer {head}.{payload}.{signature}",
    ):
        assert verifier(made) is None


@pytest.mark.parametrize(
    "made",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "é.é.é",
        "\ud800",
        "\0.\0.\0",
        "null.null.null",
        f"{b64(b'null')}.{b64(b'null')}.",
        f"{b64(b'[]')}.{b64(b'[]')}.",
        f"{b64(b'{')}.{b64(b'}')}.",
        f"{b64(b'[' * 5000)}.a.",
        f"{b64(b'9' * 5000)}.a.",
        "x" * 20_000_000,
        f"{b64({'alg': 'HS256'})}.{'A' * 20_000_000}.x",
    ],
    ids=range(16),
)
def test_garbage(made: str) -> None:
    for verifier in (
        kps.JWTVerifier(SECRET),
        kps.JWTVerifier(public(rsa_key()), algorithm="RS256"),
    ):
        assert verifier(made) is None


def test_a_signed_token_that_is_huge_or_deep() -> None:
    """From an issuer that went mad."""
    verifier = kps.JWTVerifier(SECRET)
    assert verifier(token(more="x" * 11_000)) is not None
    assert verifier(token(more="x" * 20_000)) is None
    for payload in (b"[" * 9000, b'{"a":' * 2000, b'{"exp":' + b"9" * 9000 + b"}", b"\xff"):
        text = f"{b64({'alg': 'HS256'})}.{b64(payload)}"
        signature = b64(hmac.digest(SECRET, text.encode(), hashlib.sha256))
        assert verifier(f"{text}.{signature}") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.text(st.characters(exclude_categories=())) | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*"))
def test_any_text_is_refused(made: str) -> None:
    assert kps.JWTVerifier(SECRET)(made) is None


@given(
    st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "x"]), JSON) | JSON,
    st.dictionaries(st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "jti", "kps"]), JSON)
    | JSON,
    st.booleans(),
)
def test_any_content_is_judged(head: Any, payload: Any, is_named: bool) -> None:
    """With a good signature over it, so that all of it is looked at."""
    verifier = kps.JWTVerifier(SECRET, issuer="i" if is_named else None)
    if isinstance(head, dict):
        head.setdefault("alg", "HS256")
    if isinstance(payload, dict):
        payload.setdefault("exp", now() + HOUR)
        payload.setdefault("sub", "alice")
    identity = verifier(signed(head, payload))
    if identity is not None:
        assert head["alg"] == "HS256"
        assert identity.name == payload["sub"] != ""
        assert payload["exp"] > now() - 60


# -- keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "make", "reason"),
    [
        ("HS256", lambda: b"", "at least 32 bytes"),
        ("HS256", lambda: b"x" * 31, "at least 32 bytes"),
        ("HS256", lambda: json.dumps({"kty": "oct", "k": b64(SECRET)}).encode(), "another algor"),
        ("RS256", lambda: SECRET, "no public key in PEM"),
        ("RS256", lambda: b"", "no public key in PEM"),
        ("RS256", lambda: private(rsa_key()), "no public key in PEM"),
        ("RS256", lambda: public(rsa_key(1024)), "an RSA key of at least 2048 bits"),
        ("RS256", lambda: public(ec_key()), "an RSA key of at least 2048 bits"),
        ("ES256", lambda: public(rsa_key()), "a key on the curve P-256"),
        ("ES256", lambda: public(ec_key(ec.SECP384R1)), "a key on the curve P-256"),
        ("ES256", lambda: public(ed25519.Ed25519PrivateKey.generate()), "the curve P-256"),
        ("ES256", lambda: private(ec_key()), "no public key in PEM"),
    ],
    ids=range(12),
)
def test_bad_keys(algorithm: str, make: Callable[[], bytes], reason: str, tmp_path: Path) -> None:
    key, path = make(), tmp_path / "key"
    with pytest.raises(kps.InvalidArgument, match=reason):
        kps.JWTVerifier(key, algorithm=algorithm)
    path.write_bytes(key)
    with pytest.raises(kps.ServerStartFailed, match=reason) as refusal:
        kps.JWTVerifier.from_file(path, algorithm=algorithm)
    text = str(refusal.value)
    assert text.startswith(f"cannot use the key {path}: ")
    assert "\n" not in text


def test_bad_arguments(tmp_path: Path) -> None:
    make: Callable[..., Any] = kps.JWTVerifier
    for algorithm in ("none", "hs256", "HS512", "", None, ["HS256"]):
        with pytest.raises(kps.InvalidArgument, match="algorithm is one of HS256, RS256, ES256"):
            make(SECRET, algorithm=algorithm)
    with pytest.raises(kps.InvalidArgument, match="a verifier needs a key"):
        make()
    for leeway in (-1, float("inf"), float("nan")):
        with pytest.raises(kps.InvalidArgument, match="leeway is a number of seconds"):
            make(SECRET, leeway=leeway)
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(kps.ServerStartFailed, match=f"cannot read the key {path}: "):
            kps.JWTVerifier.from_file(path)


def test_files_and_reload(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(SECRET + b"\n")
    second.write_bytes(OTHER_SECRET + b"\r\n")
    verifier = kps.JWTVerifier.from_file(first, str(second), audience="bus")
    third = b"a third secret that nobody told us of"
    old, new = token(SECRET, aud="bus"), token(third, aud="bus")
    assert verifier(old) is not None
    assert verifier(token(OTHER_SECRET, aud="bus")) is not None
    assert verifier(token(OTHER_SECRET)) is None

    first.write_bytes(third)
    assert verifier(new) is None  # not before it is told to
    second.write_bytes(b"too short")
    with pytest.raises(kps.ServerStartFailed, match=f"cannot use the key {second}: "):
        verifier.reload()
    assert verifier(old) is not None
    assert verifier(new) is None
    second.unlink()
    with pytest.raises(kps.ServerStartFailed, match=f"cannot read the key {second}: no such"):
        verifier.reload()
    assert verifier(old) is not None

    second.write_bytes(OTHER_SECRET)
    verifier.reload()
    assert verifier(old) is None
    assert verifier(new) is not None
    fixed = kps.JWTVerifier(SECRET)
    fixed.reload()
    assert fixed(token()) is not None


# -- what is told of it -----------------------------------------------------------------------


def reason(made: str, **options: Any) -> str:
    """Why a verifier refuses a token, as the log of a server tells it; empty: it does not."""
    noted = copy_context().run(_noted_by, kps.JWTVerifier(SECRET, **options), made)
    return "; ".join(noted)


def _noted_by(verifier: kps.JWTVerifier, made: str) -> list[str]:
    noted = listen_for_explanations()
    assert (verifier(made) is None) == bool(noted)
    return noted


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"exp": 1}, "exp: the token has expired"),
        ({"exp": None}, "exp: missing"),
        ({"exp": "soon"}, "exp: not a number"),
        ({"exp": "9999999999"}, "exp: not a number"),
        ({"sub": None}, "sub: missing"),
        ({"sub": ""}, "sub: not a text"),
        ({"nbf": 9_999_999_999}, "nbf: the token is not valid yet"),
        ({"nbf": "later"}, "nbf: not a number"),
        ({"nbf": "1"}, "nbf: not a number"),
        ({"iat": 9_999_999_999}, "iat: the token is not valid yet"),
        ({"iat": "x"}, "iat: not a number"),
        ({"aud": "other"}, "aud: the token is for another audience"),
        ({"aud": ""}, "aud: the token is for another audience"),
        ({"jti": 5}, "jti: not a text"),
        ({"kps": 5}, "kps: not an object"),
        ({"kps": {"\nx": 1}}, "kps: not permissions"),
    ],
    ids=str,
)
def test_which_claim_has_failed(changes: dict[str, Any], why: str) -> None:
    assert reason(token(**changes)) == why


def test_which_claim_has_failed_where_more_is_demanded() -> None:
    assert reason(token(), audience="bus") == "aud: missing"
    assert reason(token(aud="x"), audience="bus") == "aud: the token is for another audience"
    assert reason(token(), issuer="me") == "iss: missing"
    assert reason(token(iss="x"), issuer="me") == "iss: the token is of another issuer"


def test_what_else_is_wrong_with_a_token() -> None:
    good = token()
    assert reason(good[:-6] + "AAAAAA") == "signature: none of the keys has made it"
    assert reason(token(OTHER_SECRET)) == "signature: none of the keys has made it"
    assert reason(token("s" * 64, "HS512")) == "alg: the token names another algorithm"
    assert reason(signed({"alg": "HS256", "crit": ["\nERROR mine"]}, claims())) == "not a JWT"
    assert reason("x" * 20_000) == "the token is too long"
    assert reason("secret") == "not a JWT"


@given(st.text(max_size=60) | st.binary(max_size=60).map(b64))
def test_the_reason_never_repeats_a_token(made: str) -> None:
    assert reason(made) == "not a JWT"


def test_without_pyjwt() -> None:
    code = (
        "import sys\n"
        "sys.modules['jwt'] = None\n"
        "import kps\n"
        "try:\n"
        "    kps.JWTVerifier.from_file('nothing')\n"
        "except kps.ServerStartFailed as error:\n"
        "    print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "JSON Web Tokens need PyJWT: pip install 'pyjwt[crypto]'\n"
