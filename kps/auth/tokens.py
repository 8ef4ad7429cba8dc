"""Identifies clients by a file of tokens."""

import hashlib
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from kps.errors import InvalidArgument, ServerStartFailed
from kps.io_common.logger import write
from kps.io_common.system_errors import describe_file
from kps.io_common.toml import NotTOML, parse
from kps.protocol.access.identity import Identity, Permissions

_SHORTEST = 16  # characters of a token: nobody can guess a random one of that length
_DIGEST = "sha256:"
_DEFAULTS = {field.name: field.default for field in fields(Permissions)}


class TokenFile:
    """Identifies clients by the tokens in a TOML file: an ``auth`` hook for servers.

    ::

        [alice]
        token = "sha256:2bd8…"       # or the token itself, of at least 16 characters
        ids = ["alice", "alice/*"]   # what it may be called; without this, anything
        publish = ["chat/**"]        # any field of kps.Permissions; its default if left out

        [sensor]
        tokens = ["…", "…"]          # several, while a new token replaces an old one

    ``kps token NAME`` makes a token, and the lines for it. Raises
    :class:`kps.ServerStartFailed` for an unusable file. Any thread may call this.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._identities: dict[bytes, Identity] = {}
        self.reload()

    def __call__(self, token: str) -> Identity | None:
        """Return the identity behind a token, or ``None``."""
        # Look up the digest, so that the time taken reveals nothing about other tokens.
        return self._identities.get(_digest(token))

    def reload(self) -> None:
        """Read the file again. If it is unusable, this raises and changes nothing.

        Open connections keep their permissions.
        """
        for apply in self.prepare():
            apply()

    def prepare(self) -> list[Callable[[], None]]:
        """Read the file; return what puts it into force. Raises as ``reload``."""
        try:
            with open(self._path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                identities, are_plain = _read(parse(file.read()))
        except InvalidArgument as error:
            raise ServerStartFailed(f"cannot use the tokens in {self._path}: {error}") from None
        except (OSError, ValueError) as error:  # no path has a zero byte
            reason = describe_file(error, self._path)
            raise ServerStartFailed(f"cannot read the tokens in {self._path}: {reason}") from error
        except NotTOML as error:
            # Show only the place of the error, because the file holds secrets.
            where = re.search(r"\(at [^()]*\)$", str(error))
            place = f" {where.group()}" if where else ""
            text = f"cannot use the tokens in {self._path}: it is not TOML{place}"
            if str(error).startswith(("cannot declare", "cannot overwrite")):
                text = f"cannot use the tokens in {self._path}: it has a name twice{place}"
            raise ServerStartFailed(text) from None
        if are_plain and os.name == "posix" and mode & 0o007:
            text = "all users may read the tokens in %(path)s: run chmod o= on it"
            write(logging.WARNING, "tokens_readable", text, path=self._path)

        def apply() -> None:
            self._identities = identities

        return [apply]


def read_permissions(table: Mapping[str, Any], default: Permissions) -> Permissions:
    """Read permissions from a table of TOML or JSON; ``default`` gives the missing ones.

    Raises :class:`kps.InvalidArgument`, whose text omits the values: they may be secret.
    """
    for name, value in table.items():
        if name not in _DEFAULTS:
            raise InvalidArgument(f"there is no field {name!r}")
        if isinstance(_DEFAULTS[name], bool):
            if not isinstance(value, bool):
                raise InvalidArgument(f"{name} must be true or false")
        elif not _are_texts(value):
            raise InvalidArgument(f"{name} must be a list of patterns")
    return replace(default, **table)


def new_token(name: str) -> tuple[str, str]:
    """Return a new random token, and the lines of a token file that give it to an identity.

    The last of these lines is a comment. Without its ``#`` the identity may use its name as an id
    and ids below it, and no others; but then its clients cannot have random ids. Raises
    :class:`kps.InvalidArgument` for a name that is no text of one line, or has a star, which would
    allow the ids of others.
    """
    if not name or not name.isprintable() or "*" in name:
        raise InvalidArgument(f"not a name for an identity: {name!r}")
    text = json.dumps(name, ensure_ascii=False)
    key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else text
    ids = f"[{text}, {json.dumps(f'{name}/*', ensure_ascii=False)}]"
    token = secrets.token_urlsafe(32)
    return token, f'[{key}]\ntoken = "{_DIGEST}{_digest(token).hex()}"\n# ids = {ids}\n'


def _read(content: Mapping[str, Any]) -> tuple[dict[bytes, Identity], bool]:
    """Return the identities by their tokens' digests, and whether a token is in plain text."""
    identities: dict[bytes, Identity] = {}
    are_plain = False
    if not all(isinstance(table, dict) for table in content.values()):
        raise InvalidArgument("there are lines above the first table")  # do not show them
    for name, table in content.items():
        try:
            if not name:
                raise InvalidArgument("an identity needs a name")
            tokens = _take_tokens(table)
            identity = Identity(name, read_permissions(table, Permissions()))
            for token in tokens:
                digest, is_plain = _read_token(token)
                are_plain = are_plain or is_plain
                other = identities.setdefault(digest, identity)
                if other is not identity:
                    raise InvalidArgument(f"it has a token of {other.name!r}")
        except InvalidArgument as error:
            raise InvalidArgument(f"{name!r}: {error}") from None
    if not identities:  # the file may be half-written; with it nobody could connect
        raise InvalidArgument("there is no identity in it")
    return identities, are_plain


def _take_tokens(table: dict[str, Any]) -> list[str]:
    """Remove and return the tokens of a table, which leaves the permissions."""
    tokens = table.pop("tokens", [])
    if not _are_texts(tokens):
        raise InvalidArgument("tokens must be a list of strings")
    token = table.pop("token", None)
    if token is not None:
        if not isinstance(token, str):
            raise InvalidArgument("token must be a string")
        tokens = [token, *tokens]
    if not tokens:
        raise InvalidArgument("it has no token")
    return list(tokens)


def _read_token(token: str) -> tuple[bytes, bool]:
    """Return the digest of a token in the file, and whether the token is in plain text."""
    if token.startswith(_DIGEST):
        digest = token.removeprefix(_DIGEST)
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise InvalidArgument("sha256: is followed by 64 hexadecimal digits")
        return bytes.fromhex(digest), False
    if len(token) < _SHORTEST:
        raise InvalidArgument(f"a token has fewer than {_SHORTEST} characters")
    if not re.fullmatch(r"[!-~]+", token):
        raise InvalidArgument("a token has characters that no HTTP header can have")
    return _digest(token), True


def _digest(token: str) -> bytes:
    # A client's token may hold lone surrogates, which UTF-8 cannot encode otherwise.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
