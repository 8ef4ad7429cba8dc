"""The rules of the house, checked on the source: what may import what, and what is documented."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import kps.sync
from kps.web.pages import FILES

pytestmark = pytest.mark.pure("it reads the sources of the checkout")

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kps"
SOURCES = sorted(PACKAGE.rglob("*.py"))
PROTOCOL = sorted((PACKAGE / "protocol").rglob("*.py"))
PURE = [*PROTOCOL, *sorted((PACKAGE / "mqtt" / "core").rglob("*.py"))]
EVERY_SOURCE = sorted(
    path
    for folder in ("kps", "tests", "examples", "benchmarks", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if "node_modules" not in path.parts
)

# The protocol core is pure: whatever could reach a socket, a clock, a thread, randomness or a
# log is not here. A new entry needs a reason as good as that.
ALLOWED_IN_PROTOCOL = {
    "abc",
    "binascii",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "contextlib",
    "gc",  # what is in a container, and when garbage is collected
    "h11",
    "hashlib",  # digests, in place of long texts
    "heapq",
    "hmac",  # comparing signatures
    "http",  # the names of the status codes
    "ipaddress",
    "itertools",
    "math",
    "operator",
    "re",
    "struct",
    "kps.errors",
    "kps.mqtt.core",
    "kps.protocol",
    "orjson",
    "typing",
    "typing_extensions",  # for type checkers only; where it is not installed nothing misses it
    "urllib.parse",
    "wsproto",
    "zlib",
}

# Which modules may know a library that reads or writes the wire, or that not everybody has.
LIBRARIES = {
    "h11": {"kps.protocol.wire"},
    "wsproto": {"kps.protocol.wire"},
    "orjson": {"kps.protocol.dialect", "kps.cli", "kps.mqtt.core.payloads"},
    "zlib": {"kps.protocol.wire.deflate"},
    "opentelemetry": {"kps.otel"},
    "channels": {"kps.channels"},
    "broadcaster": {"kps.broadcaster"},
    "litestar": {"kps.litestar"},
}

# The rooms of the package, from the bottom up. A room imports itself and those above its line
# here; rooms of one line do not know each other. A name stands for the module or all in it.
ROOMS: list[set[str]] = [
    {"kps.errors", "kps.version"},
    {
        f"kps.protocol.{name}"
        for name in ("build", "calls", "cost", "histogram", "limits", "timers")
    },
    {"kps.protocol.patterns", "kps.protocol.server_limits"},
    {"kps.protocol.wire"},
    {"kps.protocol.dialect"},
    {"kps.protocol.bus"},
    {"kps.protocol.access"},
    {"kps.protocol.server", "kps.protocol.client"},
    {"kps.protocol.cluster"},
    {"kps.otel", "kps.web", "kps.mqtt.core"},
    {"kps.io_common"},
    {"kps.compat"},
    {"kps.io_asyncio", "kps.io_sync"},
    {"kps.auth", "kps.testing", "kps.mqtt"},
    {"kps.broadcaster", "kps.litestar"},  # backends of other libraries
    {"kps.asgi", "kps.sync", "kps.uvicorn"},  # public names besides those of the package
    {"kps"},  # the public names
    {"kps.channels", "kps.cli"},
    {"kps.__main__"},
]

MOST_LINES = 500
MOST_METHODS = 25
PUBLIC_FACES = {"Client", "Server"}
"""Classes whose methods are the API."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in SOURCES}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """The modules that a source file imports, also those for types only."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            # "from package import module" imports a module too.
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner in MODULES or (ROOT / inner.replace(".", "/")).is_dir()
                yield inner if is_module else node.module


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def room_of(module: str) -> tuple[int, str]:
    """Number of the line in which a module's room stands, and the room."""
    found = [
        (len(room), number, room)
        for number, line in enumerate(ROOMS)
        for room in line
        if is_within(module, room)
    ]
    assert found, f"{module} is in no room"
    _, number, room = max(found)
    return number, room


def test_there_is_something_to_check() -> None:
    assert {"kps.protocol.server.hub", "kps.protocol.client.session"} <= set(MODULES)
    hub = set(imports(MODULES["kps.protocol.server.hub"]))
    assert "kps.protocol.bus.publication" in hub
    assert room_of("kps.protocol.bus.acks") == (5, "kps.protocol.bus")


class TestProtocolIsPure:
    @pytest.mark.parametrize("path", PURE, ids=name_of)
    def test_imports_nothing_that_acts(self, path: Path) -> None:
        for module in imports(path):
            allowed = any(is_within(module, package) for package in ALLOWED_IN_PROTOCOL)
            assert allowed, f"{path.name} imports {module}"

    @pytest.mark.parametrize("path", PURE, ids=name_of)
    def test_does_nothing_behind_the_back_of_imports(self, path: Path) -> None:
        calls = {
            node.func.id
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}

    @pytest.mark.parametrize("library", LIBRARIES)
    def test_libraries_of_the_wire_stay_in_their_rooms(self, library: str) -> None:
        for module, path in MODULES.items():
            if any(is_within(imported, library) for imported in imports(path)):
                assert any(is_within(module, room) for room in LIBRARIES[library]), module

    def test_is_imported_without_any_driver(self) -> None:
        """In a fresh interpreter, so that nothing else has imported them."""
        code = (
            "import sys, kps.protocol.server.hub, kps.protocol.client.session\n"
            "unwanted = {'asyncio', 'uvloop', 'threading', 'ssl', 'logging', 'kps.io_asyncio',"
            " 'kps.io_sync'}\n"
            "print(*sorted(unwanted & set(sys.modules)))"
        )
        shown = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        )
        assert shown.stdout.split() == []


class TestRooms:
    @pytest.mark.parametrize("module", MODULES)
    def test_imports_point_downwards(self, module: str) -> None:
        line, room = room_of(module)
        if MODULES[module].name == "__init__.py" and is_within(module, "kps.protocol"):
            # To import one module must not be to import them all.
            assert list(imports(MODULES[module])) == []
        for imported in imports(MODULES[module]):
            if is_within(imported, "kps") and imported != "kps.protocol":
                other_line, other = room_of(imported)
                allowed = other == room or other_line < line
                assert allowed, f"{module} imports {imported}"

    def test_no_module_imports_itself_by_way_of_others(self) -> None:
        circles = circles_among(
            {
                module: {
                    imported
                    for imported in imports(path)
                    if imported in MODULES
                    and imported != module
                    and MODULES[imported].name != "__init__.py"
                }
                for module, path in MODULES.items()
            }
        )
        assert circles == []

    def test_a_circle_would_be_found(self) -> None:
        assert circles_among({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]

    def test_threaded_driver_has_no_event_loop(self) -> None:
        for path in (PACKAGE / "io_sync").rglob("*.py"):
            assert not {"asyncio", "uvloop"} & set(imports(path)), path


def circles_among(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which can be reached from all others of its group."""

    def reachable(start: str) -> set[str]:
        found: set[str] = set()
        ahead = [start]
        while ahead:
            for neighbour in edges[ahead.pop()] - found:
                found.add(neighbour)
                ahead.append(neighbour)
        return found

    reach = {module: reachable(module) for module in edges}
    groups = {
        tuple(sorted(other for other in reach[module] if module in reach[other]))
        for module in edges
        if module in reach[module]
    }
    return sorted(map(list, groups))


WRITES_LINES = {"logging.getLogger"} | {
    f"{owner}.{name}"
    for owner in ("logging", "logger", "logger.logger")
    for name in ("debug", "info", "warning", "error", "critical", "exception", "log")
}


class TestInterrupts:
    @pytest.mark.parametrize("module", MODULES)
    def test_conditions_survive_them(self, module: str) -> None:
        """An exception out of a signal handler breaks those of ``threading``."""
        used = {
            ast.unparse(node)
            for node in ast.walk(tree_of(MODULES[module]))
            if isinstance(node, ast.Attribute)
        }
        assert "threading.Condition" not in used


class TestLog:
    @pytest.mark.parametrize("module", MODULES)
    def test_one_module_writes_lines(self, module: str) -> None:
        """A logger's methods raise what a program's handler raises; ``write`` does not."""
        if module == "kps.io_common.logger":
            return
        for node in ast.walk(tree_of(MODULES[module])):
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in WRITES_LINES, f"line {node.lineno}"

    def test_every_line_is_an_event_with_named_fields(self) -> None:
        """So that a log of JSON objects has both. An event is one name in all versions."""
        events = set()
        for module, path in MODULES.items():
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.Call) and is_a_line(node):
                    _, event, text, *rest = node.args
                    assert not rest, f"{module}, line {node.lineno}"
                    assert isinstance(event, ast.Constant)
                    assert re.fullmatch("[a-z_]+", str(event.value)), event.value
                    assert not (isinstance(text, ast.Constant) and "%s" in str(text.value))
                    events.add(event.value)
        assert {"started", "stopped", "login_refused", "origin_refused", "figures"} <= events
        assert len(events) > 25


def is_a_line(node: ast.Call) -> bool:
    """Whether a call writes a line of the log: its first argument is a level."""
    name = ast.unparse(node.func).rpartition(".")[2]
    is_writer = name in ("write", "write_now", "_write", "_log")
    return is_writer and bool(node.args) and ast.unparse(node.args[0]).startswith("logging.")


class TestSizes:
    @pytest.mark.parametrize("module", MODULES)
    def test_files_are_short(self, module: str) -> None:
        lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES

    @pytest.mark.parametrize("module", MODULES)
    def test_classes_are_small(self, module: str) -> None:
        for node in ast.walk(tree_of(MODULES[module])):
            if isinstance(node, ast.ClassDef) and node.name not in PUBLIC_FACES:
                methods = [
                    part
                    for part in node.body
                    if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef))
                ]
                assert len(methods) <= MOST_METHODS, node.name

    @pytest.mark.parametrize("path", PROTOCOL, ids=name_of)
    def test_only_dialects_ask_for_the_level(self, path: Path) -> None:
        if is_within(name_of(path), "kps.protocol.dialect"):
            return
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                names = {getattr(side, "attr", getattr(side, "id", "")) for side in sides}
                numbers = [
                    side
                    for side in sides
                    if isinstance(side, ast.Constant) and type(side.value) is int
                ]
                is_asked = bool(numbers) and "level" in {name.lstrip("_") for name in names}
                assert not is_asked, f"line {node.lineno}"


class TestSources:
    @pytest.mark.parametrize(
        "path", EVERY_SOURCE, ids=lambda path: path.relative_to(ROOT).as_posix()
    )
    def test_has_a_docstring(self, path: Path) -> None:
        docstring = ast.get_docstring(tree_of(path))
        assert docstring, f"{path} does not say what it is for"

    @pytest.mark.parametrize("path", PURE, ids=name_of)
    def test_public_names_of_the_core_are_documented(self, path: Path) -> None:
        """Classes and functions; methods that a base class documents need not repeat it."""
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.stem}.{node.name}"


def imported_by(code: str) -> set[str]:
    """The modules that a program imports, in an interpreter of its own."""
    code += "\nimport sys\nprint(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(shown.stdout.split())


ONLY_SERVERS = (
    "h11",
    "kps.compat.blocking_server",
    "kps.compat.unified_server",
    "kps.io_asyncio.server",
    "kps.io_asyncio.server_driver",
    "kps.io_common.server_logs",
    "kps.io_common.server_options",
    "kps.io_common.verdicts",
    "kps.io_sync.acceptor",
    "kps.io_sync.server",
    "kps.io_sync.server_driver",
    "kps.protocol.access",
    "kps.protocol.server",
    "kps.protocol.server_limits",
    "kps.protocol.wire.http",
    "kps.protocol.wire.server_handshake",
    "kps.web",
)
ONLY_CLIENTS = (
    "kps.compat.unified_client",
    "kps.io_asyncio.client",
    "kps.io_asyncio.client_driver",
    "kps.io_common.client_hooks",
    "kps.io_common.client_logs",
    "kps.io_common.client_options",
    "kps.protocol.client.events",
    "kps.protocol.client.session",
    "kps.protocol.dialect.client",
    "kps.protocol.wire.client_handshake",
)
DEAR = ("email", "importlib.metadata", "importlib.resources", "kps.auth", "kps.cli", "kps.otel",
        "kps.testing", "opentelemetry", "shutil", "wsproto", "zipfile", "zlib")  # fmt: skip
"""What nobody needs to begin with."""

PREPARED = "import kps.cli.commands; kps.cli.commands.prepare(['{}'])"
"""Imports what a command needs."""
SERVE_AMONG_VARIABLES = (
    "import os; os.environ |= {'KPS_TOKEN': 'x', 'KPS_COLOUR': 'x'}\n"
    + PREPARED.format("serve', '--show-limits")
    + "()"
)
"""Runs a command of a server beside variables that are not its own."""
OTHER_COMMANDS = tuple(f"kps.cli.{name}" for name in ("subscribe", "top", "bench", "conformance"))

# Publishes to itself, and waits for an answer. It ends without saying so.
EXCHANGE = """
async def main(address):
    client = await kps.Client.connect(address, id="me")
    async with client.subscribe("t") as messages:
        await client.publish("t", {"n": 1})
        assert (await anext(messages)).data == {"n": 1}
    await client.subscribe("q", lambda message: 1)
    assert (await (await client.publish_with_ack("q", 1)).wait())["me"].success
    await client.close()
"""


class TestWhatIsImported:
    """To import a module takes time and memory. These programs do without many."""

    @pytest.mark.parametrize(
        ("code", "unwanted"),
        [
            ("import kps", ("asyncio", "dataclasses", "kps.protocol", "typing")),
            ("from kps import Client", ONLY_SERVERS),
            ("from kps.sync import Client", (*ONLY_SERVERS, "asyncio", "kps.io_asyncio", "ssl")),
            ("from kps import Server", ONLY_CLIENTS),
            ("import kps.cli.commands", (*ONLY_CLIENTS, *ONLY_SERVERS, "asyncio", "tomllib")),
            (PREPARED.format("serve"), (*ONLY_CLIENTS, *OTHER_COMMANDS, "asyncio", "tomllib")),
            (SERVE_AMONG_VARIABLES, (*ONLY_CLIENTS, *OTHER_COMMANDS, "asyncio", "tomllib")),
            (PREPARED.format("pub"), (*ONLY_SERVERS, *OTHER_COMMANDS, "kps.cli.serve", "tomllib")),
        ],
    )
    def test_no_more_than_is_needed(self, code: str, unwanted: tuple[str, ...]) -> None:
        unwanted += tuple(name for name in DEAR if name not in code)
        found = imported_by(code)
        assert [name for name in found if any(is_within(name, other) for other in unwanted)] == []

    @pytest.mark.parametrize(
        ("api", "call"),
        [("kps", "__import__('asyncio').run(main({}))"), ("kps.sync", "main({})")],
    )
    def test_a_client_at_work_needs_nothing_of_the_server(self, api: str, call: str) -> None:
        program = EXCHANGE
        unwanted: tuple[str, ...] = (*ONLY_SERVERS, "wsproto")
        if api == "kps.sync":
            for word, other in (("async ", ""), ("await ", ""), ("anext", "next")):
                program = program.replace(word, other)
            program = program.replace("kps.Client", "kps.sync.Client")
            unwanted += ("asyncio", "ssl")
        with kps.sync.Server("127.0.0.1:0") as server:
            found = imported_by(f"import {api}\n{program}\n{call.format(repr(server.address))}")
        assert [name for name in found if any(is_within(name, other) for other in unwanted)] == []

    def test_every_web_file_is_served(self) -> None:
        kinds = {".html", ".css", ".js"}
        assert sorted(FILES) == sorted(
            path.name for path in (PACKAGE / "web").iterdir() if path.suffix in kinds
        )
