"""Every message that a user of KPS may meet, read from the sources.

They are templates: what is put into them is ``…``. The messages of the command line are not here:
it writes most of them around errors of the library, and says itself where a value is from.
"""

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kps import errors

PACKAGE = Path(__file__).parent.parent / "kps"
# The command line, and what the authors of clients and servers run: it compares, and shows why.
LEFT_OUT = ("cli", "testing")

ERRORS = {name for name, one in vars(errors).items() if inspect.isclass(one)} - {"Refused"}
"""Classes, each of which has its text as the first argument."""
OTHERS = {"InvalidMessage", "BrokerFailed", "Malformed", "_Unfit", "ValueError", "TypeError"}
"""More such: what the server answers, what a broker does, why a JWT is refused, and so on."""
SECOND = {
    "Refusal",
    "Closed",
    "close",
    "fail",
    "text",
    "_close",
    "_refusal",
    "refusal",
    "refuse_login",
}
"""What has a text as the second argument: closing frames, HTTP answers, refusals of the bridge."""
HINTED = {"_unreadable", "_unusable"}
"""Functions that put a hint, their second argument, behind a text."""
FIRST = {
    "abort",
    "_refuse",
    "_turn_away",
    "_bad",
    "error",
    "_HookFailed",
    "_tell",
    "refuse",
    "__init__",
}
LINES = {"write", "write_now", "_write", "_log"}
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.match_case)
HOLE = "…"


class Found(NamedTuple):
    """A message, and where it is."""

    text: str
    path: str
    line: int


@cache
def messages() -> list[Found]:
    """All messages, in the order of their files."""
    return [
        Found(text, path.relative_to(PACKAGE.parent).as_posix(), line)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in LEFT_OUT
        for text, line in sorted(set(in_source(path.read_text(encoding="utf-8"))))
    ]


def in_source(source: str) -> Iterator[tuple[str, int]]:
    """The messages of a module, each with its line."""
    tree = ast.parse(source)
    shared = dict(assigned(tree.body))
    scopes = [node for node in ast.walk(tree) if isinstance(node, SCOPES)]
    seen: set[ast.Call] = set()
    for scope in [*reversed(scopes), tree]:  # inner ones first
        inner = {} if scope is tree else dict(assigned(ast.walk(scope)))
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and node not in seen:
                seen.add(node)
                for argument in texts_of(node):
                    for text in templates(argument, {**shared, **inner}):
                        if re.search(r"[a-z]{2,} +\S", text.replace(HOLE, "")):  # not a name
                            yield text, node.lineno


@cache
def all_texts() -> set[str]:
    """Every text of the sources, whatever it is for."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
                found.update(templates(node, {}))
    return found


def texts_of(call: ast.Call) -> list[ast.expr]:
    """The arguments of a call that are messages."""
    name = ast.unparse(call.func).rpartition(".")[2]
    arguments = call.args
    if name in LINES and len(arguments) > 2:
        level = ast.unparse(arguments[0])
        return arguments[2:3] if re.search("WARNING|ERROR|^level$", level) else []
    if name in ERRORS | OTHERS | FIRST:
        return arguments[:1]
    if name in SECOND | HINTED:
        return arguments[1:2]
    return []


def assigned(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, list[ast.expr]]]:
    """What is assigned to each name by some statements."""
    found: dict[str, list[ast.expr]] = {}
    for node in sorted(nodes, key=lambda node: getattr(node, "lineno", 0)):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for one, value in zip(target.elts, node.value.elts, strict=False):
                        if isinstance(one, ast.Name):
                            found.setdefault(one.id, []).append(value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            before = found.get(node.target.id)
            if before:
                before[-1] = ast.BinOp(before[-1], ast.Add(), node.value)
    yield from found.items()


def templates(node: ast.expr, names: dict[str, list[ast.expr]]) -> list[str]:
    """The texts that an expression may be, without what is not known before the program runs."""
    match node:
        case ast.Constant(str(value)):
            return [re.sub(r"%\(\w+\)[-.\d]*[sdrf]|%[sdr]|\{\w*(![rs])?\}", HOLE, value)]
        case ast.JoinedStr(values):
            parts = [templates(one, names) for one in values]
            return [re.sub(f"{HOLE}+", HOLE, "".join(part[0] for part in parts))]
        case ast.FormattedValue():
            return [HOLE]
        case ast.BinOp(left, ast.Add(), right):
            return [a + b for a in templates(left, names) for b in templates(right, names)]
        case ast.BinOp(left, ast.Mod(), _):
            return templates(left, names)
        case ast.IfExp(_, body, orelse):
            return templates(body, names) + templates(orelse, names)
        case ast.Call(ast.Attribute(value, "format")):
            return templates(value, names)
        case ast.Subscript(ast.Name(name)) if name in names:
            tables = [one for one in names[name] if isinstance(one, ast.Dict)]
            return [
                text for one in tables for each in one.values for text in templates(each, names)
            ]
        case ast.Name(name) if name in names:
            others = {key: value for key, value in names.items() if key != name}
            return [text for one in names[name] for text in templates(one, others)]
    return [HOLE]
