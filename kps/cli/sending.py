"""What the commands share that send a message: to whom, and what goes with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kps.cli import readers
from kps.cli.connecting import ClientOptions
from kps.cli.declaring import argument, option, optional, several, switch
from kps.cli.payloads import payload
from kps.errors import InvalidArgument


@dataclass(frozen=True, kw_only=True)
class SendOptions(ClientOptions):
    """What the commands take that send a message. With ``to``, the only place has the data."""

    topic: str = argument("TOPIC", "to whose subscribers it goes", read=readers.text)
    data: str | None = optional("DATA", "JSON, or else a string", read=readers.text)
    to: str | None = option(
        "ID", "to this client, or server; then there is no TOPIC", read=readers.name, default=None
    )
    json: bool = switch("refuse DATA that is not JSON")
    header: Sequence[str] = several(
        "NAME=TEXT", "text that goes with the message, such as traceparent=...", read=readers.header
    )
    message_id: str | None = option(
        "ID",
        "the server handles the message once, if it comes again from the same --id",
        read=readers.text,
        default=None,
        needs="id",
    )
    timeout: float = option("S", "seconds for answers", read=readers.seconds, default=5.0)
    key: str | None = option(
        "KEY",
        "a group gives messages with the same key to the same member",
        read=readers.name,
        default=None,
    )
    retry: int | None = option(
        "N", "how many failures in a group are not final", read=readers.size, default=None
    )


class Addressed(NamedTuple):
    """A message of the command line."""

    topic: str
    """Empty for one to a client."""
    data: str


def addressed(options: SendOptions) -> Addressed:
    """Return the topic and the data. Raises :class:`kps.InvalidArgument`."""
    if options.to is None:
        if options.data is None:
            raise InvalidArgument("the following arguments are required: DATA")
        return Addressed(options.topic, options.data)
    if options.data is not None:
        raise InvalidArgument("a client has no topics: with --to there is only DATA")
    for flag, value in (("--key", options.key), ("--retry", options.retry)):
        if value is not None:
            raise InvalidArgument(f"{flag} is for groups, and --to names a client")
    return Addressed("", options.topic)


def check_message_id(options: SendOptions) -> None:
    """Refuse a message id that could have no effect."""
    if options.message_id == "":
        raise InvalidArgument("--message-id is a text that is not empty")


def headers(options: SendOptions) -> dict[str, str]:
    """Return the headers of the command line."""
    return dict(one.split("=", 1) for one in options.header)


def data_of(text: str, options: SendOptions, command: str) -> Any:
    """Read a payload of a command line. Raises :class:`kps.InvalidArgument`."""
    try:
        return payload(text, command, insist=options.json)
    except InvalidArgument as error:
        raise InvalidArgument(f"DATA is {error}") from None
