"""Tokens, as a client shows them; a server does so as the client of another one."""

from typing import Any

from kps.errors import InvalidArgument


def check_token(token: Any) -> str:
    """Return a token that fits into a header. Raises ``InvalidArgument`` without showing it."""
    if not isinstance(token, str) or not token:
        raise InvalidArgument("a token is a text that is not empty")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgument("a token is ASCII, without spaces and line ends")
    return token
