"""The page about MQTT: it begins as it says, its rules can be read, and it leaves out nothing."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import kps.mqtt
import kps.sync
from kps.mqtt.core.rules import InRule, OutRule
from kps.mqtt.core.settings import Settings
from tests.mqtt.harness import PATIENCE, broker, needs_broker, peer, until_now

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "mqtt.md").read_text(encoding="utf-8")
SOURCES = [path.read_text(encoding="utf-8") for path in Path(kps.mqtt.__path__[0]).rglob("*.py")]


@contextmanager
def command(line: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a line of the page until the end of the block."""
    program, *arguments = shlex.split(line)
    assert program == "kps"
    process = subprocess.Popen(
        [sys.executable, "-m", program, *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


@needs_broker
def test_a_sensor_on_the_bus_in_five_minutes(tmp_path: Path) -> None:
    section = PAGE.partition("## A sensor")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    _, bridge, listener = blocks[0].splitlines()
    *_, topic, _, payload = shlex.split(blocks[1])  # mosquitto_pub … -t TOPIC -m PAYLOAD
    heard, acked = re.findall(r"prints `([^`…]*)…?[^`…]*`", section)
    with kps.sync.Server("127.0.0.1:0") as server, broker(tmp_path) as there:
        both = {"KPS_ADDRESS": server.address, "KPS_MQTT_BROKER": there.url}
        with command(bridge, **both) as bridging, command(listener, **both) as listening:
            assert bridging.stderr is not None
            assert any("carries messages" in line for line in bridging.stderr)
            until_now(lambda: server.count_subscribers(topic)[2] == 1)
            with peer(there.port) as sensor:
                sensor.publish(topic, payload.encode())
                assert listening.stdout is not None
                assert listening.stdout.readline().startswith(heard)
                sensor.subscribe("commands/#")
                with command(blocks[2], **both) as publishing:
                    assert publishing.communicate(timeout=PATIENCE)[0] == f"{acked}\n"
                until_now(lambda: sensor.payloads() == [b'{"on":true}'])


def test_the_rules_can_be_read() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    settings = Settings.read(tomllib.loads(text))
    for rule in (*settings.ins, *settings.outs):
        for each in fields(rule):
            assert re.search(rf"^{each.name} = ", text, re.M), each.name
            if each.name not in ("filter", "pattern", "strip", "add"):
                assert getattr(rule, each.name) == each.default, each.name
    assert {type(rule) for rule in (*settings.ins, *settings.outs)} == {InRule, OutRule}


def test_all_options_are_told() -> None:
    for each in fields(Settings):
        if each.name not in ("ins", "outs"):
            assert f"`{each.name}`" in PAGE, each.name


def test_all_reasons_are_told() -> None:
    told = set(re.findall(r"`(\w+)`", PAGE.partition("## Figures")[2]))
    names = set()
    for source in SOURCES:
        names |= set(re.findall(r'(?:Refusal|_choose)\(\s*(?:\w+\.\w+, )?"(\w+)"', source))
        names |= set(re.findall(r'(?:TOO_LARGE|NO_ANSWER): "(\w+)"', source))
        names |= set(re.findall(r'not_passed\[\s*"(\w+)"', source))
    assert {"not_json", "nobody", "failed", "queue_full", "left_to_broker"} <= names
    assert names <= told, names - told
