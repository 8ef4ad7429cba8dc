"""The command ``kps bridge mqtt``."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kps
import kps.sync
from tests.mqtt.harness import PATIENCE, broker, needs_broker, peer, until_now


def start(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", "-m", "kps", "bridge", "mqtt", *arguments]
    environment = {name: text for name, text in os.environ.items() if name[:4] != "KPS_"}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**environment, **variables}
    )


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for the end; return the exit code, and what it has said."""
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


def wait_for(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"it has not said {text!r}")


@needs_broker
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_carries_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    with (
        broker(tmp_path) as there,
        peer(there.port) as sensor,
        kps.sync.Server("127.0.0.1:0") as here,
    ):
        got: list[kps.Message] = []
        here.subscribe(kps.Pattern("**"), got.append)
        options = ("--in", "sensors/#", "--out", "commands/**", "--qos", "1")
        where = ("--address", here.address, "--broker", there.url, "--log-format", "json")
        process = start(*options, *where)
        wait_for(process, "bridge_ready")
        process.send_signal(signal.SIGHUP)  # which a unit of systemd may send
        wait_for(process, "reload_ignored")
        sensor.subscribe("commands/#")
        sensor.publish("sensors/1", b"20.5")
        until_now(lambda: len(got) == 1)
        ack = here.publish_with_ack("commands/1", "on", timeout=PATIENCE)
        assert ack.wait()["mqtt-bridge"].success
        process.send_signal(number)
        code, errors = end(process)
        lines = [json.loads(line) for line in errors.splitlines()]
        assert code == 0
        (last,) = [line for line in lines if line["event"] == "bridge_ended"]
        assert "in sensors/#: 1 came, 1 passed" in last["message"]
        assert "out commands/**: " in last["message"]


@needs_broker
def test_a_bridge_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    """What it had not acknowledged comes again to the next one with its id."""
    here = kps.sync.Server("127.0.0.1:0")
    with broker(tmp_path) as there, peer(there.port) as sensor, here:
        seen: set[int] = set()
        here.subscribe("s", lambda message: seen.add(message.data))
        options = ("--in", "s", "--address", here.address, "--broker", there.url)
        count = 0
        for _ in range(3):
            process = start(*options)
            wait_for(process, "carries messages")
            for _ in range(500):
                sensor.publish_soon("s", b"%d" % count)
                count += 1
            until_now(lambda begun=count - 500: len(seen) > begun)  # type: ignore[misc]
            process.kill()
            end(process)
        process = start(*options)
        until_now(lambda: seen == set(range(count)))
        process.terminate()
        assert end(process)[0] == 0


@needs_broker
def test_a_file_and_variables(tmp_path: Path) -> None:
    """The file has the rules, the variables have the secrets, and neither are in the log."""
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    subprocess.run(["mosquitto_passwd", "-b", passwords, "bridge", "geheim"], check=True)
    config = tmp_path / "bridge.toml"
    more = f"allow_anonymous false\npassword_file {passwords}"
    with broker(tmp_path, more) as there, kps.sync.Server("127.0.0.1:0") as here:
        config.write_text(
            f'broker = "{there.url}"\naddress = "{here.address}"\nid = "hall"\nuser = "bridge"\n'
            'password = "wrong"\n[[in]]\nfilter = "a/#"\n[[out]]\npattern = "b/**"\nretain = true\n'
        )
        code, errors = end(start("--config", str(config)))
        assert code == 1
        assert errors.endswith("refuses the connection: not authorized\n")
        assert "wrong" not in errors
        process = start(KPS_MQTT_CONFIG=str(config), KPS_MQTT_PASSWORD="geheim")
        wait_for(process, "the bridge hall carries messages: in a/#, out b/**")
        process.terminate()
        code, errors = end(process)
        assert code == 0
        assert "geheim" not in errors
        url = there.url.replace("//", "//bridge:geheim@")
        process = start("--in", "c", "--address", here.address, KPS_MQTT_BROKER=url)
        wait_for(process, "carries messages: in c")
        process.terminate()
        code, errors = end(process)
        assert code == 0
        assert "geheim" not in errors


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "there is nothing to bridge"),
        (("--in", "a#"), "in a filter of MQTT"),
        (("--in", "a/#", "--in", "+/b"), "have topics in common"),
        (("--in", "a", "--out", "a", "--mqtt-version", "3.1.1"), "come back from a broker"),
        (("--in", "a", "--broker", "http://me:secret@b"), "broker is like mqtt://"),
        (("--in", "a", "--broker-ca", "x.pem"), "there is no TLS with mqtt://"),
        (("--in", "a", "--broker", "mqtts://b", "--broker-ca", "no.pem"), "cannot use the auth"),
        (("--config", "missing.toml"), "cannot read missing.toml: no such file"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], text: str) -> None:
    code, errors = end(start(*arguments))
    assert code == 2
    assert text in errors
    assert errors.count("\n") == 1
    assert "secret" not in errors


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("colour = 1", "bridge.toml, line 1: there is no option colour"),
        ("in = 1", "bridge.toml, line 1: in: takes a list"),
        ("\ntoken = 1", "bridge.toml, line 2: token: must be a text (see"),
        ("window = true", "bridge.toml, line 1: window: takes one value, and not True"),
        ("= 1", "cannot read"),
        ('\ufeff[[in]]\nfilter = "a"\nqos = 2', "qos is 0 or 1, not 2"),  # as editors write it
        ('[[in]]\nfilter = "a"\ntoken = "t"', "options of the bridge stand above all rules"),
        (
            '[[in]]\nfilter = "b"\n[[in]]\nfilter = "a"\nqos = 2',
            "line 3: in: the rule [[in]] 'a': qos is 0 or 1, not 2",
        ),
    ],
)
def test_what_no_file_has(tmp_path: Path, content: str, text: str) -> None:
    config = tmp_path / "bridge.toml"
    config.write_text(content)
    code, errors = end(start("--config", str(config)))
    assert code == 2
    assert text in errors


@needs_broker
def test_it_ends_when_another_client_has_its_id(tmp_path: Path) -> None:
    with broker(tmp_path) as there, kps.sync.Server("127.0.0.1:0") as here:
        process = start("--in", "a", "--address", here.address, "--broker", there.url)
        wait_for(process, "carries messages")
        with kps.sync.Client(here.address, id="mqtt-bridge"):
            code, errors = end(process)
        assert code == 1
        assert "another connection took this id" in errors
