"""The two builds of the core: what is compiled, and what stays ordinary Python in both."""

import ast
import copy
import inspect
import pickle
import runpy
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import kps
from kps import (
    AckResponse,
    Backoff,
    ClientLimits,
    GroupResponse,
    History,
    HttpRequest,
    HttpResponse,
    Identity,
    Message,
    Past,
    Pattern,
    Permissions,
    Position,
    Presence,
    Receipt,
    ServerLimits,
    Subscribing,
)
from kps.protocol.build import BUILD
from kps.protocol.server.events import ConnectedClient

ROOT = Path(__file__).parent.parent
PACKAGE = Path(kps.__file__).parent
SOURCES = (".py", ".pyc")


def modules(kind: str) -> set[str]:
    """The modules that pyproject.toml names as ``compiled`` or ``interpreted``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    paths = [path for glob in hook[kind] for path in PACKAGE.parent.glob(glob)]
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in paths
    }


INTERPRETED = modules("interpreted")
MODULES = sorted(modules("compiled") | INTERPRETED)


def is_compiled(module: str) -> bool:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return not spec.origin.endswith(SOURCES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_of_the_build_that_it_should_be(module: str) -> None:
    assert is_compiled(module) is (BUILD == "compiled" and module not in INTERPRETED)


@pytest.mark.pure("it reads the sources")
@pytest.mark.parametrize("module", sorted(set(MODULES) - INTERPRETED))
def test_mypyc_makes_nothing_else_of_generator_expressions(module: str) -> None:
    """It makes lists of them, which is said only after minutes; in these calls that is the same."""
    taken = {"all", "any", "frozenset", "join", "max", "min", "next", "sum", "tuple", "update"}
    tree = ast.parse((PACKAGE.parent / f"{module.replace('.', '/')}.py").read_text("utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    right = {
        id(call.args[0])
        for call in calls
        if call.args and ast.unparse(call.func).rpartition(".")[2] in taken
    }
    found = [node for node in ast.walk(tree) if isinstance(node, ast.GeneratorExp)]
    assert [node.lineno for node in found if id(node) not in right] == []


def test_there_is_something_to_compile() -> None:
    assert {"kps.protocol.server.hub", "kps.protocol.wire.frames"} <= set(MODULES) - INTERPRETED


def test_programs_import_the_same_build_as_the_tests() -> None:
    code = "from kps.protocol.build import BUILD; print(BUILD)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"{BUILD}\n"


def test_a_missing_compiler_is_told_before_anything_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("hatchling")
    hook = runpy.run_path(str(ROOT / "tools" / "compile_core.py"))
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(ValueError, match=r"a C compiler, and there is no no-such-compiler$"):
        hook["check_tools"]()


ACK = AckResponse("ann", True, None, "ack_1", {"n": [1, 2]})
REQUEST = HttpRequest("GET", "/ws/bus?token=t", (("host", "h"),), "127.0.0.1:1", "http")
CLIENT = ConnectedClient("ann", "", "127.0.0.1:1", 2)
VALUES: list[Any] = [
    ACK,
    Backoff(longest=9.0),
    CLIENT,
    ClientLimits(max_topic=10),
    GroupResponse("ann", False, "e", scope="t", group="g", attempts=2, failures=(("bob", "x"),)),
    History("a/**", size=3),
    REQUEST,
    HttpResponse(404, b"not here"),
    Identity("ann", Permissions(publish=("a/*",))),
    Message("t", {"n": 1}, "ann", 7),
    Past([Message("t", 1, "ann")], Position("e", 3), True, None),
    Pattern("a/*/b"),
    Presence("t", {"ann": None}, 1, 3),
    Receipt(3, is_degraded=False),
    ServerLimits(max_connections=3),
    Subscribing(CLIENT, Pattern("a/*"), None),
]


class TestWhatProgramsSee:
    """Values are ordinary Python in both builds."""

    @pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
    def test_can_be_pickled_and_copied(self, value: Any) -> None:
        for other in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
            assert type(other) is type(value)
            assert repr(other) == repr(value)

    def test_can_be_extended(self) -> None:
        class Mine(Message[int]):
            extra = 1

        assert Mine("t", 1, "ann").data == 1

    @pytest.mark.parametrize("name", kps.__all__)
    def test_shows_its_documentation_and_its_signatures(self, name: str) -> None:
        value = getattr(kps, name)
        is_ours = getattr(value, "__module__", "").startswith("kps.")
        if not is_ours or not (inspect.isclass(value) or inspect.isroutine(value)):
            return
        assert not is_compiled(value.__module__)
        assert value.__doc__
        assert inspect.isclass(value) or inspect.signature(value).parameters
        for attribute, member in vars(value).items():
            if inspect.isfunction(member) and not attribute.startswith("_"):
                assert member.__code__.co_filename.endswith(".py")
                assert inspect.signature(member).parameters
