"""The command ``kps token``."""

import sys
from dataclasses import dataclass

from kps.auth.tokens import new_token
from kps.cli import readers
from kps.cli.declaring import Command, argument


@dataclass(frozen=True, kw_only=True)
class TokenOptions:
    """What ``kps token`` takes."""

    name: str = argument("NAME", "name of the identity", read=readers.text)


def make_token(options: TokenOptions) -> int:
    """Print a new token as lines of a token file; show the token itself on standard error."""
    token, lines = new_token(options.name)
    print(lines, end="", flush=True)
    print(f"the token, shown only now: {token}", file=sys.stderr)
    return 0


COMMAND = Command(
    "kps token",
    TokenOptions,
    make_token,
    about=["The output has the digest of the token. The token itself is on standard error."],
    examples=[("kps token alice >> tokens.toml", "adds an identity to a file of tokens")],
)
