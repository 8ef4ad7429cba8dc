"""The client that asks for an action."""

from typing import Protocol

from kps.protocol.access.identity import Permissions
from kps.protocol.dialect.envelope import Fields, InvalidMessage, TooDeep
from kps.protocol.dialect.texts import HardToFind, find_text, text_of
from kps.protocol.server.delivery import Delivery
from kps.protocol.server.gate import Gate
from kps.protocol.server.ports import Client
from kps.protocol.server.presence import Observer
from kps.protocol.server.replay import Replayed, Replays
from kps.protocol.server.run import Run
from kps.protocol.server.state import ServerState


class Actor(Replayed, Client, Observer, Protocol):
    """The session of the client that asks for an action, as actions see it."""

    number: int
    gate: Gate
    run: Run
    state: ServerState
    delivery: Delivery
    deep: object
    """A part of the message that is being handled, if that is nested too deeply."""
    replays: Replays | None
    """What it gets of the past, if it has asked for something."""
    text: bytes | None
    """The message that is being handled, unless all in it is written as we would write it."""

    @property
    def permissions(self) -> Permissions:
        """The client's permissions."""

    @property
    def owner(self) -> tuple[str, str]:
        """Whose client it is: the name of its identity, or the address of an anonymous one."""

    @property
    def host(self) -> str:
        """The host by which the client reached the server."""

    def is_too_deep(self, payload: object) -> bool:
        """Tell whether a payload in the message is nested too deeply."""

    def reply(self, message: bytes) -> bool:
        """Answer the client."""

    def refuse(self, error: InvalidMessage, request: Fields) -> None:
        """Answer the client with an error that refuses ``request``."""


def text_in(actor: Actor, fields: Fields, name: str) -> bytes:
    """Return the text of a field of the message that is being handled."""
    if actor.deep is None:
        return text_of(actor.text, fields, name)
    if actor.text is None:  # nothing that is so deep is written
        raise TooDeep
    try:
        return find_text(actor.text, name)
    except HardToFind:
        raise TooDeep from None
