"""Identifies clients by JSON Web Tokens (RFC 7519). Needs PyJWT: the extra ``kps[jwt]``."""

import os
import time
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any, Self

from kps.auth.tokens import read_permissions
from kps.errors import InvalidArgument, ServerStartFailed
from kps.io_common.explaining import explain
from kps.io_common.system_errors import describe_file
from kps.protocol.access.identity import Identity, Permissions
from kps.protocol.limits import LONGEST, shown

try:
    import jwt
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
except ModuleNotFoundError:
    _is_installed = False  # ``JWTVerifier()`` raises
else:
    _is_installed = True
    # PyJWT's own errors, and those that it does not catch for hostile tokens.
    _REFUSALS = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)

_ALGORITHMS = ("HS256", "RS256", "ES256")
_SHORTEST_SECRET = 32  # bytes (RFC 7518, 3.2)
_SMALLEST_RSA = 2048  # bits (RFC 7518, 3.3)
_LONGEST = 16 * 1024  # characters of a token, as many as an HTTP head may have by default
_FOREVER = 1e12  # seconds since 1970: a time that never comes
_DEFAULT = Permissions()


class JWTVerifier:
    """Identifies clients by signed tokens: an ``auth`` hook for servers.

    ::

        Server(auth=JWTVerifier.from_file("public.pem", algorithm="ES256"))

    A token must be signed with ``algorithm`` and one of the keys. It must have ``exp`` and
    ``sub``. The server closes the connection at ``exp`` unless the client has shown a newer
    token; ``sub`` is the identity's name. The claim ``kps`` may have the fields of
    :class:`kps.Permissions`. Any thread may call this.

    Args:
        keys: Secrets of at least 32 bytes (HS256), or public keys in PEM; or paths
            (``pathlib.Path``) of files with one, where a newline at the end of a secret does
            not count. Give several while a new key replaces an old one.
        algorithm: ``HS256``, ``RS256`` or ``ES256``. The algorithm that a token names is ignored.
        audience: The text that ``aud`` must be or contain, or several of which one suffices.
            Without it, a token that has ``aud`` is refused.
        issuer: The text that ``iss`` must be, or several of which one suffices.
        leeway: Seconds by which the issuer's clock and this one may differ.
        permissions: The permissions of a client, except for those that its token names.

    Raises :class:`kps.InvalidArgument`, and :class:`kps.ServerStartFailed` for a file that
    cannot be used, or if PyJWT is not installed.
    """

    def __init__(
        self,
        *keys: str | bytes | Path,
        algorithm: str = "HS256",
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 0.0,
        permissions: Permissions = _DEFAULT,
    ) -> None:
        if not _is_installed:
            raise ServerStartFailed("JSON Web Tokens need PyJWT: pip install 'pyjwt[crypto]'")
        if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
            raise InvalidArgument(f"algorithm is one of {', '.join(_ALGORITHMS)}")
        if not keys:
            raise InvalidArgument("a verifier needs a key")
        is_number = isinstance(leeway, int | float) and not isinstance(leeway, bool)
        if not is_number or not 0 <= leeway < _FOREVER:
            raise InvalidArgument(f"leeway is a number of seconds, not {shown(leeway)}")
        if not isinstance(permissions, Permissions):
            text = f"permissions is a kps.Permissions, not {shown(permissions)}"
            raise InvalidArgument(text)
        for option, value in (("audience", audience), ("issuer", issuer)):
            texts = [value] if value is None or isinstance(value, str) else value
            if value is not None and not _are_texts(texts):
                raise InvalidArgument(f"{option} is a text, or several texts, not {shown(value)}")
        self._sources = keys
        self._algorithm = algorithm
        self._audience = audience
        self._issuer = issuer
        self._leeway = leeway
        self._permissions = permissions
        self._keys: list[Any] = []
        self.reload()

    @classmethod
    def from_file(cls, *paths: str | os.PathLike[str], **options: Any) -> Self:
        """Make a verifier with the keys in files, one in each. The options are the same."""
        return cls(*[Path(path) for path in paths], **options)

    def reload(self) -> None:
        """Read the key files again. If one is unusable, this raises and changes nothing."""
        for apply in self.prepare():
            apply()

    def prepare(self) -> list[Callable[[], None]]:
        """Read the key files; return what puts them into force. Raises as ``reload``."""
        keys = [_load(source, self._algorithm) for source in self._sources]

        def apply() -> None:
            self._keys = keys

        return [apply]

    def __call__(self, token: str) -> Identity | None:
        """Return the identity in a token, or ``None`` if it is not valid."""
        try:
            if len(token) > _LONGEST:
                raise _Unfit("the token is too long")
            return self._identity(self._claims(token))
        except _REFUSALS as error:
            explain(_in_words(error))
            return None

    def _claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that one of the keys has signed, and that is in its time."""
        wrong = jwt.InvalidSignatureError()
        for key in self._keys:
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[self._algorithm],
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=self._leeway,
                    options={"require": ["exp", "sub"]},
                )
            except jwt.InvalidSignatureError as error:
                wrong = error  # another key may have signed it
        raise wrong

    def _identity(self, claims: dict[str, Any]) -> Identity:
        name, end = claims["sub"], claims["exp"]
        if not name or type(name) is not str:
            raise _Unfit("sub: not a text")
        if type(end) not in (int, float):  # PyJWT accepts strings as well
            raise _Unfit("exp: not a number")
        permissions = self._permissions
        if self._audience is None and "aud" in claims:  # PyJWT overlooks an empty one
            raise _Unfit("aud: the token is for another audience")
        for claim in ("nbf", "iat"):
            if claim in claims and type(claims[claim]) not in (int, float):
                raise _Unfit(f"{claim}: not a number")
        if "kps" in claims:
            if type(claims["kps"]) is not dict:
                raise _Unfit("kps: not an object")
            try:
                permissions = read_permissions(claims["kps"], permissions)
            except InvalidArgument:
                raise _Unfit("kps: not permissions") from None
        lifetime = min(end, _FOREVER) + self._leeway - time.time()
        return Identity(name, permissions, min(lifetime, LONGEST))


class _Unfit(ValueError):
    """Says what is wrong with a token, in words that are none of its own."""


def _in_words(error: BaseException) -> str:
    """Return what is wrong with a token. PyJWT's own texts may repeat what is in it."""
    if isinstance(error, _Unfit):
        return str(error)
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"{error.claim}: missing"
    time = next((claim for claim in ("exp", "nbf", "iat") if f"({claim})" in str(error)), "")
    if isinstance(error, jwt.ImmatureSignatureError):
        return f"{time or 'nbf'}: the token is not valid yet"
    if time:
        return f"{time}: not a number"
    return _WORDS.get(type(error).__name__, "not a JWT")


_WORDS = {
    "ExpiredSignatureError": "exp: the token has expired",
    "InvalidAlgorithmError": "alg: the token names another algorithm",
    "InvalidAudienceError": "aud: the token is for another audience",
    "InvalidIssuerError": "iss: the token is of another issuer",
    "InvalidJTIError": "jti: not a text",
    "InvalidSignatureError": "signature: none of the keys has made it",
    "InvalidSubjectError": "sub: not a text",
}
"""What errors of PyJWT mean, by their names; any other one means that it cannot be read."""


def _are_texts(values: object) -> bool:
    return isinstance(values, Sequence | Set) and all(
        isinstance(text, str) and text for text in values
    )


def _load(source: str | bytes | Path, algorithm: str) -> Any:
    """Return a key in the form that PyJWT takes. Raises the same as the verifier."""
    if isinstance(source, (str, bytes)):
        return _read_key(source.encode() if isinstance(source, str) else source, algorithm)
    try:
        content = source.read_bytes()
        if algorithm == "HS256":
            content = content.removesuffix(b"\n").removesuffix(b"\r")
        return _read_key(content, algorithm)
    except OSError as error:
        reason = describe_file(error, source)
        raise ServerStartFailed(f"cannot read the key {source}: {reason}") from error
    except InvalidArgument as error:
        raise ServerStartFailed(f"cannot use the key {source}: {error}") from None


def _read_key(content: bytes, algorithm: str) -> Any:
    if algorithm == "HS256":
        if len(content) < _SHORTEST_SECRET:
            raise InvalidArgument(f"a secret for HS256 has at least {_SHORTEST_SECRET} bytes")
        try:
            return jwt.get_algorithm_by_name(algorithm).prepare_key(content)
        except jwt.InvalidKeyError:  # a public key is not secret: anybody could sign with it
            raise InvalidArgument("this is a key of another algorithm, not a secret") from None
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidArgument("it holds no public key in PEM") from None
    if algorithm == "RS256":
        if not isinstance(key, RSAPublicKey) or key.key_size < _SMALLEST_RSA:
            raise InvalidArgument(f"RS256 takes an RSA key of at least {_SMALLEST_RSA} bits")
    elif not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise InvalidArgument("ES256 takes a key on the curve P-256")
    return key
