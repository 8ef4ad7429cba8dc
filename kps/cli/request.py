"""The command ``kps req``."""

import argparse

import orjson

from kps.cli.complaints import complain
from kps.cli.connecting import client_options
from kps.cli.publish import check_message_id, headers, payload
from kps.cli.streams import Output
from kps.errors import InvalidArgument, NobodyThere, RequestFailed, RequestTimeout
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call

NOBODY_THERE = 3
TIMED_OUT = 4
"""Exit codes of requests that got no answer. One that was answered with a failure has 1."""

_MOST_NAMED = 3  # of those who have failed


def request(options: argparse.Namespace) -> int:
    """Print the result of a request; return the exit code."""
    if options.to is None and options.data is None:
        raise InvalidArgument("the following arguments are required: DATA")
    if options.to is not None and options.data is not None:
        raise InvalidArgument("a client has no topics: with --to there is only DATA")
    check_message_id(options)
    return call(_guarded, options)


async def _guarded(options: argparse.Namespace) -> int:
    output = Output()
    return await output.guard(_ask(options, output))


async def _ask(options: argparse.Namespace, output: Output) -> int:
    more, message_id = headers(options), options.message_id or ""
    async with Client(
        options.address, id=options.id, reconnect=False, **client_options(options)
    ) as client:
        try:
            if options.to is None:
                data = payload(options.data)
                result = await client.request(
                    options.topic, data, options.timeout, headers=more, message_id=message_id
                )
            else:
                data = payload(options.topic)  # the only argument
                result = await client.request_to_id(
                    options.to, data, options.timeout, headers=more, message_id=message_id
                )
        except NobodyThere as error:
            complain(f"kps req: {error}")
            return NOBODY_THERE
        except RequestTimeout as error:
            complain(f"kps req: {error}")
            return TIMED_OUT
        except RequestFailed as error:
            complain(f"kps req: {_told(error)}")
            return 1
    await output.write(orjson.dumps(result))
    await output.finish()
    return 0


def _told(error: RequestFailed) -> str:
    """Return who has failed, and why."""
    names = list(error.errors)
    told = [f"{name}: {error.errors[name] or 'no reason'}" for name in names[:_MOST_NAMED]]
    if more := len(names) - len(told):
        told.append(f"and {more} more")
    return f"the request to {error.target!r} failed: {'; '.join(told)}"
