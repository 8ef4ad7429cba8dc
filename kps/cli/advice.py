"""What to do about an error, in the words of the command line."""

from kps.cli.sources import Settled, Strength
from kps.errors import ConnectFailed, KPSError, ServerError
from kps.protocol.dialect.address import DEFAULT_PATH

# How errors about an address begin.
_ABOUT_ADDRESS = ("not a server address", "a server listens on", "cannot listen on",
                  "cannot connect to", "there is no TLS with")  # fmt: skip

_WANTS_TOKEN = " (set KPS_TOKEN, or give --token)"

# What TLS says about a certificate whose authority is not known.
_UNTRUSTED = ("unable to get local issuer", "self-signed certificate", "self signed certificate")


def advice(error: KPSError, settled: Settled) -> str:
    """Return what to say behind an error: where its cause is from, and what may help."""
    reason = str(error)
    if reason.endswith("a token is needed"):  # as the protocol has it (spec, 13.2)
        return _WANTS_TOKEN
    if isinstance(error, ConnectFailed):
        if error.status == 401:
            token = settled.values.get("token")
            if token is None:
                return _WANTS_TOKEN
            return f" (the token, from {token.origin}, is not valid there)"
        if reason.endswith("connection lost"):
            return f" ({_about_tls(settled)})"
        if any(text in reason for text in _UNTRUSTED):
            return " (--tls-ca names a file with the authorities to trust)"
        if error.status == 404:
            return f" (there is no bus at this path; the usual one is {DEFAULT_PATH})"
        if reason.endswith("connection refused") and "address" not in settled.values:
            return " (kps serve starts a server; --address names another one)"
    if reason.endswith("may not use this id"):  # as the protocol has it (spec, 13.4)
        return " (--id names one that the identity may use)"
    if isinstance(error, ServerError):
        return about_topic(error)
    address = settled.values.get("address")
    is_from_variable = address is not None and address.strength is Strength.VARIABLE
    if is_from_variable and reason.startswith(_ABOUT_ADDRESS):
        return " (the address is from the variable KPS_ADDRESS)"
    return ""


def about_topic(error: ServerError) -> str:
    """Return what to say behind a refusal, which says "this topic"; empty if it is about none."""
    return f" (the topic {error.topic!r})" if error.topic else ""


def _about_tls(settled: Settled) -> str:
    """Return what may be missing if a server hangs up in place of an answer."""
    values = settled.values
    address = str(values["address"].value) if "address" in values else ""
    has_files = any(name in values for name in ("tls_ca", "tls_cert", "tls_key"))
    if not has_files and not address.startswith(("wss:", "https:")):
        return "if it speaks TLS, its address begins with wss://"
    return "it may want a certificate of this client: --tls-cert"
