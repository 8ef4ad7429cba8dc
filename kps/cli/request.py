"""The command ``kps req``."""

from dataclasses import dataclass
from typing import Any

import orjson

from kps.cli import readers
from kps.cli.complaints import complain
from kps.cli.connecting import client_options
from kps.cli.declaring import Command, option
from kps.cli.sending import SendOptions, addressed, check_message_id, data_of, headers
from kps.cli.streams import Output
from kps.errors import InvalidArgument, NobodyThere, RequestFailed, RequestTimeout
from kps.io_asyncio.ack import Ack
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call
from kps.protocol.dialect.outcome import GroupResponse, has_asked_nobody

NOBODY_THERE = 3
TIMED_OUT = 4
"""Exit codes of requests that got no answer. One that was answered with a failure has 1."""

_NAME = "kps req"
_MOST_NAMED = 3  # of those who have failed


@dataclass(frozen=True, kw_only=True)
class RequestOptions(SendOptions):
    """What ``kps req`` takes."""

    group: str | None = option(
        "NAME", "only the answer of this group of the topic counts", read=readers.name, default=None
    )


def request(options: RequestOptions) -> int:
    """Print the result of a request; return the exit code."""
    addressed(options)
    if options.group is not None and options.to is not None:
        raise InvalidArgument("--group is one of a topic, and --to names a client")
    check_message_id(options)
    return call(_guarded, options)


async def _guarded(options: RequestOptions) -> int:
    output = Output()
    return await output.guard(_ask(options, output))


async def _ask(options: RequestOptions, output: Output) -> int:
    data = data_of(addressed(options).data, options, _NAME)
    async with Client(
        options.address, id=options.id, reconnect=False, **client_options(options)
    ) as client:
        try:
            result = await _result(client, data, options)
        except NobodyThere as error:
            complain(f"{_NAME}: {error}")
            return NOBODY_THERE
        except RequestTimeout as error:
            complain(f"{_NAME}: {error}")
            return TIMED_OUT
        except RequestFailed as error:
            complain(f"{_NAME}: {_told(error)}")
            return 1
    await output.write(orjson.dumps(result))
    await output.finish()
    return 0


async def _result(client: Client, data: Any, options: RequestOptions) -> Any:
    """Return the result of a topic, of a group or of a client."""
    more, message_id = headers(options), options.message_id or ""
    if options.to is not None:
        return await client.request_to_id(
            options.to, data, options.timeout, headers=more, message_id=message_id
        )
    key, retry = options.key or "", options.retry or 0
    if options.group is None:
        return await client.request(
            options.topic,
            data,
            options.timeout,
            key=key,
            retry=retry,
            headers=more,
            message_id=message_id,
        )
    ack = await client.publish_with_ack(
        options.topic,
        data,
        options.timeout,
        expect_groups=[options.group],
        key=key,
        retry=retry,
        headers=more,
        message_id=message_id,
    )
    return await _result_of_group(ack, options.group, options.topic)


async def _result_of_group(ack: Ack[Any], group: str, topic: str) -> Any:
    """Wait for the outcome of a group; return its result. Raises as ``Client.request``."""
    errors: dict[str, str] = {}
    try:
        async for response in ack:
            if not isinstance(response, GroupResponse) or response.group != group:
                continue
            if response.success:
                return response.result
            if not has_asked_nobody(response):
                errors[response.client_id or response.name] = response.error or ""
    finally:
        await ack.cancel()
    target = f"{group} of {topic}"
    if not errors:
        raise NobodyThere(f"nobody takes requests to {target!r}")
    if set(errors.values()) == {"timeout"}:
        raise RequestTimeout(f"no answer to the request to {target!r} in time")
    raise RequestFailed(target, errors)


def _told(error: RequestFailed) -> str:
    """Return who has failed, and why."""
    names = list(error.errors)
    told = [f"{name}: {error.errors[name] or 'no reason'}" for name in names[:_MOST_NAMED]]
    if more := len(names) - len(told):
        told.append(f"and {more} more")
    return f"the request to {error.target!r} failed: {'; '.join(told)}"


COMMAND = Command(
    _NAME,
    RequestOptions,
    request,
    usage=("kps req [options] TOPIC DATA", "kps req [options] --to ID DATA"),
    about=["It prints the first result, as JSON. If there is none, one line says why."],
    examples=[
        ("kps req jobs '{\"add\": [1, 2]}'", "asks the subscribers of a topic"),
        ("kps req jobs '[1, 2]' --group workers --retry 2", "asks a group"),
        ("kps req --to alice '\"are you there?\"'", "asks one client"),
    ],
    exits={
        1: "those who were asked have failed, or something else has gone wrong",
        NOBODY_THERE: "nobody is there",
        TIMED_OUT: "they have not answered in time",
    },
)
