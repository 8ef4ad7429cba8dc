"""The settings of a bridge, as they stand in its file."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from kps.errors import InvalidArgument
from kps.mqtt.core.carrying import Place
from kps.mqtt.core.fields import LONGEST_TEXT
from kps.mqtt.core.packets import V3, V5
from kps.mqtt.core.rules import InRule, OutRule, check_together, loop_among, read_rule
from kps.mqtt.core.session import SessionConfig
from kps.protocol.bus.given import has_controls
from kps.protocol.limits import check_seconds, shown
from kps.protocol.patterns import HIDDEN

DEFAULT_BROKER = "mqtt://localhost:1883"
DEFAULT_ID = "mqtt-bridge"

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_VERSIONS = {"auto": None, "5": V5, "3.1.1": V3}
_LEAST_PACKET = 1024
_MOST_WINDOW = 10_000
_LONGEST_EXPIRY = 0xFFFF_FFFE


class Broker(NamedTuple):
    """Where the broker is."""

    host: str
    port: int
    is_secure: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.is_secure else 'mqtt'}://{host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a bridge does. Times in seconds, sizes in bytes.

    Raises :class:`kps.InvalidArgument`.
    """

    broker: str = DEFAULT_BROKER
    """``mqtt://`` or ``mqtts://``, with ``user:password@`` or without."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    id: str = DEFAULT_ID
    """The name of the bridge, on the bus and at the broker. No other client there has it."""
    mqtt_version: str = "auto"
    """``auto``: 5, and 3.1.1 if the broker does not know that."""
    session_expiry: int = 86_400
    """How long the broker keeps what comes with QoS 1 while the bridge is away; 0: not at all."""
    window: int = 100
    """Messages with QoS 1 that are under way at a time, each way."""
    max_packet: int = 4 * 1024 * 1024
    """The largest packet of the broker that passes."""
    max_topic: int = 256
    """Characters of a topic that the bus takes: ``max_topic`` of its server."""
    max_bridges: int = 4
    """Bridges that a message may pass."""
    figures_topic: str = ""
    """Where the figures are published; empty: nowhere."""
    figures_every: float = 60.0
    """Seconds between two of them, in the log too."""
    grace: float = 5.0
    """Seconds for what is under way at the end."""
    ins: tuple[InRule, ...] = ()
    outs: tuple[OutRule, ...] = ()

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            is_optional = each.type == str | None
            if not isinstance(value, str) and (
                each.type is str or (is_optional and value is not None)
            ):
                raise InvalidArgument(f"{each.name} is a text, not {shown(value)}")
            if each.type is float:
                check_seconds(each.name, value)
        if self.mqtt_version not in _VERSIONS:
            raise InvalidArgument(f"mqtt_version is one of {', '.join(_VERSIONS)}")
        _check_number("session_expiry", self.session_expiry, 0, _LONGEST_EXPIRY)
        _check_number("window", self.window, 1, _MOST_WINDOW)
        _check_number("max_packet", self.max_packet, _LEAST_PACKET, 2**28)
        _check_number("max_topic", self.max_topic, 1, 65_536)
        _check_number("max_bridges", self.max_bridges, 1, 100)
        if not self.id:
            raise InvalidArgument("id is a text that is not empty")
        config = self.session
        for name, text in (("id", self.id), ("user", config.user), ("password", config.password)):
            _check_text(name, text or "")
        if self.version == V3 and config.password is not None and config.user is None:
            raise InvalidArgument("in MQTT 3.1.1 there is no password without a user")
        if has_controls(self.figures_topic) or self.figures_topic.startswith(HIDDEN):
            raise InvalidArgument("figures_topic is a topic that programs may publish on")
        check_together(self.ins, self.outs)
        if self.version == V3:
            self.check_loops()

    @classmethod
    def read(cls, values: Mapping[str, Any], others: Collection[str] = ()) -> "Settings":
        """Read them from a file's tables. ``others`` are options that the file has beside them."""
        found = dict(values)
        options = {each.name for each in fields(cls)} - {"ins", "outs"}
        for name in sorted(found.keys() - options - {"in", "out"}):
            raise InvalidArgument(f"a bridge has no option {shown(name)}")
        options |= set(others)
        ins = tuple(read_rule(InRule, one, options) for one in _tables("in", found.pop("in", [])))
        outs = tuple(
            read_rule(OutRule, one, options) for one in _tables("out", found.pop("out", []))
        )
        return cls(**found, ins=ins, outs=outs)

    def check_loops(self) -> None:
        """Refuse rules by which messages would come back on MQTT 3.1.1, without end."""
        if loop := loop_among(self.ins, self.outs):
            text = "by the rules %s messages come back from a broker of MQTT 3.1.1"
            raise InvalidArgument(text % loop)

    @property
    def version(self) -> int | None:
        """The version of MQTT; ``None`` for ``auto``."""
        return _VERSIONS[self.mqtt_version]

    @property
    def address(self) -> Broker:
        """Where the broker is."""
        return self._login()[0]

    @property
    def place(self) -> Place:
        """What the mapping of messages needs."""
        return Place(self.id, self.max_topic, self.max_bridges)

    @property
    def session(self) -> SessionConfig:
        """How to connect to the broker."""
        _, user, password = self._login()
        return SessionConfig(
            client_id=self.id,
            version=self.version or V5,
            user=self.user if self.user is not None else user,
            password=self.password if self.password is not None else password,
            expiry=self.session_expiry,
            window=self.window,
            max_packet=self.max_packet,
        )

    def _login(self) -> tuple[Broker, str | None, str | None]:
        try:
            parts = urlsplit(self.broker)
            host, port = parts.hostname, parts.port
            host = host and host.encode("idna").decode()  # as connecting will do
        except ValueError:
            host = port = None
            parts = urlsplit("")
        is_more = parts.path not in ("", "/") or parts.query or parts.fragment
        if parts.scheme not in _PORTS or not host or port == 0 or is_more:
            # Without the address itself, which may have a password.
            raise InvalidArgument(
                "broker is like mqtt://localhost:1883 or mqtts://user:password@broker.example, "
                "with @ / : # ? % of a password as %40 %2F %3A %23 %3F %25"
            )
        broker = Broker(host, port or _PORTS[parts.scheme], parts.scheme == "mqtts")
        user, password = (
            None if one is None else unquote(one) for one in (parts.username, parts.password)
        )
        return broker, user, password


def _check_text(name: str, text: str) -> None:
    """Refuse a text that no packet of MQTT can hold, without showing it."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name} can be written in UTF-8") from None
    if size > LONGEST_TEXT or "\0" in text:
        raise InvalidArgument(f"{name} has at most {LONGEST_TEXT} bytes, and none of them is 0")


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise InvalidArgument(
            f"{name} is a whole number from {least} to {most}, not {shown(value)}"
        )


def _tables(name: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise InvalidArgument(f"rules are written as [[{name}]]")
    return value
