"""What a driver sees of the core: the end of one transport."""

from typing import Protocol

from kps.protocol.wire.websocket import Output


class Endpoint(Protocol):
    """Where the bytes of one transport go, and come from: a server session or a client link."""

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the transport."""

    def receive_eof(self, now: float) -> None:
        """Note that the peer will send nothing more."""

    def connection_lost(self, now: float) -> None:
        """Note that the transport is gone."""

    def data_to_send(self, limit: int = 256 * 1024) -> bytes:
        """Take up to ``limit`` bytes (or one larger frame) to write; empty when nothing waits."""

    @property
    def output(self) -> Output:
        """What to do with the transport once all is written."""

    @property
    def wants_pause(self) -> bool:
        """Whether to stop reading for now."""

    def set_reading(self, is_reading: bool, now: float) -> None:
        """Note whether the driver reads, each time that it stops or goes on."""
