"""The clients have what the table of the specification names (``spec/API.md``)."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kps
import kps.sync

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "spec" / "API.md").read_text(encoding="utf-8")
CLIENTS = ROOT / "clients"


def rows(section: str) -> Iterator[list[str]]:
    """The rows of a section's table: of each language the name in it, or nothing."""
    body = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    for line in body.splitlines():
        if line.startswith("| ") and "---" not in line:
            yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def names(section: str, language: str) -> list[str]:
    """The names that a language has in a section."""
    head, *others = rows(section)
    column = head.index(language)
    return [name for row in others if (name := row[column])]


SECTIONS = "A client", "An ack", "A message", "Errors"


def test_the_tables_are_read() -> None:
    assert [len(list(rows(one))) > 5 for one in (*SECTIONS, "The unified API")] == [True] * 5
    assert "publish_with_ack" in names("A client", "Python")


@pytest.mark.parametrize("library", [kps, kps.sync], ids=["asyncio", "threads"])
def test_python(library: object) -> None:
    client, ack = (getattr(library, name) for name in ("Client", "Ack"))
    assert [name for name in names("A client", "Python") if not hasattr(client, name)] == []
    assert [name for name in names("An ack", "Python") if not hasattr(ack, name)] == []
    assert [name for name in names("A message", "Python") if not hasattr(kps.Message, name)] == []
    errors = names("Errors", "Python")
    assert all(issubclass(getattr(kps, name), kps.KPSError) for name in errors)
    unified = names("The unified API", "unified")
    assert [name for name in unified if not hasattr(client, name)] == []
    for name in ("Wait", "WaitAny", "GetStatus", "IsComplete", "Cancel"):
        assert hasattr(ack, name)


def test_javascript() -> None:
    """Its types, which a test of its own holds to the code."""
    types = (CLIENTS / "js" / "kps.d.ts").read_text(encoding="utf-8")
    for section in ("A client", "An ack", "A message"):
        for name in names(section, "JavaScript"):
            assert re.search(rf"^  (static |readonly |get )*{name}\b", types, re.M), name
    for name in names("Errors", "JavaScript"):
        assert re.search(rf"^export class {name}\b", types, re.M), name
    for name in names("The unified API", "unified"):
        assert re.search(rf"^  (static )?{name}[<(]", types, re.M), name


def test_go() -> None:
    """Its sources, since not every machine has Go."""
    source = "\n".join(path.read_text("utf-8") for path in sorted((CLIENTS / "go").glob("*.go")))
    for name in names("A client", "Go"):
        assert re.search(rf"^func (\(c \*Client\) )?{name}\(", source, re.M), name
    for name in names("An ack", "Go"):
        assert re.search(rf"^func \(a \*Ack\) {name}\(", source, re.M), name
    for name in names("A message", "Go"):
        assert re.search(rf"^(\t{name}\b|func \(m \*Message\) {name}\()", source, re.M), name
    for name in names("Errors", "Go"):
        assert re.search(rf"^(type {name} struct|\t{name}( error)? += )", source, re.M), name
    family = "\n".join(
        path.read_text("utf-8") for path in sorted((CLIENTS / "go" / "ksps").glob("*.go"))
    )
    for name in names("The unified API", "unified"):
        assert re.search(rf"^func (\(c \*Client\) )?{name}\(", family, re.M), name


def test_rust() -> None:
    """Its sources, since not every machine has Rust."""
    crates = CLIENTS / "rust"
    source = "\n".join(path.read_text("utf-8") for path in sorted(crates.glob("kps*/src/*.rs")))
    for section in ("A client", "An ack"):
        for name in names(section, "Rust"):
            assert re.search(rf"^    pub fn {name}[<(]", source, re.M), name
    for name in names("A message", "Rust"):
        assert re.search(rf"^    pub (fn )?{name}\b", source, re.M), name
    for name in names("Errors", "Rust"):
        assert re.search(rf"^    {name}\b", source, re.M), name
