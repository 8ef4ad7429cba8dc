"""Why there is no connection to a broker, in words."""

import re
import ssl

import pytest

from kps.mqtt.failures import in_words

RESET = ConnectionResetError(104, "reset")


@pytest.mark.parametrize(
    ("error", "options", "text"),
    [
        (None, {"is_early": False}, "^the connection is lost$"),
        (RESET, {"is_early": False}, "^connection reset by peer$"),
        (ConnectionRefusedError(111, "no"), {}, "^connection refused$"),
        (TimeoutError(), {}, "^no answer in time$"),
        (None, {}, "address begins with mqtts://, and for a broker that knows only MQTT 3.1.1"),
        (RESET, {}, "with TLS the broker's address begins with mqtts://"),
        (None, {"is_secure": True}, "before it has answered; for a broker that knows only"),
        (RESET, {"is_secure": True}, "Without TLS the broker's address begins with mqtt://"),
        (OSError(113, "no route to host"), {}, "^no route to host$"),
    ],
)
def test_words(error: Exception | None, options: dict[str, bool], text: str) -> None:
    assert re.search(text, in_words(error, **{"is_secure": False, **options}))


def test_a_certificate_that_the_broker_wants() -> None:
    error = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert "broker_cert" in in_words(error, is_secure=True)
