"""The interface between a driver and the core: one connection."""

from typing import Protocol

from kps.protocol.wire.websocket import Output


class Endpoint(Protocol):
    """The core's end of one transport: it takes and gives bytes."""

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the transport."""

    def receive_eof(self, now: float, unwritten: int = 0) -> None:
        """Note that the peer will send nothing more, nor read.

        ``unwritten`` is that of ``connection_lost``.
        """

    def connection_lost(self, now: float, unwritten: int = 0) -> None:
        """Note that the transport is gone.

        ``unwritten`` is how many of the bytes that the driver has taken it could not write, as far
        as it knows.
        """

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        """Take up to ``limit`` bytes (or one larger frame) to write; empty if none are pending."""

    @property
    def output(self) -> Output:
        """What to do with the transport once everything is written."""

    @property
    def wants_pause(self) -> bool:
        """Whether the driver should pause reading."""

    def set_reading(self, is_reading: bool, now: float) -> None:
        """Note that the driver paused or resumed reading."""
