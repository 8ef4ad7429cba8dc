"""The container: what it is made of, who runs in it, and its health check."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

import kps.sync
from tests.deploy.files import DEPLOY, PATIENCE, ROOT, dockerfile, options_of, succeeds
from tests.ports import kept_address

TEXT = dockerfile()

hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.pure("it looks for the sources")
def test_it_is_made_of_what_there_is() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    sources = " ".join(re.findall(r"^COPY (?!--)(.*) \S+$", TEXT, re.M)).split()
    assert len(sources) > 4
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored


def test_what_it_runs() -> None:
    entry = re.search(r"^ENTRYPOINT (.*)$", TEXT, re.M)
    variable = re.search(r"^ENV KPS_ADDRESS=(.*)$", TEXT, re.M)
    assert entry is not None
    assert variable is not None
    program, *arguments = json.loads(entry[1])
    assert program == "kps"
    options = options_of(arguments, {"KPS_ADDRESS": variable[1]})
    assert options.address == "0.0.0.0:9313"


def test_nobody_in_it_is_root() -> None:
    last = TEXT[TEXT.rindex("\nFROM ") :]
    (user,) = re.findall(r"^USER (\S+)$", last, re.M)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert re.search(r"^(RUN|COPY|ADD) ", last[last.index("\nUSER ") :], re.M) is None


def test_its_labels() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', TEXT))
    assert set(labels) == {"title", "description", "licenses", "version", "revision", "source"}
    given = set(re.findall(r'\b([A-Z]+)=""', TEXT))
    for name in ("version", "revision", "source"):
        assert labels[name] == f"${{{name.upper()}}}"
        assert name.upper() in given


@pytest.mark.skipif(hadolint is None, reason="hadolint is not installed here")
def test_it_is_as_hadolint_wants_it() -> None:
    assert hadolint is not None
    succeeds(hadolint, DEPLOY / "Dockerfile")


class TestHealthCheck:
    def test_without_tls(self) -> None:
        address = kept_address()
        with kps.sync.Server(address):
            assert is_healthy(KPS_ADDRESS=address)
        assert not checks_out(KPS_ADDRESS=address)

    def test_of_any_address_of_this_machine(self) -> None:
        with kps.sync.Server("0.0.0.0:0") as server:
            port = server.address.rpartition(":")[2]
            assert is_healthy(KPS_ADDRESS=f"0.0.0.0:{port}")
            assert is_healthy(KPS_ADDRESS=port)

    @pytest.mark.parametrize("is_told", [True, False])
    def test_with_tls(self, tmp_path: Path, is_told: bool) -> None:
        told = {"KPS_TLS_CERT": str(tmp_path / "chain.pem")} if is_told else {}
        address = kept_address()
        with server_with_tls(tmp_path, address):
            assert is_healthy(KPS_ADDRESS=address, **told)
        assert not checks_out(KPS_ADDRESS=address, **told)

    def test_where_clients_need_certificates(self, tmp_path: Path) -> None:
        authorities = str(tmp_path / "ca.pem")
        with server_with_tls(
            tmp_path, tls_client_ca=authorities, metrics_address="127.0.0.1:0"
        ) as server:
            assert not checks_out(KPS_ADDRESS=server.address)
            figures = server.metrics_address
            assert figures is not None
            assert is_healthy(KPS_ADDRESS=server.address, KPS_METRICS_ADDRESS=figures)


@contextmanager
def server_with_tls(
    folder: Path, address: str = "127.0.0.1:0", **options: str
) -> Iterator[kps.sync.Server]:
    """A server with a certificate for another name than that by which it is asked."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("bus.example")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
    (folder / "chain.pem").write_bytes(chain)
    with kps.sync.Server(
        address,
        tls_cert=str(folder / "chain.pem"),
        tls_key=str(folder / "key.pem"),
        tls_client_ca=options.get("tls_client_ca"),
        metrics_address=options.get("metrics_address"),
    ) as server:
        yield server


def is_healthy(**variables: str) -> bool:
    """Check a server as often as Docker does before it takes it for unhealthy: three times.

    The check has little time, and on a busy machine a server that is well may not answer at once.
    """
    return any(checks_out(**variables) for _ in range(3))


def checks_out(**variables: str) -> bool:
    """Run the health check as Docker does; return whether it says that the server is healthy."""
    check = re.search(r"^HEALTHCHECK .* CMD (.*)$", TEXT, re.M)
    assert check is not None
    program, where = json.loads(check[1])
    assert program == "python"
    (source,) = re.findall(rf"^COPY (\S+) {re.escape(where)}$", TEXT, re.M)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KPS_")}
    done = subprocess.run(
        [sys.executable, ROOT / source],
        env={**inherited, **variables},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode in (0, 1)
    return done.returncode == 0
