"""The fixtures for pytest, in runs of pytest; and the guide's tests, which use them."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "testing.md"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project of somebody else, in which every warning is an error."""
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = --strict-markers")
    return pytester


def test_the_guides_tests_pass(project: pytest.Pytester) -> None:
    page = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    tests = project.makepyfile("\n".join(blocks))
    count = tests.read_text().count("def test_")
    assert count >= 6
    project.runpytest_subprocess().assert_outcomes(passed=count)


def test_each_test_has_a_bus_of_its_own(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import asyncio

        import pytest

        import kps
        import kps.sync
        from kps.io_asyncio.runtime import Runtime


        @pytest.mark.parametrize("turn", [1, 2])
        def test_blocking(kps_bus, turn):
            assert kps_bus.published() == []
            with kps.sync.Client("nowhere:1", id="a") as client:
                client.publish("t", turn)
                client.flush()
            assert [message.data for message in kps_bus.published("t")] == [turn]


        @pytest.mark.kps_bus(id="hub")
        def test_options(kps_bus):
            async def main():
                async with kps.Client("nowhere:1") as client:
                    messages = await client.subscribe("t")
                    kps_bus.publish("t", 1)
                    assert (await anext(messages)).sender == "hub"

            asyncio.run(main())


        def test_that_fails(kps_bus):
            kps.sync.Client.connect("nowhere:1")
            raise ValueError


        def test_nothing_is_left():
            assert isinstance(kps.Client()._driver.runtime, Runtime)
            assert "_new_runtime" not in vars(kps.Client)
        """
    )
    project.runpytest_subprocess().assert_outcomes(passed=4, failed=1)


def test_a_real_server(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import socket

        import pytest

        import kps
        import kps.sync

        addresses = []


        def test_open(kps_server):
            addresses.append(kps_server.address)
            with kps.sync.Client(kps_server.address) as client:
                client.flush()


        @pytest.mark.kps_server(auth=lambda token: None)
        def test_options(kps_server):
            with pytest.raises(kps.ConnectFailed):
                kps.sync.Client.connect(kps_server.address, token="x", reconnect=False)


        def test_is_stopped():
            host, _, port = addresses[0].rpartition(":")
            with pytest.raises(OSError):
                socket.create_connection((host, int(port))).close()
        """
    )
    project.runpytest_subprocess().assert_outcomes(passed=3)


def test_costs_nothing_that_is_not_asked_for(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others load what they like
    project.makepyfile(
        """
        import sys


        def test_imports():
            ours = {name for name in sys.modules if name.partition(".")[0] == "kps"}
            assert ours == {"kps", "kps.errors", "kps.testing", "kps.testing.pytest_plugin"}
            assert not {"wsproto", "h11", "orjson", "ssl"} & set(sys.modules)
        """
    )
    project.runpytest_subprocess("-p", "kps.testing.pytest_plugin").assert_outcomes(passed=1)


def test_the_marks_and_fixtures_are_explained(project: pytest.Pytester) -> None:
    project.runpytest("--markers").stdout.fnmatch_lines(["*kps_bus(*", "*kps_server(*"])
    project.runpytest("--fixtures").stdout.fnmatch_lines(["kps_bus*", "kps_server*"])
