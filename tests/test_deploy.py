"""The files of ``examples/deploy`` that no proxy reads: the unit and the container."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import kps.sync
from kps.cli.serve import COMMAND
from kps.cli.sources import Settled

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "examples" / "deploy"
PATIENCE = 30.0

analyze = shutil.which("systemd-analyze")


@pytest.mark.skipif(analyze is None, reason="systemd-analyze is not installed here")
def test_the_unit_is_what_systemd_understands(tmp_path: Path) -> None:
    text = (DEPLOY / "kps.service").read_text()
    command = re.search(r"^ExecStart=(\S+) (.*)$", text, re.M)
    assert command is not None
    unit = tmp_path / "kps.service"
    unit.write_text(text.replace(command[1], sys.executable))  # it must be there
    assert analyze is not None
    result = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    about_ours = [line for line in result.stderr.splitlines() if "kps.service" in line]
    assert (result.returncode, about_ours) == (0, [])
    name, *words = shlex.split(command[2])
    assert name == "serve"
    settled = Settled.read(COMMAND, words, {})
    assert settled.values["config"].value == "/etc/kps/kps.toml"


@pytest.mark.pure("it looks at the checkout")
def test_the_container_is_made_of_what_there_is() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "")
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for sources in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.M):
        for source in sources.split():
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored
    entry = re.search(r"^ENTRYPOINT (.*)$", text, re.M)
    variable = re.search(r"^ENV KPS_ADDRESS=(.*)$", text, re.M)
    assert entry is not None
    assert variable is not None
    program, name, *words = json.loads(entry[1])
    assert (program, name) == ("kps", "serve")
    options = Settled.read(COMMAND, words, {"KPS_ADDRESS": variable[1]}).options()
    assert options.address == "0.0.0.0:9313"


def test_the_containers_health_check() -> None:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", "")
    check = re.search(r"^HEALTHCHECK .* CMD (.*)$", text, re.M)
    assert check is not None

    def run(address: str) -> int:
        command = json.loads(check[1].replace("127.0.0.1:9313", address))
        assert address in command[-1]
        return subprocess.run(
            [sys.executable, *command[1:]], capture_output=True, timeout=PATIENCE, check=False
        ).returncode

    with kps.sync.Server("127.0.0.1:0") as server:
        assert run(server.address) == 0
    assert run(server.address) != 0


def test_the_nodes_of_the_compose_file() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    nodes = [name for name in services if re.fullmatch(r"n\d", name)]
    assert len(nodes) == 3
    for name in nodes:
        service = services[name]
        options = Settled.read(COMMAND, service["command"], service["environment"]).options()
        assert options.id == name
        assert options.cluster == "nats://nats:4222"
        assert options.cluster_secret_file == "/run/secrets/cluster"
        assert service["build"]["args"] == {"EXTRAS": "[cluster]"}
    assert "nats" in services


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed here")
def test_the_balancer_of_the_compose_file(tmp_path: Path) -> None:
    configs = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["configs"]
    server = configs["balancer"]["content"].replace("$$", "$")
    server = re.sub(r"\bn\d:", "127.0.0.1:", server)  # names that only Docker knows
    whole = f"events {{}}\nhttp {{\naccess_log off;\n{server}\n}}\n"
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\n{whole}")
    command = [
        "nginx",
        "-t",
        "-e",
        "stderr",
        "-p",
        str(tmp_path),
        "-c",
        str(tmp_path / "nginx.conf"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
