"""What is said about the options of a server: ``kps config check``, and ``kps serve`` itself."""

from collections.abc import Callable
from pathlib import Path

import kps
from tests.cli.test_cli import Serve, run, serve

__all__ = ["serve"]


class TestConfigCheck:
    def check(self, *arguments: str, **environment: str) -> tuple[int, list[str], list[str]]:
        result = run("config", "check", *arguments, **environment)
        return result.returncode, result.stdout.splitlines(), result.stderr.splitlines()

    def test_what_is_set_and_where(self, tmp_path: Path) -> None:
        config = tmp_path / "kps.toml"
        config.write_text("max_message = 1000\n\n[[history]]\ntopics = 'a'\nsize = 5\n")
        code, lines, errors = self.check(
            "--config", str(config), "--compress", "--relay-token", "geheim",
            "--history", "b=1,60", KPS_OVERFLOW="drop_oldest", KPS_PYTHON="x",
        )  # fmt: skip
        assert code == 0
        shown = [line.replace(", a=5", ",a=5").split(maxsplit=2) for line in lines[:-1]]
        assert shown == [
            ["compress", "true", "argument --compress"],
            ["config", str(config), "argument --config"],
            ["history", "b=1,60,a=5", f"argument --history; {config}, line 3"],
            ["max_message", "1000", f"{config}, line 1"],
            ["overflow", "drop_oldest", "the variable KPS_OVERFLOW"],
            ["relay_token", "...", "argument --relay-token"],
        ]
        assert lines[-1] == "this is fine"
        assert errors == ["kps config check: the variable KPS_PYTHON means nothing"]

    def test_everything_that_is_wrong(self, tmp_path: Path) -> None:
        config = tmp_path / "kps.toml"
        config.write_text("path = 'p'\nmax_message = 10\ntls_key = 'k'\nthreads = true\n")
        code, lines, errors = self.check("--config", str(config), KPS_CLUSTER="nats://h")
        assert (code, "this is fine" in lines) == (2, False)
        assert errors == [
            f"kps config check: {fault}"
            for fault in (
                f"{config}, line 3: --tls-key needs --tls-cert",
                f"the variable KPS_CLUSTER; {config}, line 4: --threads does not go with --cluster",
                f"{config}, line 1: a path starts with '/': 'p'",
                f"{config}, line 2: max_message must be at least 512, or nobody could connect",
            )
        ]

    def test_values_that_cannot_be_read(self, tmp_path: Path) -> None:
        config = tmp_path / "kps.toml"
        config.write_text("port = 70000\ncolour = 1\n")
        code, _, errors = self.check("--config", str(config), KPS_MAX_MESAGE="1")
        assert code == 2
        assert [error.removeprefix("kps config check: ") for error in errors] == [
            f"{config}, line 1: port: must be a whole number from 0 to 65535, not '70000'",
            f"{config}, line 2: there is no option colour",
            "the variable KPS_MAX_MESAGE means nothing; did you mean KPS_MAX_MESSAGE?",
        ]

    def test_files_that_it_names(self, tmp_path: Path) -> None:
        for option, about in (
            ("--tls-cert", "cannot use the certificate /no/such: no such file"),
            ("--tokens", "cannot read the tokens in /no/such: no such file"),
            ("--cluster-secret-file", "--cluster-secret-file needs --cluster"),
        ):
            code, _, errors = self.check(option, "/no/such")
            assert (code, len(errors)) == (2, 1)
            assert errors[0].startswith(f"kps config check: argument {option}: {about}")

    def test_what_follows_from_a_fault_is_none(self, tmp_path: Path) -> None:
        config = tmp_path / "kps.toml"
        history = "history_file = 'h.db'\n[[history]]\ntopics = 'a'\nsize = 5\n"
        for given, fault in (
            ("tokens = '/no/such'\n", "cannot read the tokens in /no/such: no such file"),
            ("tls_cert = '/no/such'\ntls_key = 'k'\n", "cannot use the certificate /no/such: "),
        ):
            config.write_text(given + history)
            code, _, errors = self.check("--config", str(config))
            assert (code, len(errors)) == (2, 1)
            assert errors[0].startswith(f"kps config check: {config}, line 1: {fault}")

    def test_where_a_file_was_sought(self) -> None:
        place = Path.cwd()
        for option, about in (
            ("--config", "cannot read no/such"),
            ("--tokens", "cannot read the tokens in no/such"),
            ("--tls-cert", "cannot use the certificate no/such"),
        ):
            code, _, errors = self.check(option, "no/such")
            assert code == 2
            assert errors[0].endswith(f"{about}: no such file or directory (in {place})")

    def test_a_server_for_everybody(self) -> None:
        code, _, errors = self.check("--address", "0.0.0.0")
        assert code == 0
        about = "everybody who reaches this machine may connect"
        without = "without --tokens, --jwt-key or --tls-client-ca"
        assert errors == [f"kps config check: {about}, {without}"]


class TestServe:
    def second_line(self, server: Serve) -> str:
        assert server.process.stdout is not None
        return server.process.stdout.readline().rstrip("\n")

    def test_it_tells_its_version_and_its_console(self, serve: Callable[..., Serve]) -> None:
        server = serve("--address", "127.0.0.1:0", "--path", "/bus")
        port = server.url.split(":")[-1].partition("/")[0]
        version = f"version {kps.__version__}"
        assert self.second_line(server) == f"{version}; the console is at http://127.0.0.1:{port}/"
        server = serve("--port", "0", "--no-console")
        assert server.url.startswith("ws://localhost:")
        assert self.second_line(server) == version

    def test_it_warns_if_it_is_open_to_everybody(
        self, serve: Callable[..., Serve], tmp_path: Path
    ) -> None:
        server = serve("--address", "0.0.0.0:0")
        port = server.url.split(":")[-1].partition("/")[0]
        assert self.second_line(server).endswith(f"; the console is at http://localhost:{port}/")
        _, errors = server.stop()
        assert "WARNING kps: everybody who reaches this machine may connect, publish and" in errors
        assert "(0.0.0.0:0)" in errors
        tokens = tmp_path / "tokens.toml"
        tokens.touch(0o600)
        tokens.write_text(run("token", "me").stdout)
        for options in (["--address", "127.0.0.1:0"],
                        ["--address", "0.0.0.0:0", "--tokens", str(tokens)]):  # fmt: skip
            _, errors = serve(*options).stop()
            assert "everybody" not in errors

    def test_it_names_variables_that_mean_nothing(self, serve: Callable[..., Serve]) -> None:
        _, errors = serve("--port", "0", KPS_COLOUR="1", KPS_PORT="tcp://10.0.0.1:9313").stop()
        assert errors.count("WARNING") == 1
        assert "WARNING kps: the variable KPS_COLOUR means nothing\n" in errors
        result = run("serve", "--port", "0", KPS_MAX_MESAGE="1000")
        assert result.returncode == 2
        said = "the variable KPS_MAX_MESAGE means nothing; did you mean KPS_MAX_MESSAGE?"
        assert result.stderr == f"kps serve: {said} (see kps serve --help)\n"
