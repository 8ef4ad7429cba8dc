"""The Helm chart: what comes out of it for several values, and that the program takes that."""

import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from kps.version import __version__
from tests.deploy.files import (
    DEPLOY,
    dockerfile,
    options_of,
    succeeds,
    unknown_variables,
)

CHART = DEPLOY / "helm" / "kps"
# `make helm` puts it beside the Python of the tests.
helm = shutil.which("helm", path=str(Path(sys.executable).parent)) or shutil.which("helm")

pytestmark = pytest.mark.skipif(helm is None, reason="helm is not installed here: make helm")

Kinds = dict[str, dict[str, Any]]

NODES = {
    "replicas": 3,
    "cluster": {"url": "nats://nats:4222", "secret": {"text": "0123456789abcdef"}},
}


def render(folder: Path, values: dict[str, Any]) -> Kinds:
    """Return what the chart makes of values, by its kind."""
    assert helm is not None
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    text = succeeds(helm, "template", "bus", CHART, "--values", folder / "values.yaml")
    made = [whole for whole in yaml.safe_load_all(text) if whole]
    kinds = {whole["kind"]: whole for whole in made}
    assert len(kinds) == len(made)
    return kinds


def pod_of(made: Kinds) -> dict[str, Any]:
    pod = made["Deployment"]["spec"]["template"]["spec"]
    assert isinstance(pod, dict)
    return pod


def container_of(made: Kinds) -> dict[str, Any]:
    (container,) = pod_of(made)["containers"]
    assert isinstance(container, dict)
    return container


def options_in(made: Kinds) -> Any:
    """The options of the server in a pod, as the program reads them."""
    container = container_of(made)
    environment = {"KPS_ADDRESS": "0.0.0.0:9313"}  # the image's
    for variable in container["env"]:
        assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
        environment[variable["name"]] = "bus-kps-1"
    assert unknown_variables(environment) == set()
    return options_of(["serve", *container["args"]], environment)


def source_of(made: Kinds, file: str) -> dict[str, Any]:
    """The volume in which a pod finds a file."""
    folder = file.rpartition("/")[0]
    mounts = {mount["mountPath"]: mount for mount in container_of(made)["volumeMounts"]}
    assert mounts[folder]["readOnly"]
    volumes = {volume["name"]: volume for volume in pod_of(made)["volumes"]}
    volume = volumes[mounts[folder]["name"]]
    assert isinstance(volume, dict)
    return volume


@pytest.mark.parametrize("values", [{}, NODES, {"ingress": {"enabled": True}}])
def test_lint_is_content(tmp_path: Path, values: dict[str, Any]) -> None:
    assert helm is not None
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    succeeds(helm, "lint", "--strict", CHART, "--values", tmp_path / "values.yaml")


def test_its_version_is_that_of_the_program() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_one_server(tmp_path: Path) -> None:
    made = render(tmp_path, {})
    assert set(made) == {"ConfigMap", "Deployment", "Service"}
    assert made["Deployment"]["spec"]["replicas"] == 1
    assert made["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    options = options_in(made)
    assert (options.address, options.metrics_address) == ("0.0.0.0:9313", "0.0.0.0:9314")
    assert (options.id, options.cluster, options.tokens) == ("bus-kps-1", None, None)
    assert container_of(made)["image"] == f"kps:{__version__}"


def test_its_parts_find_each_other(tmp_path: Path) -> None:
    made = render(tmp_path, NODES | {"ingress": {"enabled": True}})
    labels = made["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        made["Deployment"]["spec"]["selector"]["matchLabels"],
        made["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        made["Service"]["spec"]["selector"],
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in container_of(made)["ports"]}
    options = options_in(made)
    assert ports["bus"] == int(options.address.rpartition(":")[2])
    assert ports["figures"] == int(options.metrics_address.rpartition(":")[2])
    (port,) = made["Service"]["spec"]["ports"]
    assert (port["targetPort"], port["appProtocol"]) == ("bus", "kubernetes.io/ws")
    (rule,) = made["Ingress"]["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": made["Service"]["metadata"]["name"], "port": {"name": port["name"]}}
    for probe, path in {
        "startup": "/healthz",
        "readiness": "/healthz",
        "liveness": "/metrics",
    }.items():
        asked = container_of(made)[f"{probe}Probe"]["httpGet"]
        assert asked == {"path": path, "port": "figures"}


def test_nothing_in_it_is_root(tmp_path: Path) -> None:
    made = render(tmp_path, {})
    pod, container = pod_of(made)["securityContext"], container_of(made)["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert f"\nUSER {pod['runAsUser']}:{pod['runAsGroup']}\n" in dockerfile()
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod_of(made)["automountServiceAccountToken"] is False
    assert set(container_of(made)["resources"]) == {"requests", "limits"}


def test_a_config(tmp_path: Path) -> None:
    config = 'max_connections = 1000\norigin = ["https://example.org"]\n'
    plain, made = render(tmp_path, {}), render(tmp_path, {"config": config})
    folder, _, name = options_in(made).config.rpartition("/")
    assert source_of(made, f"{folder}/{name}")["configMap"]["name"] == "bus-kps"
    assert made["ConfigMap"]["metadata"]["name"] == "bus-kps"
    assert made["ConfigMap"]["data"][name] == config
    assert tomllib.loads(plain["ConfigMap"]["data"][name]) == {}

    def noted(kinds: Kinds) -> str:
        metadata = kinds["Deployment"]["spec"]["template"]["metadata"]
        return str(metadata["annotations"]["checksum/settings"])

    assert noted(plain) != noted(made)  # so that pods begin anew


def test_tokens(tmp_path: Path) -> None:
    text = '[alice]\ntoken = "a:b"\n'
    made = render(tmp_path, {"tokens": {"text": text}})
    file = options_in(made).tokens
    secret = source_of(made, file)["secret"]
    assert secret["secretName"] == made["Secret"]["metadata"]["name"]
    key = file.rpartition("/")[2]
    assert secret["items"] == [{"key": key, "path": key}]
    assert made["Secret"]["stringData"] == {key: text}

    made = render(tmp_path, {"tokens": {"existingSecret": "mine", "key": "t.toml"}})
    assert "Secret" not in made
    file = options_in(made).tokens
    assert file.endswith("/t.toml")
    assert source_of(made, file)["secret"]["secretName"] == "mine"


def test_nodes_of_a_cluster(tmp_path: Path) -> None:
    made = render(tmp_path, NODES)
    assert made["Deployment"]["spec"]["replicas"] == 3
    assert made["Deployment"]["spec"]["strategy"]["type"] == "RollingUpdate"
    assert made["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    options = options_in(made)
    assert (options.cluster, options.cluster_name) == ("nats://nats:4222", "kps")
    key = options.cluster_secret_file.rpartition("/")[2]
    assert made["Secret"]["stringData"] == {key: "0123456789abcdef"}
    secret = source_of(made, options.cluster_secret_file)["secret"]
    assert secret["secretName"] == made["Secret"]["metadata"]["name"]


def test_proxies_and_more_arguments(tmp_path: Path) -> None:
    values = {"proxies": ["10.0.0.0/8", "fd00::/8"], "extraArgs": ["--compress", "--queue-bytes=9"]}
    options = options_in(render(tmp_path, values))
    assert options.proxy == ["10.0.0.0/8", "fd00::/8"]
    assert (options.compress, options.queue_bytes) == (True, 9)


def test_an_ingress_with_tls(tmp_path: Path) -> None:
    values = {
        "ingress": {"enabled": True, "host": "b.example", "tlsSecret": "cert", "className": "nginx"}
    }
    spec = render(tmp_path, values)["Ingress"]["spec"]
    assert spec["tls"] == [{"hosts": ["b.example"], "secretName": "cert"}]
    assert (spec["ingressClassName"], spec["rules"][0]["host"]) == ("nginx", "b.example")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"replicas": 2}, "several replicas need cluster.url"),
        ({"cluster": {"url": "nats://nats:4222"}}, "cluster.url needs cluster.secret"),
    ],
)
def test_what_it_refuses(tmp_path: Path, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        render(tmp_path, values)
