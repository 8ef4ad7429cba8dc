"""Who a client is, and what it may do (spec, section 13)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from kps.errors import InvalidArgument
from kps.protocol.limits import LONGEST, shown
from kps.protocol.patterns import Pattern, pattern

EVERYTHING = "**"
"""The pattern that matches everything."""

ALL = (EVERYTHING,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What a client may do. The server refuses anything else with the code ``forbidden``.

    In a pattern ``*`` stands for any characters but ``/``, and ``**`` for any characters, each also
    for none: ``chat/*``, ``chat/**``, ``**/status``; ``**`` alone allows everything. All other
    characters stand for themselves. An empty tuple allows nothing. Raises
    :class:`kps.InvalidArgument` for patterns that are not strings, for empty ones, and for a lone
    ``*``, which once meant everything.
    """

    publish: Sequence[str] = ALL
    """Topics that it may publish to, with and without acknowledgement."""
    subscribe: Sequence[str] = ALL
    """Topics that it may subscribe to; ``console`` decides on the server's own. It may subscribe to
    a pattern if one of these allows all that the pattern has."""
    presence: Sequence[str] = ()
    """Topics of which it may learn who is subscribed (spec, 17). None by default: it tells ids."""
    groups: Sequence[str] = ALL
    """Topics, and patterns, of which it may be a member of groups, if it may subscribe to them. A
    member takes messages away from the others of its group."""
    direct: Sequence[str] = ALL
    """Ids of clients that it may send direct messages to, and the server's id."""
    ids: Sequence[str] = ALL
    """Ids that it may register under."""
    relay: Sequence[str] = ()
    """Other servers that it may send messages to. None by default, because this gives clients a
    way into the server's network. A pattern is ``host:port``, for the path ``/ws/bus`` only unless
    it ends with ``*``; or ``host:port/path``. With ``wss://`` or ``ws://`` before it, it allows
    only connections with TLS, or only those without. The server's ``relay_token`` goes to
    addresses that a pattern names whole, and over TLS to those of a pattern with ``wss://``."""
    peer: bool = False
    """Whether it may act as another server: the senders of its messages then are that server's
    clients (spec, 7.4)."""
    console: bool = False
    """Whether it may see the server's figures, and what it is asked about itself (spec, 12.8)."""
    disconnect: Sequence[str] = ()
    """Ids of clients that it may disconnect (spec, 12.8). None by default, also for anonymous
    clients."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in _SWITCHES:
                if not isinstance(value, bool):
                    raise InvalidArgument(f"{each.name} is true or false, not {shown(value)}")
            elif not isinstance(value, (list, tuple)) or not all(type(one) is str for one in value):
                raise InvalidArgument(f"{each.name} takes a list of patterns, not {shown(value)}")
            elif "" in value:
                raise InvalidArgument(f"{each.name}: a pattern is not empty")
            elif "*" in value:
                raise InvalidArgument(
                    f"{each.name}: the pattern that allows everything is '**'; '*' stands for any "
                    "characters but '/'"
                )
            else:
                object.__setattr__(self, each.name, tuple(value))
        for target in self.relay:
            if "://" in target and not target.startswith(("ws://", "wss://")):
                raise InvalidArgument(
                    f"relay takes host:port, ws://… or wss://…, not {shown(target)}"
                )

    @classmethod
    def open(
        cls,
        *,
        publish: Sequence[str] = ALL,
        subscribe: Sequence[str] = ALL,
        presence: Sequence[str] = ALL,
        groups: Sequence[str] = ALL,
        direct: Sequence[str] = ALL,
        ids: Sequence[str] = ALL,
        relay: Sequence[str] = (),
        peer: bool = True,
        console: bool = True,
        disconnect: Sequence[str] = (),
    ) -> "Permissions":
        """Return the permissions that anonymous clients have by default, with some changes.

        ``Permissions.open(relay=["bus.example:9313"])`` has ``presence``, ``peer`` and ``console``,
        which ``Permissions(relay=["bus.example:9313"])`` has not.
        """
        return cls(
            publish=publish,
            subscribe=subscribe,
            presence=presence,
            groups=groups,
            direct=direct,
            ids=ids,
            relay=relay,
            peer=peer,
            console=console,
            disconnect=disconnect,
        )


_SWITCHES = ("peer", "console")

OPEN = Permissions.open()
"""Permissions of anonymous clients: everything but relay and disconnect."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is, as far as the server knows.

    Raises :class:`kps.InvalidArgument` for values of other types, and numbers out of range.
    """

    name: str
    """Name of the user, device or program, which owns ids; empty for an anonymous client."""
    permissions: Permissions = Permissions()
    """What it may do."""
    lifetime: float | None = None
    """Seconds until the identity expires, for instance with its token. The server then closes
    the connection with code 4002, at once if this is 0 or less. ``None``: it lasts as long as the
    connection."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InvalidArgument(f"the name of an identity is a text, not {shown(self.name)}")
        if not isinstance(self.permissions, Permissions):
            raise InvalidArgument(
                f"permissions is a kps.Permissions, not {shown(self.permissions)}"
            )
        lifetime = self.lifetime
        if lifetime is None:
            return
        is_number = isinstance(lifetime, int | float) and not isinstance(lifetime, bool)
        if not is_number or not -LONGEST <= lifetime <= LONGEST:
            raise InvalidArgument(
                f"lifetime is a number of seconds, up to {LONGEST:.0f}, not {shown(lifetime)}"
            )

    @property
    def is_over(self) -> bool:
        """Whether it had expired when the hook returned it."""
        return self.lifetime is not None and self.lifetime <= 0


@dataclass(frozen=True, slots=True)
class NoIdentity:
    """A hook's verdict that a token has no identity, with the reason for the log."""

    why: str


def matches(text: str, patterns: Sequence[str]) -> bool:
    """Tell whether a text matches one of several patterns."""
    return EVERYTHING in patterns or any(pattern(one).matches(text) for one in patterns)


def covers(patterns: Sequence[str], asked: Pattern) -> bool:
    """Tell whether one of several patterns matches whatever the pattern ``asked`` matches."""
    return any(pattern(one).covers(asked) for one in patterns)
