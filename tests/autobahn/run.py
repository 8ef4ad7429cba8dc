"""Runs the Autobahn suite against both ends of KPS on both drivers.

    python -m tests.autobahn.run            # or make conformance
    python -m tests.autobahn.run full       # or make conformance CASES=full

Exit code 0: all passed; 1: something failed; 3: there is no Python 2.7, which the suite needs.
"""

import argparse
import asyncio
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

from tests.autobahn import suite
from tests.autobahn.judge import COUNTS, SETS, Outcome, Verdict, judge, size_of

ROOT = Path(__file__).parent.parent.parent
TESTEES = [(driver, role) for driver in ("asyncio", "threads") for role in ("server", "client")]

_NO_PYTHON = 3
_AT_ONCE = 2  # the suite waits most of the time, and times of a second are part of it
_PATIENCE = {"core": 200.0, "full": 10_800.0}  # seconds for one testee
_START_PATIENCE = 60.0
_PORT = re.compile(r"^listening on (\d+)$", re.MULTILINE)


class Examination:
    """One testee under the suite."""

    def __init__(self, driver: str, role: str, cases: str) -> None:
        self.name = f"{driver} {role}"
        self._driver = driver
        self._role = role
        self._cases = cases
        self._agent = f"{driver}-{role}"
        self._folder = suite.HERE / "reports" / self._agent
        self._testee_log = self._folder / "testee.log"
        self._suite_log = self._folder / "suite.log"
        self._index = self._folder / "index.json"

    async def run(self) -> Verdict:
        """Have it examined; tell the verdict."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        patience = _PATIENCE[self._cases]
        trouble: list[str] = []
        try:
            async with asyncio.timeout(patience):
                ends = self._server() if self._role == "server" else self._client()
                trouble += await ends
        except TimeoutError:
            trouble.append(f"not done within {patience:.0f} s")
        if rest := _PORT.sub("", _text(self._testee_log)).strip():
            trouble.append(f"it said: {rest.splitlines()[-1]} ({self._testee_log})")
        verdict = judge(self._report(), SETS[self._cases])
        for complaint in trouble:
            verdict.fail(complaint)
        return verdict

    async def _server(self) -> list[str]:
        async with running(self._testee(), self._testee_log) as testee:
            port = await port_of(testee, self._testee_log)
            if port is None:
                return ["the server did not start"]
            spec = self._spec(servers=[{"agent": self._agent, "url": f"ws://127.0.0.1:{port}"}])
            async with running(suite.command("fuzzingclient", spec), self._suite_log) as fuzzer:
                await fuzzer.wait()
            return [] if testee.returncode is None else ["the server ended by itself"]

    async def _client(self) -> list[str]:
        spec = self._spec(url="ws://127.0.0.1:0")
        async with running(suite.command("fuzzingserver", spec), self._suite_log) as fuzzer:
            port = await port_of(fuzzer, self._suite_log)
            if port is None:
                return ["the suite's server did not start"]
            count = sum(map(size_of, SETS[self._cases]))
            command = [*self._testee(), str(port), self._agent, str(count)]
            async with running(command, self._testee_log) as testee:
                code = await testee.wait()
        return [f"the client ended with exit code {code}"] if code else []

    def _testee(self) -> list[str]:
        return [sys.executable, "-m", "tests.autobahn.testee", self._driver, self._role]

    def _spec(self, **fields: object) -> Path:
        path = self._folder / "spec.json"
        fields["outdir"] = str(self._folder)
        fields["cases"] = [f"{one}.*" if one in COUNTS else one for one in SETS[self._cases]]
        fields["exclude-cases"] = []
        fields["exclude-agent-cases"] = {}
        path.write_text(json.dumps(fields))
        return path

    def _report(self) -> dict[str, Outcome]:
        if not self._index.exists():
            return {}
        reports: dict[str, dict[str, Outcome]] = json.loads(self._index.read_text())
        return reports.get(self._agent, {})


@contextlib.asynccontextmanager
async def running(command: list[str], log: Path) -> AsyncIterator[Process]:
    """A process, which is ended with the block if it has not ended by itself."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
            env=suite.environment(),
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


async def port_of(process: Process, log: Path) -> int | None:
    """The port that a process says it listens on; ``None`` if it does not say it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_PATIENCE):
            while process.returncode is None:
                if found := _PORT.search(_text(log)):
                    return int(found[1])
                await asyncio.sleep(0.05)
    return None


def _text(log: Path) -> str:
    return log.read_text(errors="replace") if log.exists() else ""


async def examine_all(cases: str) -> bool:
    """Examine every testee, and print the verdicts; tell whether nothing failed."""
    task = asyncio.current_task()
    assert task is not None
    # So that the processes which were started are ended in this case too.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    places = asyncio.Semaphore(_AT_ONCE)

    async def examine(driver: str, role: str) -> bool:
        async with places:
            examination = Examination(driver, role, cases)
            verdict = await examination.run()
        for complaint in verdict.complaints:
            print(f"{examination.name}: {complaint}")
        print(f"{examination.name}: {verdict}", flush=True)
        return not verdict.failed

    return all(await asyncio.gather(*(examine(*testee) for testee in TESTEES)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", choices=SETS, nargs="?", default="core", help="default: core")
    cases: str = parser.parse_args().cases
    if sys.prefix == sys.base_prefix:
        parser.error("not in a virtual environment, where the suite could be installed")
    python = suite.find_python()
    if python is None:
        print("conformance is not tested: there is no Python 2.7 here, which the suite needs")
        sys.exit(_NO_PYTHON)
    try:
        suite.install(python)
    except (subprocess.SubprocessError, OSError) as error:
        sys.exit(f"the Autobahn suite cannot be installed: {error}")
    try:
        passed = asyncio.run(examine_all(cases))
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit("interrupted")
    if not passed:
        sys.exit(f"the reports are in {suite.HERE / 'reports'}")


if __name__ == "__main__":
    main()
