"""The rules of the house, checked on the source: what may import what, and what is documented."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kps"
PROTOCOL = sorted((PACKAGE / "protocol").glob("*.py"))
EVERY_SOURCE = sorted(
    path
    for folder in ("kps", "tests", "examples", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)

# The protocol core is pure: whatever could reach a socket, a clock, a thread, randomness or a
# log is not here. A new entry needs a reason as good as that.
ALLOWED_IN_PROTOCOL = {
    "abc",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "gc",  # what is in a container
    "h11",
    "heapq",
    "http",  # the names of the status codes
    "ipaddress",
    "itertools",
    "math",
    "operator",
    "re",
    "kps.errors",
    "kps.protocol",
    "orjson",
    "typing",
    "urllib.parse",
    "wsproto",
}
# Only these know the libraries that read the wire.
WIRE_LIBRARIES = {"h11": {"http"}, "wsproto": {"http", "websocket"}}

# From the bottom up. A module may import those of the layers below it, and of its own.
LAYERS: list[set[str]] = [
    {"backoff", "codes", "deadlines", "frames", "limits"},
    {"outbox", "envelope", "messages", "relay", "access", "admission", "rate"},
    {"websocket", "address", "level1", "level2", "subscriptions"},
    {"http", "bus", "endpoint", "flow"},
    {"acks", "events"},
    {"monitor", "client_link"},
    {"rules"},
    {"server_session"},
    {"client_session"},
    {"hub"},
]


def imports(path: Path, *, at_runtime: bool = False) -> Iterator[str]:
    """The modules that a source file imports; ``at_runtime``, without those for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for_types.update(*(ast.walk(statement) for statement in node.body))
    for node in ast.walk(tree):
        if at_runtime and node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            # "from package import module" imports a module too.
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (ROOT / inner.replace(".", "/")).with_suffix(".py").exists()
                yield inner if is_module else node.module


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def test_there_is_something_to_check() -> None:
    names = {path.stem for path in PROTOCOL}
    assert {"hub", "client_session", "websocket", "http"} <= names
    assert set(imports(PACKAGE / "protocol" / "hub.py")) >= {"orjson", "kps.protocol.acks"}


class TestProtocolIsPure:
    @pytest.mark.parametrize("path", PROTOCOL, ids=lambda path: path.stem)
    def test_imports_nothing_that_acts(self, path: Path) -> None:
        for module in imports(path):
            allowed = any(is_within(module, package) for package in ALLOWED_IN_PROTOCOL)
            assert allowed, f"{path.name} imports {module}"

    @pytest.mark.parametrize("path", PROTOCOL, ids=lambda path: path.stem)
    def test_does_nothing_behind_the_back_of_imports(self, path: Path) -> None:
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}

    @pytest.mark.parametrize("library", WIRE_LIBRARIES)
    def test_wire_libraries_are_known_to_few(self, library: str) -> None:
        users = {
            path.relative_to(PACKAGE).as_posix()
            for path in PACKAGE.rglob("*.py")
            if any(is_within(module, library) for module in imports(path))
        }
        assert users == {f"protocol/{name}.py" for name in WIRE_LIBRARIES[library]}

    def test_is_imported_without_any_driver(self) -> None:
        """In a fresh interpreter, so that nothing else has imported them."""
        code = (
            "import sys, kps.protocol.hub, kps.protocol.client_session\n"
            "unwanted = {'asyncio', 'uvloop', 'threading', 'ssl', 'logging', 'kps.io_asyncio',"
            " 'kps.io_sync'}\n"
            "print(*sorted(unwanted & set(sys.modules)))"
        )
        shown = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        )
        assert shown.stdout.split() == []


class TestLayers:
    def test_every_module_has_one(self) -> None:
        named = [name for layer in LAYERS for name in layer]
        assert len(named) == len(set(named))
        assert set(named) == {path.stem for path in PROTOCOL} - {"__init__"}

    @pytest.mark.parametrize("path", PROTOCOL, ids=lambda path: path.stem)
    def test_none_imports_what_is_above_it(self, path: Path) -> None:
        if path.stem == "__init__":
            assert list(imports(path)) == []  # importing one module must not import them all
            return
        level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
        for module in imports(path, at_runtime=True):
            if is_within(module, "kps.protocol"):
                other = module.removeprefix("kps.protocol.")
                assert level[other] <= level[path.stem], f"{path.stem} imports {other}"

    def test_core_does_not_know_its_drivers(self) -> None:
        for path in [*PROTOCOL, PACKAGE / "errors.py"]:
            for module in imports(path):
                assert (
                    not is_within(module, "kps")
                    or is_within(module, "kps.protocol")
                    or (module == "kps.errors")
                )

    def test_drivers_do_not_know_each_other(self) -> None:
        for driver, other in (("io_asyncio", "io_sync"), ("io_sync", "io_asyncio")):
            for path in (PACKAGE / driver).rglob("*.py"):
                assert not any(is_within(m, f"kps.{other}") for m in imports(path)), path

    def test_threaded_driver_has_no_event_loop(self) -> None:
        for path in (PACKAGE / "io_sync").rglob("*.py"):
            assert not {"asyncio", "uvloop"} & set(imports(path)), path

    def test_testing_needs_no_test_framework(self) -> None:
        """``kps.testing`` is for the tests of programs, whatever they are run with."""
        modules = set(imports(PACKAGE / "testing.py"))
        assert not modules & {"pytest", "hypothesis", "unittest"}
        assert not modules & {"socket", "asyncio", "threading", "time"}


class TestSources:
    @pytest.mark.parametrize(
        "path", EVERY_SOURCE, ids=lambda path: path.relative_to(ROOT).as_posix()
    )
    def test_has_a_docstring(self, path: Path) -> None:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert docstring, f"{path} does not say what it is for"

    @pytest.mark.parametrize("path", PROTOCOL, ids=lambda path: path.stem)
    def test_public_names_of_the_core_are_documented(self, path: Path) -> None:
        """Classes and functions; methods that a base class documents need not repeat it."""
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path.stem}.{node.name}"
