"""What things take in memory: the account for the limits in bytes.

The JSON of a thing tells little about its memory: ``{}`` has two bytes, and its object 64. So
what waits is kept as bytes where it may be long, and each thing is charged for the objects
around it, at the constants below. They are upper bounds for CPython of 64 bits;
``tests/protocol/server/test_memory.py`` measures them. Sizes are in bytes.
"""

from typing import Final

ENTRY: Final = 160
"""An entry of a queue: its object, its place, and the head of its bytes."""

MESSAGE: Final = 144
"""A message in a mailbox: its object, its place, and a payload that is a number."""

KEPT: Final = 48
"""Bytes that are kept in a list: their head and their place."""

RESULT: Final = 80
"""The result of an ack besides its JSON: its object, and the head of its bytes."""

ACK_REQUEST: Final = 800
"""A pending ack request: its object, its tables, and its deadline."""

ADDRESSED: Final = 176
"""A receiver of a pending ack request, and its outcome."""

TASK: Final = 1200
"""A message for a group of an ack request, apart from the payload and the names: its object, its
tables, and its outcome."""

OUTCOME: Final = 184
"""The outcome of one receiver, at the publisher: its object, and its place in a table."""

SUBSCRIPTION: Final = 128
"""A subscription to a topic that has other subscribers."""

TOPIC: Final = 448
"""A topic with a subscriber, apart from its name."""

PATTERN: Final = 2560
"""A pattern with a subscriber, apart from its text, of which there are up to four copies."""

ROUTE: Final = 768
"""A topic that was published, of which is known which patterns have it, apart from its name."""

HANDLED: Final = 900
"""A message with an id that the server remembers, apart from the names and the final answer."""

OWNER_OF_HANDLED: Final = 800
"""An identity or address with messages that the server remembers, apart from its name."""

LOG_ENTRY: Final = 320
"""Messages that are kept for later, apart from their payloads and their sender."""

LOG: Final = 768
"""A topic with history, apart from its name and its messages."""

RESERVED_ID: Final = 448
"""An id that an identity owns."""


def compact(written: bytes) -> bytes:
    """Return a copy to be kept: orjson leaves up to 4 KiB of room behind what it has written."""
    return b"%b" % written


def of_answer(error: str | None, result: int) -> int:
    """Return what an answer takes: its error text, or its result of so many bytes of JSON.

    An answer with neither takes nothing: it has been paid for with the request.
    """
    return (of_text(error) if error else 0) + (RESULT + result if result else 0)


def of_text(text: str) -> int:
    """Return what a text takes, once it has been written.

    Python keeps up to four bytes for each character, and besides, once it has been written, as
    much as UTF-8 unless it is ASCII.
    """
    size = text.__sizeof__()
    return size if text.isascii() else size + 4 * len(text)
