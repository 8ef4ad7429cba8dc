"""The files for Docker Compose: what they start, and whether the parts find each other."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.deploy.files import (
    DEPLOY,
    PATIENCE,
    dockerfile,
    options_of,
    succeeds,
    unknown_variables,
)

COMPOSE = DEPLOY / "compose"
FILES = sorted(COMPOSE.glob("*.yaml"))
PORT = 9313

promtool = shutil.which("promtool")


@cache
def compose() -> list[str]:
    """The command that is Docker Compose here, if there is one."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is not None:
            done = subprocess.run([*command, "version", "--short"], capture_output=True, text=True,
                                  timeout=PATIENCE, check=False)  # fmt: skip
            if done.returncode == 0 and re.match(r"v?([2-9]|\d\d)\.", done.stdout):
                return command
    return []


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def services_of(path: Path) -> dict[str, dict[str, Any]]:
    services = read(path)["services"]
    assert isinstance(services, dict)
    return services


def ours_in(path: Path) -> dict[str, dict[str, Any]]:
    """The services of a file that run our image."""
    return {name: service for name, service in services_of(path).items() if "build" in service}


def mounts_of(service: dict[str, Any]) -> dict[str, str]:
    """What is mounted in a service, by where it is then."""
    return {mount.split(":")[1]: mount.split(":")[0] for mount in service.get("volumes", [])}


def test_there_are_three() -> None:
    assert [path.stem for path in FILES] == ["cluster", "monitoring", "server"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestEach:
    @pytest.mark.skipif(not compose(), reason="Docker Compose is not installed here")
    def test_is_what_compose_understands(self, path: Path) -> None:
        whole = json.loads(succeeds(*compose(), "-f", path, "config", "--format", "json"))
        assert set(whole["services"]) == set(services_of(path))

    def test_builds_our_image(self, path: Path) -> None:
        ours = ours_in(path)
        assert ours
        for service in ours.values():
            build = service["build"]
            root = (path.parent / build["context"]).resolve()
            assert (root / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
            for name in build.get("args", {}):
                assert re.search(rf"^ARG {name}\b", dockerfile(), re.M)

    def test_starts_servers_that_take_their_options(self, path: Path) -> None:
        for service in ours_in(path).values():
            environment = {"KPS_ADDRESS": f"0.0.0.0:{PORT}", **service.get("environment", {})}
            assert unknown_variables(environment) == set()
            options_of(["serve", *service.get("command", [])], environment)
            assert service["stop_grace_period"] == "30s"

    def test_lets_clients_in(self, path: Path) -> None:
        open_ports = [
            port
            for service in services_of(path).values()
            for port in service.get("ports", [])
            if port.endswith(f":{PORT}")
        ]
        assert len(open_ports) == 1

    def test_names_what_there_is(self, path: Path) -> None:
        whole = read(path)
        services = whole["services"]
        for service in services.values():
            assert ("build" in service) != ("image" in service)
            assert set(service.get("depends_on", [])) <= set(services)
            assert set(service.get("secrets", [])) <= set(whole.get("secrets", {}))
            named = {config["source"] for config in service.get("configs", [])}
            assert named <= set(whole.get("configs", {}))
            for source in mounts_of(service).values():
                if source.startswith("."):
                    assert (path.parent / source).exists(), source
                else:
                    assert source in whole["volumes"]

    def test_pins_what_it_takes_from_others(self, path: Path) -> None:
        images = [service["image"] for service in services_of(path).values() if "image" in service]
        for image in images:
            assert re.search(r":[\w.]+$", image)
            assert not image.endswith(":latest")


def test_the_server_may_write_its_history() -> None:
    services = services_of(COMPOSE / "server.yaml")
    options = options_of(["serve"], services["kps"]["environment"])
    folder = str(Path(options.history_file).parent)
    assert options.history
    volume = mounts_of(services["kps"])[folder]
    assert volume in read(COMPOSE / "server.yaml")["volumes"]
    # Docker gives a new volume to who owns the folder in the image.
    (owned,) = re.findall(r"^RUN install --directory (.*)$", dockerfile(), re.M)
    (user,) = re.findall(r"^USER (\d+):\d+$", dockerfile(), re.M)
    assert owned == f"--owner {user} --group {user} {folder}"


def test_the_nodes_are_one_cluster() -> None:
    whole = read(COMPOSE / "cluster.yaml")
    nodes = ours_in(COMPOSE / "cluster.yaml")
    assert len(nodes) == 3
    for name, service in nodes.items():
        options = options_of(["serve", *service["command"]], service["environment"])
        assert options.id == name
        nats = urlsplit(options.cluster)
        assert nats.port == 4222
        assert nats.hostname in whole["services"]
        assert options.cluster_secret_file == f"/run/secrets/{service['secrets'][0]}"
        assert service["build"]["args"] == {"EXTRAS": "[cluster]"}
    balancer = whole["services"]["nginx"]
    assert set(balancer["depends_on"]) == set(nodes)
    content = whole["configs"][balancer["configs"][0]["source"]]["content"]
    assert re.findall(rf"server (\w+):{PORT}", content) == list(nodes)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed here")
def test_nginx_takes_the_balancer(tmp_path: Path) -> None:
    configs = read(COMPOSE / "cluster.yaml")["configs"]
    server = configs["balancer"]["content"].replace("$$", "$")
    server = re.sub(r"\bn\d:", "127.0.0.1:", server)  # names that only Docker knows
    whole = f"events {{}}\nhttp {{\naccess_log off;\n{server}\n}}\n"
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\n{whole}")
    succeeds("nginx", "-t", "-e", "stderr", "-p", tmp_path, "-c", config)


class TestMonitoring:
    services = services_of(COMPOSE / "monitoring.yaml")

    def mounted(self, service: str, where: str) -> Path:
        """The file of ours that a service finds at a place."""
        return (COMPOSE / mounts_of(self.services[service])[where]).resolve()

    def test_prometheus_reads_the_figures_and_has_the_alerts(self) -> None:
        config = read(self.mounted("prometheus", "/etc/prometheus/prometheus.yml"))
        (job,) = config["scrape_configs"]
        assert job["job_name"] == "kps"  # as the alerts have it
        ((target,),) = [part["targets"] for part in job["static_configs"]]
        host, _, port = target.partition(":")
        options = options_of(["serve"], self.services[host]["environment"])
        assert options.metrics_address == f"0.0.0.0:{port}"
        (rules,) = config["rule_files"]
        file = self.mounted("prometheus", f"/etc/prometheus/{rules}")
        assert file.samefile(DEPLOY / "prometheus-rules.yml")

    @pytest.mark.skipif(promtool is None, reason="promtool is not installed here")
    def test_promtool_is_content(self, tmp_path: Path) -> None:
        assert promtool is not None
        for name in ("prometheus.yml", "prometheus-rules.yml"):  # as the service has them
            shutil.copy(self.mounted("prometheus", f"/etc/prometheus/{name}"), tmp_path / name)
        told = succeeds(promtool, "check", "config", "--lint-fatal", tmp_path / "prometheus.yml")
        assert "rules found" in told

    def test_grafana_has_the_dashboard_and_finds_prometheus(self) -> None:
        folder = "/etc/grafana/provisioning"
        (source,) = read(self.mounted("grafana", f"{folder}/datasources/kps.yml"))["datasources"]
        assert source["type"] == "prometheus"
        assert source["isDefault"]  # which the dashboard begins with
        url = urlsplit(source["url"])
        assert self.services[str(url.hostname)]["image"].startswith("prom/prometheus:")
        (provider,) = read(self.mounted("grafana", f"{folder}/dashboards/kps.yml"))["providers"]
        where = f"{provider['options']['path']}/kps.json"
        dashboard = json.loads(self.mounted("grafana", where).read_text())
        assert dashboard["uid"] == "kps"  # of the address in the comment
        assert "http://localhost:3000/d/kps," in (COMPOSE / "monitoring.yaml").read_text()
        (variable,) = (
            one for one in dashboard["templating"]["list"] if one["type"] == "datasource"
        )
        assert variable["query"] == source["type"]

    def test_nobody_else_reaches_the_figures(self) -> None:
        for service in self.services.values():
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert all(not port.endswith(":9314") for port in self.services["kps"]["ports"])
