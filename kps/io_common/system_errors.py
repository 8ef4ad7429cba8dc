"""The operating system's network errors in a few words, for both drivers."""

import contextlib
import errno
import os
import re
import sys

from kps.errors import KPSError

# uvloop raises these without a number.
_NUMBERS: dict[type[BaseException], int] = {
    BrokenPipeError: errno.EPIPE,
    ConnectionAbortedError: errno.ECONNABORTED,
    ConnectionRefusedError: errno.ECONNREFUSED,
    ConnectionResetError: errno.ECONNRESET,
}


def describe(error: BaseException) -> str:
    """Return an error's text without the addresses and numbers that event loops add.

    It never raises, whatever the error is, and the text can be written in UTF-8.
    """
    try:
        return _describe(error).encode("utf-8", "backslashreplace").decode()
    except BaseException:  # of the error's own ``__str__``
        return type(error).__name__


def describe_file(error: BaseException, path: object) -> str:
    """Return an error of a file in words; if a relative path is not there, with its directory."""
    text = describe(error)
    if isinstance(error, FileNotFoundError) and not os.path.isabs(str(path)):
        with contextlib.suppress(OSError):  # the directory may be gone, too
            text += f" (in {os.getcwd()})"
    return text


def _describe(error: BaseException) -> str:
    if isinstance(error, KPSError):
        return str(error)
    tls = sys.modules.get("ssl")  # who has never imported it gets no error of it
    if tls is not None and isinstance(error, tls.SSLError):
        return _of_tls(error.reason or str(error), getattr(error, "verify_message", ""))
    number = getattr(error, "errno", None) or _NUMBERS.get(type(error))
    if number is None:  # asyncio tried several addresses, and joined their errors into one text
        numbers = re.findall(r"\[Errno (\d+)\]", str(error))
        number = int(numbers[0]) if numbers else None
    if number is not None and number > 0:
        return os.strerror(number).lower()
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error) or type(error).__name__).lower()


def _of_tls(reason: str, failed_check: str) -> str:
    """Put an error of TLS into words: which check of a certificate has failed, if one has."""
    if failed_check:
        is_a_name = failed_check[:2].isupper()  # as in "IP address mismatch"
        first = failed_check[:1] if is_a_name else failed_check[:1].lower()
        return f"certificate verify failed: {first}{failed_check[1:].removesuffix('.')}"
    if reason == "WRONG_VERSION_NUMBER":
        return "the other end does not speak TLS"
    return reason.lower().replace("_", " ")
