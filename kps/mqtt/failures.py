"""Why there is no connection to a broker, in words that say where to look."""

import ssl

from kps.io_common.system_errors import describe

_NO_TLS = "is that a port with TLS? Without TLS the broker's address begins with mqtt://"
_TLS = "with TLS the broker's address begins with mqtts://"
_OLD = "for a broker that knows only MQTT 3.1.1 set mqtt_version"


def in_words(error: BaseException | None, *, is_secure: bool, is_early: bool = True) -> str:
    """Return why a connection has failed or ended; ``None``: the broker has closed it.

    ``is_secure``: whether it has TLS. ``is_early``: whether the broker had not answered yet.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    text = "the connection is lost" if error is None else describe(error)
    if "certificate required" in text:
        return "it wants to see a certificate: name broker_cert and broker_key"
    if not is_early or not (error is None or isinstance(error, ssl.SSLError | ConnectionError)):
        return text
    if isinstance(error, ConnectionRefusedError):
        return text
    if error is not None and is_secure:
        return f"{text}; {_NO_TLS}"
    return f"{text} before it has answered; {_OLD if is_secure else f'{_TLS}, and {_OLD}'}"
