"""What ``publish_with_ack`` returns."""

from collections.abc import AsyncIterator
from typing import Protocol

from kps.compat.unified import UnifiedAck
from kps.io_asyncio.arrival import Arrival
from kps.protocol.bus.message import AckHandle
from kps.protocol.dialect.outcome import AckResponse


class AckKeeper(Protocol):
    """The client or server that an ack request belongs to."""

    async def _ack_status(self, handle: AckHandle) -> dict[str, bool]:
        """Ask who has answered."""

    def _cancel_ack(self, handle: AckHandle) -> None:
        """Stop gathering answers."""


class Ack(UnifiedAck):
    """The answers to one message, as they come (spec, section 6).

    They are gathered from the moment of publishing, whether anybody waits or not. Every
    subscriber that was addressed ends in exactly one :class:`AckResponse`: it handled the
    message, it failed (with its error), it disconnected, or its time was over.
    """

    def __init__(self, keeper: AckKeeper, handle: AckHandle) -> None:
        self._keeper = keeper
        self._handle = handle
        self._arrival = Arrival()

    def __repr__(self) -> str:
        state = "finished" if self._handle.finished else "waiting"
        return f"<Ack {self._handle.id} {state}, {len(self._handle.responses)} responses>"

    @property
    def id(self) -> str:
        """The publisher's id of the request."""
        return self._handle.id

    @property
    def responses(self) -> dict[str, AckResponse]:
        """The outcomes so far, by client id."""
        return dict(self._handle.responses)

    async def wait(self) -> dict[str, AckResponse]:
        """Wait until all have answered or the time is over; return the outcomes by client id.

        The time is the one given when publishing (and one second more, for a server that is
        silent). Empty when nobody was subscribed, or after ``cancel``. May be called twice.
        Raises :class:`kps.ConnectionLost` or :class:`kps.ClientClosed` at once when the
        connection that the request was made on ends.
        """
        await self._until_finished()
        return self.responses

    async def wait_any(self) -> AckResponse | None:
        """Wait for the first outcome; ``None`` when the request ends without one.

        A server on level 1 tells all outcomes together, at the end. Raises as ``wait``.
        """
        while not self._handle.responses and not self._handle.finished:
            await self._arrival.wait()
        if not self._handle.responses:
            await self._until_finished()
        return next(iter(self._handle.responses.values()), None)

    async def status(self) -> dict[str, bool]:
        """Ask the server who was addressed, and who of them has answered.

        Raises :class:`kps.NotConnected`, :class:`kps.ConnectionLost`, or
        :class:`kps.RequestTimeout` when the server does not say.
        """
        if self._handle.finished:
            return self._handle.known_status()
        return await self._keeper._ack_status(self._handle)

    async def is_complete(self) -> bool:
        """Whether everyone who was addressed has answered. Raises as ``status``."""
        if self._handle.finished and self._handle.error is not None:
            return False
        status = await self.status()
        return bool(status) and all(status.values())

    async def cancel(self) -> None:
        """Stop waiting: whoever waits gets what has come so far. May be called twice."""
        self._keeper._cancel_ack(self._handle)

    async def __aiter__(self) -> AsyncIterator[AckResponse]:
        """Yield outcomes as they come, until the request ends. Raises as ``wait``."""
        given = 0
        while True:
            responses = list(self._handle.responses.values())
            for response in responses[given:]:
                yield response
            given = len(responses)
            if len(self._handle.responses) > given:
                continue
            if self._handle.finished:
                await self._until_finished()
                return
            await self._arrival.wait()

    def _changed(self) -> None:
        self._arrival.announce()

    async def _until_finished(self) -> None:
        while not self._handle.finished:
            await self._arrival.wait()
        if self._handle.error is not None:
            raise self._handle.error
