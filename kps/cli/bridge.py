"""The command ``kps bridge mqtt``."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeVar

from kps.cli import readers
from kps.cli.connecting import ConnectOptions, client_options, level_option, log_format_option
from kps.cli.declaring import Command, Heading, option, several
from kps.errors import InvalidArgument
from kps.io_asyncio.loop import call
from kps.io_common.tls import client_context
from kps.mqtt.bridge import Bridge
from kps.mqtt.core.rules import InRule, OutRule, read_rule
from kps.mqtt.core.settings import DEFAULT_BROKER, DEFAULT_ID, Settings

R = TypeVar("R", InRule, OutRule)

_BROKER = Heading("broker", "Files are PEM, and need an address mqtts://...")


def _rule(kind: type[R], table: dict[str, object]) -> R:
    try:
        return read_rule(kind, table, [each.name for each in fields(BridgeOptions)])
    except InvalidArgument as error:
        raise readers.BadValue(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class BridgeOptions(ConnectOptions):
    """What ``kps bridge mqtt`` takes. Some of it is in files only; ``Settings`` documents that."""

    config: str | None = option(
        "FILE",
        "TOML file with all options and rules; also from KPS_MQTT_CONFIG; see docs/mqtt.md",
        read=readers.file,
        default=None,
        variable="KPS_MQTT_CONFIG",
        ignores_empty=True,
        key="",
    )
    ins: Sequence[str | InRule] = several(
        "FILTER",
        "what comes from the broker, as MQTT has it ('sensors/#')",
        read=readers.name,
        read_table=partial(_rule, InRule),
        is_joined=True,
        flag="--in",
        key="in",
    )
    outs: Sequence[str | OutRule] = several(
        "PATTERN",
        "what goes to the broker, as KPS has it ('commands/**')",
        read=readers.name,
        read_table=partial(_rule, OutRule),
        is_joined=True,
        flag="--out",
        key="out",
    )
    qos: int = option(
        "", "of these rules: at most once, or at least once", read=int, choices=("0", "1"),
        default=1, key="",
    )  # fmt: skip
    id: str = option(
        "NAME", "name of the bridge, on both sides", read=readers.text, default=DEFAULT_ID
    )
    figures_topic: str = option("TOPIC", "publish the figures", read=readers.text, default="")
    figures_every: float = option("S", "seconds between them", read=readers.seconds, default=60.0)

    broker: str = option(
        "URL",
        "mqtt://[USER:PASSWORD@]HOST[:PORT], or mqtts://; also from KPS_MQTT_BROKER, KPS_MQTT_USER "
        "and KPS_MQTT_PASSWORD",
        read=readers.name,
        default=DEFAULT_BROKER,
        heading=_BROKER,
        variable="KPS_MQTT_BROKER",
        is_secret=True,
    )
    user: str | None = option(
        "", "", read=readers.text, default=None, variable="KPS_MQTT_USER", has_flag=False
    )
    password: str | None = option(
        "",
        "",
        read=readers.text,
        default=None,
        variable="KPS_MQTT_PASSWORD",
        has_flag=False,
        is_secret=True,
    )
    mqtt_version: str = option(
        "",
        "of the protocol",
        read=readers.text,
        choices=("auto", "5", "3.1.1"),
        default="auto",
        heading=_BROKER,
    )
    broker_ca: str | None = option(
        "FILE",
        "authorities to trust for the broker, not the system's",
        read=readers.file,
        default=None,
        heading=_BROKER,
    )
    broker_cert: str | None = option(
        "FILE",
        "certificate to show to the broker",
        read=readers.file,
        default=None,
        heading=_BROKER,
    )
    broker_key: str | None = option(
        "FILE",
        "its private key",
        read=readers.file,
        default=None,
        heading=_BROKER,
        needs="broker_cert",
    )

    session_expiry: int = option(
        "", "", read=readers.whole, default=Settings.session_expiry, has_flag=False
    )
    window: int = option("", "", read=readers.whole, default=Settings.window, has_flag=False)
    max_packet: int = option(
        "", "", read=readers.whole, default=Settings.max_packet, has_flag=False
    )
    max_topic: int = option("", "", read=readers.whole, default=Settings.max_topic, has_flag=False)
    max_bridges: int = option(
        "", "", read=readers.whole, default=Settings.max_bridges, has_flag=False
    )
    grace: float = option("", "", read=readers.seconds, default=Settings.grace, has_flag=False)

    log_level: str = level_option("info")
    log_format: str = log_format_option()

    def settings(self) -> Settings:
        """Return the settings of the bridge. Raises :class:`kps.InvalidArgument`."""
        return Settings(
            ins=tuple(
                InRule(filter=each, qos=self.qos) if isinstance(each, str) else each
                for each in self.ins
            ),
            outs=tuple(
                OutRule(pattern=each, qos=self.qos) if isinstance(each, str) else each
                for each in self.outs
            ),
            **{
                each.name: getattr(self, each.name)
                for each in fields(Settings)
                if each.name not in ("ins", "outs")
            },
        )


def bridge(options: BridgeOptions) -> int:
    """Carry messages until SIGINT or SIGTERM."""
    call(_run, options.settings(), options)
    return 0


async def _run(settings: Settings, options: BridgeOptions) -> None:
    await Bridge(
        settings, options.address, _tls(settings, options), **client_options(options)
    ).run()


def _tls(settings: Settings, options: BridgeOptions) -> ssl.SSLContext | None:
    files = options.broker_ca, options.broker_cert, options.broker_key
    if not any(files):
        return None
    if not settings.address.is_secure:
        raise InvalidArgument("there is no TLS with mqtt://; the broker's address is mqtts://...")
    return client_context(*files)


COMMAND = Command(
    "kps bridge mqtt",
    BridgeOptions,
    bridge,
    about=[
        "The command line overrides variables, and these the file. Rules of the command line and "
        "of the file count together."
    ],
    examples=[
        ("kps bridge mqtt --in 'sensors/#' --out 'commands/**'", "with a broker on this machine"),
        ("kps bridge mqtt --config bridge.toml", "rules with topics that get other names"),
    ],
)
