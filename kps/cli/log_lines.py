"""The lines of the log on standard error: text, or JSON. Both tell the time with its zone."""

import logging
import time
from typing import Any

import orjson


def log(level: str, *, as_json: bool) -> None:
    """Write the log to standard error from now on, lines of this level and above."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])


class TextLines(logging.Formatter):
    """Lines of text."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Return the time of a line."""
        return iso_time(record.created)


class JsonLines(logging.Formatter):
    """Lines of one JSON object each.

    It has ``time``, ``level``, ``logger``, ``event`` (a name that does not change with the words;
    empty for lines of other libraries), ``message``, ``fields`` (what the message is about, by
    name), and for an error with a traceback ``exception``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a line."""
        fields = record.args if isinstance(record.args, dict) else {}
        line: dict[str, Any] = {
            "time": iso_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", ""),
            "message": record.getMessage(),
            "fields": fields,
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exception"] = record.exc_text
        try:
            return orjson.dumps(line, default=str, option=_OPTIONS).decode()
        except (orjson.JSONEncodeError, UnicodeEncodeError):  # text that UTF-8 does not have
            return orjson.dumps(_visible(line), option=_OPTIONS).decode()


_OPTIONS = orjson.OPT_NON_STR_KEYS


def iso_time(seconds: float) -> str:
    """Return a time since 1970 as ISO 8601 has it, with milliseconds and the local zone."""
    milliseconds = int(seconds * 1000)
    local = time.localtime(milliseconds // 1000)
    zone = time.strftime("%z", local)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", local)
    return f"{moment}.{milliseconds % 1000:03d}{zone[:-2]}:{zone[-2:]}"


def _visible(value: Any) -> Any:
    """Return a value whose texts UTF-8 has."""
    if isinstance(value, dict):
        return {_visible(str(name)): _visible(one) for name, one in value.items()}
    if value is None or isinstance(value, (int, float)):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()
