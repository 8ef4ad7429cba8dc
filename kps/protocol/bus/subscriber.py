"""Who is subscribed to topics, as the bus sees it."""

from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

from kps.protocol.bus.publication import Encoding, Publication
from kps.protocol.patterns import Key


class Stage(Enum):
    """The stage of a subscription.

    A subscriber first asks for it; it takes effect later, because a wait may come between::

        (none) --ask--> ASKED --subscribe--> LIVE --unsubscribe--> (none)
                        ASKED --unsubscribe--> (none)
    """

    ASKED = auto()
    """The subscriber asked for it, and gets nothing yet."""
    LIVE = auto()
    """The subscriber gets every publication."""


class Departure(NamedTuple):
    """Why a subscription ends."""

    reason: str
    may_return: bool
    """Whether the subscriber did not say that it leaves, and may come back."""


UNSUBSCRIBED = Departure("unsubscribed", False)
CLOSED = Departure("closed", False)
AWAY = Departure("closed", True)
LOST = Departure("lost", True)
REPLACED = Departure("replaced", True)


class Subscriber(Protocol):
    """A client, or the server's own program."""

    id: str
    departure: Departure
    """Why a subscription of it ends now, if one does."""
    answers: bool
    """Whether it can answer an ack request; if not, it gets the message and is not asked."""
    topics: dict[Key, Stage]
    """Its subscriptions and their stages, which the bus maintains."""

    @property
    def encoding(self) -> Encoding[Any]:
        """The form in which it takes publications."""

    def deliver(self, publication: Publication) -> bool:
        """Take a publication; tell whether its last message had room.

        An overflow may remove subscribers from the bus during the call.
        """
