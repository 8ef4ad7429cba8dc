"""The log lines of clients and servers about a program's callbacks, in the logger ``kps``.

The threaded driver passes a ``write`` that may be called with its lock held.
"""

import logging

from kps.errors import Refused
from kps.io_common.logger import Write
from kps.io_common.logger import write as write_now
from kps.protocol.bus.mailbox import Mailbox
from kps.protocol.dialect.outcome import in_words


def log_overflow(mailbox: Mailbox, write: Write = write_now) -> None:
    """Log that a subscription began to drop messages."""
    write(
        logging.WARNING,
        "mailbox_full",
        "the program handles %(messages)s too slowly: the mailbox is full and drops messages "
        "(%(dropped)d so far)",
        messages=_messages_of(mailbox.topic),
        dropped=mailbox.dropped,
    )


def report_failure(failure: BaseException, topic: str) -> str:
    """Log a callback's exception, and put it into words for the publisher.

    What callbacks raise to refuse is no failure of the program: peers may cause it at will, so it
    is a line of the debug log, without a traceback.
    """
    messages, words = _messages_of(topic), in_words(failure)
    if issubclass(type(failure), Refused):  # a program's may refuse ``isinstance``
        text = "a callback for %(messages)s refused a message: %(reason)s"
        write_now(logging.DEBUG, "callback_refused", text, messages=messages, reason=words)
    else:
        text = "a callback for %(messages)s failed"
        write_now(logging.ERROR, "callback_failed", text, messages=messages, failure=failure)
    return words


def notice_failed(failure: BaseException, callback: object) -> None:
    """Log the exception of a callback for a notice."""
    text = "a callback failed: %(callback)r"
    write_now(logging.ERROR, "callback_failed", text, callback=callback, failure=failure)


def log_dropped_notice(callback: object, write: Write = write_now) -> None:
    """Log that too many notices are pending for a program."""
    text = "dropped a notice for %(callback)r: it is too slow"
    write(logging.WARNING, "notice_dropped", text, callback=callback)


def _messages_of(topic: str) -> str:
    return f"topic {topic!r}" if topic else "messages without a topic"
