"""What a program may say of a cluster, and what it is told if it says something else."""

from pathlib import Path
from typing import Any

import pytest
import trustme

from kps import InvalidArgument
from kps.io_common.server_options import ServerSettings

URL = "nats://localhost:4222"


def read(**options: Any) -> ServerSettings:
    return ServerSettings.read(address="localhost", **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cluster": "localhost:4222"}, "the URL of a NATS server"),
        ({"cluster": "nats://localhost:0"}, "the URL of a NATS server"),
        ({"cluster": "nats://localhost:99999"}, "the URL of a NATS server"),
        ({"cluster": f"{URL},http://other"}, "the URL of a NATS server"),
        ({"cluster_name": "x"}, "cluster_name needs cluster"),
        ({"cluster_ca": "x"}, "cluster_ca needs cluster"),
        ({"cluster": URL, "cluster_name": ""}, "cluster_name is a text"),
        ({"cluster": URL, "cluster_name": "n" * 65}, "cluster_name has at most 64 characters"),
        ({"cluster": URL, "cluster_secret": "short"}, "cluster_secret has at least 16 bytes"),
        ({"cluster": URL, "without_engine": "wait"}, "without_engine is local or refuse"),
    ],
)
def test_what_is_wrong_is_told(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        read(**options)


def test_an_authority_is_for_tls_only(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca)
    with pytest.raises(InvalidArgument, match="cluster_ca needs TLS"):
        read(cluster=URL, cluster_ca=ca)
    cluster = read(cluster="tls://localhost:4222", cluster_ca=ca).cluster
    assert cluster is not None
    assert cluster.tls is not None
