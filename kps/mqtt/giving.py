"""Gives messages to the bus, and tells what it says in the words of the bridge."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from kps.errors import (
    ClientClosed,
    ConnectionLost,
    InvalidArgument,
    MessageTooLarge,
    NotConnected,
    QueueFull,
    RequestTimeout,
    ServerError,
    Unsupported,
)
from kps.io_asyncio.client import Client
from kps.io_common.logger import write
from kps.mqtt.core.carrying import Inward
from kps.mqtt.core.reasons import BAD_PAYLOAD, FORBIDDEN, NOBODY, SUCCESS, TOO_LARGE
from kps.mqtt.core.refusal import Refusal
from kps.mqtt.core.rules import Choice, InRule
from kps.protocol.dialect.codes import HEADERS, MESSAGE_ID_IN_USE, OUTCOME_UNKNOWN

_AGAIN = 1.0  # seconds until the bus is given again what it has not taken


class Again(Exception):
    """The bus has not taken a message now, and may take it later."""

    def __init__(self, *, is_answered: bool) -> None:
        super().__init__()
        self.is_answered = is_answered
        """Whether the bus has handled this attempt, so that the next one is another message."""


class Giver:
    """The bus, as messages of the broker see it. ``is_ours``: whether we have a topic ourselves."""

    def __init__(self, client: Client, is_ours: Callable[[str], bool]) -> None:
        self._client = client
        self._is_ours = is_ours
        self._has_headers = True
        self._found = asyncio.Event()  # set when the bus is there again
        self._is_late = False  # whether to wait a while before the next attempt
        self.is_held = False
        """Whether it is open what becomes of messages that were given before."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the bus."""
        return self._client.is_connected

    def found(self) -> None:
        """The bus is there again."""
        self._found.set()

    def lost(self) -> None:
        """The connection to the bus has ended."""
        self.is_held = True

    async def publish(self, inward: Inward) -> None:
        """Publish without an answer. Raises :class:`Refusal`."""
        try:
            await self._client.publish(inward.topic, inward.data, headers=self._headers(inward))
        except (NotConnected, ConnectionLost, QueueFull):
            raise Refusal("bus_away", "the bus is away") from None
        except Unsupported as error:
            self._do_without(error)
            await self.publish(inward)
        except InvalidArgument as error:
            raise _invalid(error) from None

    async def give(self, rule: InRule, inward: Inward, name: str) -> int:
        """Give a message once, with the id ``name``; return the code for the broker.

        Raises :class:`Refusal`, :class:`Again`, and :class:`kps.ClientClosed` at the end.
        """
        try:
            if rule.acks:
                return await self._ask(rule, inward, name)
            receipt = await self._client.publish_with_receipt(
                inward.topic, inward.data, headers=self._headers(inward), message_id=name
            )
        except ClientClosed:
            raise
        except (NotConnected, ConnectionLost):
            raise self._unanswered() from None
        except (RequestTimeout, QueueFull):
            raise self._unanswered(is_late=True) from None
        except Unsupported as error:
            self._do_without(error)
            return await self.give(rule, inward, name)
        except ServerError as error:
            if error.is_temporary:
                raise self._unanswered(is_late=True) from None
            raise _refusal_of(error) from None
        except InvalidArgument as error:
            raise _invalid(error) from None
        if receipt is None or receipt - self._is_ours(inward.topic) > 0:
            return SUCCESS
        return _choose(rule.nobody, "nobody", "nobody is subscribed", NOBODY)

    async def until_free(self) -> None:
        """Wait until it is certain of all messages given before whether the bus has taken them.

        The server answers in the order of what it is asked. So when it has answered a question,
        the attempts before have failed, or their messages were sent again in front of it.
        """
        while self.is_held:
            if self._is_late:
                self._is_late = False
                await self.until_again()
            try:
                await self._client.flush()
            except ClientClosed:
                return  # each message is told so when it is given
            except ServerError:
                pass  # an answer, too
            except (NotConnected, ConnectionLost, RequestTimeout, QueueFull):
                self._is_late = True
                continue
            self.is_held = self._is_late

    def _unanswered(self, *, is_late: bool = False) -> Again:
        """Hold what comes behind a message that the bus has not taken."""
        self.is_held = True
        self._is_late = self._is_late or is_late
        return Again(is_answered=False)

    async def until_again(self) -> None:
        """Wait a while before a message is given again: for the bus, if that is away."""
        if self._client.is_connected:
            await asyncio.sleep(_AGAIN)
            return
        self._found.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._found.wait(), _AGAIN)

    async def _ask(self, rule: InRule, inward: Inward, name: str) -> int:
        ack = await self._client.publish_with_ack(
            inward.topic,
            inward.data,
            rule.timeout,
            headers=self._headers(inward),
            message_id=name,
        )
        answers = await ack.wait()
        others = [one for one in answers.values() if one.client_id != self._client.id]
        if not others:
            return _choose(rule.nobody, "nobody", "nobody is subscribed", NOBODY)
        failures = [one for one in others if not one.success]
        if failures:
            text = f"{failures[0].name}: {failures[0].error}"
            return _choose(rule.failed, "failed", text, SUCCESS)
        return SUCCESS

    def _headers(self, inward: Inward) -> Mapping[str, str] | None:
        return inward.headers if self._has_headers else None

    def _do_without(self, error: Unsupported) -> None:
        """Do without what the server of the bus does not have, if that is possible."""
        if error.feature != HEADERS or not self._has_headers:
            raise error
        self._has_headers = False
        text = "the bus has no headers: the names of bridges and user properties do not pass"
        write(logging.WARNING, "headers_left_out", text)


def _choose(choice: Choice, name: str, text: str, code: int) -> int:
    if choice is Choice.AGAIN:
        raise Again(is_answered=True)
    if choice is Choice.REFUSE:
        raise Refusal(name, text)
    return code


def _refusal_of(error: ServerError) -> Refusal | Again:
    if error.code in (MESSAGE_ID_IN_USE, OUTCOME_UNKNOWN):
        return Again(is_answered=True)
    if error.code == "forbidden":
        return Refusal("forbidden", str(error), FORBIDDEN)
    return Refusal("bus_refused", str(error))


def _invalid(error: InvalidArgument) -> Refusal:
    if isinstance(error, MessageTooLarge):
        return Refusal("too_large", str(error), TOO_LARGE)
    return Refusal("bus_refused", str(error), BAD_PAYLOAD)
