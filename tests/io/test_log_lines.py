"""A server's texts cannot forge lines of a client's log, or of the log of a server that relays."""

import logging
import threading

import pytest

from kps.errors import ConnectFailed
from kps.io_common.client_logs import ClientLog
from kps.protocol.client.events import (
    ClientEvent,
    ConnectAttemptFailed,
    Connected,
    Disconnected,
    Ended,
    ErrorReceived,
)
from kps.protocol.dialect.address import Address
from kps.protocol.wire.websocket import Closed, ClosedBy

FORGED = "x\nWARNING kps: all is lost\x1b[2J\u202e"


@pytest.mark.parametrize(
    "event",
    [
        Connected(FORGED, again=False),
        ConnectAttemptFailed(FORGED, 1.0),
        Disconnected(Closed(1008, FORGED, ClosedBy.PEER), None, 0),
        Ended(ConnectFailed(FORGED)),
        ErrorReceived(FORGED, "bad"),
        ErrorReceived("no", "bad", FORGED, "topic"),
        ErrorReceived("no", "bad", "publish", FORGED),
    ],
)
def test_one_event_is_one_line(event: ClientEvent, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="kps")
    ClientLog(Address.parse("localhost"), FORGED).note(event)
    # Threads that an earlier test has left may log as well.
    (record,) = [one for one in caplog.records if one.thread == threading.get_ident()]
    assert record.getMessage().isprintable()
