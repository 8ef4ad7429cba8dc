"""The reference has all public names, and says what each field of a class is."""

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
import textwrap

import pytest

from tests.docs.blocks import ROOT

_PAGES = "\n".join(path.read_text() for path in sorted((ROOT / "docs" / "reference").glob("*.md")))
_NO_CLASSES = {"__version__", "otel", "sync"}
_TYPES = {"Application", "Identify", "Known", "Receive", "Scope", "Send"}


def _described() -> set[str]:
    """The names that the pages describe, in full."""
    found, module = set(), ""
    for kind, name in re.findall(r"^\.\. (currentmodule|auto\w+):: (\S+)", _PAGES, re.M):
        if kind == "currentmodule":
            module = name
        else:
            found.add(name if name.startswith("kps.") else f"{module}.{name}")
    return found | set(re.findall(r"`(kps\.[\w.]+)`", _PAGES))


MODULES = (
    "kps", "kps.sync", "kps.testing", "kps.asgi", "kps.channels", "kps.litestar", "kps.broadcaster"
)  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_it_has_all_names_of(module: str) -> None:
    names = set(importlib.import_module(module).__all__) - _NO_CLASSES - _TYPES
    assert {f"{module}.{name}" for name in names} <= _described()


RECORDS = {
    f"{module}.{name}": item
    for module in MODULES
    for name in importlib.import_module(module).__all__
    if dataclasses.is_dataclass(item := getattr(importlib.import_module(module), name))
    or hasattr(item, "_fields")
}


@pytest.mark.pure("it reads the sources of classes")
@pytest.mark.parametrize("name", RECORDS)
def test_each_field_has_a_text(name: str) -> None:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(RECORDS[name]))).body
    assert isinstance(definition, ast.ClassDef)
    assert not [
        field.target.id
        for field, text in itertools.pairwise([*definition.body, ast.Pass()])
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and not field.target.id.startswith("_")
        and not (isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant))
    ]
