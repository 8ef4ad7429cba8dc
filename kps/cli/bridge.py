"""The command ``kps bridge mqtt``."""

import argparse
import os
import ssl
import tomllib
from typing import Any

from kps.cli.connecting import client_options
from kps.errors import InvalidArgument
from kps.io_asyncio.loop import call
from kps.io_common.system_errors import describe
from kps.io_common.tls import client_context
from kps.mqtt.bridge import Bridge
from kps.mqtt.core.settings import Settings
from kps.protocol.dialect.address import DEFAULT_ADDRESS

_VARIABLES = {"broker": "KPS_MQTT_BROKER", "user": "KPS_MQTT_USER", "password": "KPS_MQTT_PASSWORD"}
_OF_THE_BUS = ("address", "token", "tls_ca", "tls_cert", "tls_key")
_OF_THE_BROKER = ("broker_ca", "broker_cert", "broker_key")
_OWN = ("broker", "id", "mqtt_version", "figures_topic", "figures_every")


def bridge(options: argparse.Namespace) -> int:
    """Carry messages until SIGINT or SIGTERM."""
    values = _read(options.config) if options.config else {}
    for key in (*_OF_THE_BUS, *_OF_THE_BROKER):
        value = values.pop(key, None)
        if value is not None and not isinstance(value, str):
            raise InvalidArgument(f"{key} is a text")
        setattr(options, key, getattr(options, key) or value)
    options.address = options.address or DEFAULT_ADDRESS
    for key, variable in _VARIABLES.items():
        if variable in os.environ:
            values[key] = os.environ[variable]
    values |= {key: getattr(options, key) for key in _OWN if getattr(options, key) is not None}
    for word, source in (("in", "filter"), ("out", "pattern")):
        given = getattr(options, f"rules_{word}") or []
        rules = values.setdefault(word, [])
        if isinstance(rules, list):
            values[word] = [*rules, *({source: one, "qos": options.qos} for one in given)]
    call(_run, Settings.read(values, (*_OF_THE_BUS, *_OF_THE_BROKER)), options)
    return 0


async def _run(settings: Settings, options: argparse.Namespace) -> None:
    await Bridge(
        settings, options.address, _tls(settings, options), **client_options(options)
    ).run()


def _tls(settings: Settings, options: argparse.Namespace) -> ssl.SSLContext | None:
    files = options.broker_ca, options.broker_cert, options.broker_key
    if not any(files):
        return None
    if not settings.address.is_secure:
        raise InvalidArgument("there is no TLS with mqtt://; the broker's address is mqtts://...")
    if options.broker_key and not options.broker_cert:
        raise InvalidArgument("broker_key needs broker_cert")
    return client_context(*files)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as opened:
            return tomllib.loads(opened.read().decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        why = describe(error) if isinstance(error, OSError) else str(error)
        raise InvalidArgument(f"cannot read {path}: {why}") from None
