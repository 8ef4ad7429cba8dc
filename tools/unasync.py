"""Write the blocking faces of KPS from the asyncio ones.

    python tools/unasync.py            # write them (make faces)
    python tools/unasync.py --check    # exit with 1 when a file is not what would be written

Each file below is written for asyncio by hand. What is made of it, line by line:

* ``async`` and ``await`` go away, and names of asyncio become those that block (``NAMES``);
* the body of a method marked ``@locked`` goes into ``with self._driver.lock:``;
* lines that end with ``# asyncio`` go away.

What truly differs between the two worlds is no matter of this: it is in modules of the same names
that are written by hand on both sides.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent / "kps"

FACES = {
    f"io_asyncio/{name}.py": f"io_sync/{name}.py"
    for name in (
        *("ack", "client", "participant", "publisher", "relay", "server"),
        *("server_program", "subscription", "traced", "traced_program", "traced_publisher"),
    )
} | {f"compat/unified{end}.py": f"compat/blocking{end}.py" for end in ("", "_client", "_server")}

NAMES = {
    r"\basync (def|with|for) ": r"\1 ",
    r"(?<!``)\bawait ": "",
    r"\b__a(iter|next|enter|exit)__\b": r"__\1__",
    r"\bCoroutine\[Any, Any, (.*)\]": r"\1",
    r" and driver\.is_running\(\)": "",
    r"\bStopAsyncIteration\b": "StopIteration",
    r"\bAsyncIterator\b": "Iterator",
    r"\bkps\.io_asyncio\b": "kps.io_sync",
    r"\bkps\.compat\.unified(|_client|_server)\b": r"kps.compat.blocking\1",
    r"\bkps\.(Ack|Client|Messages|Server|Subscription)\b": r"kps.sync.\1",
}

LOCK = "with self._driver.lock:"

ONLY_THERE = "  # asyncio\n"


def blocking(original: str, name: str) -> str:
    """Return the blocking form of a source file."""
    kept = [line for line in original.splitlines(keepends=True) if not line.endswith(ONLY_THERE)]
    text = "".join(lock(kept))
    for pattern, replacement in NAMES.items():
        text = re.sub(pattern, replacement, text)
    header = f"# Made from kps/{name} by tools/unasync.py: edit that one.\n\n"
    return ruff("format", "-", text=ruff("check", *FIXES, "-", text=header + text))


def lock(lines: list[str]) -> list[str]:
    """Put the bodies of methods marked ``@locked``, behind their docstrings, into the lock."""
    done: list[str] = []
    ahead = iter(range(len(lines)))
    for number in ahead:
        if lines[number].strip() != "@locked":
            done.append(lines[number])
            continue
        body, end = body_of(lines, number)
        indent = re.match(" *", lines[body]).group() if body < end else ""  # type: ignore[union-attr]
        done += lines[number + 1 : body]
        done.append(f"{indent}{LOCK}\n")
        done += [f"    {line}" if line.strip() else line for line in lines[body:end]]
        for _ in range(number + 1, end):
            next(ahead)
    return done


def body_of(lines: list[str], mark: int) -> tuple[int, int]:
    """Where the body of a marked method begins, behind its docstring, and where it ends."""
    depth = len(lines[mark]) - len(lines[mark].lstrip())
    number = mark + 1
    while not lines[number].rstrip().endswith(":"):  # the parameters may take several lines
        number += 1
    body = number + 1
    if lines[body].lstrip().startswith('"""'):
        if lines[body].count('"""') < 2:
            body += 1
            while '"""' not in lines[body]:
                body += 1
        body += 1
    end = body
    for number in range(body, len(lines)):
        line = lines[number]
        if line.strip():
            if len(line) - len(line.lstrip()) <= depth:
                break
            end = number + 1
    return body, end


FIXES = ("--fix-only", "--quiet", "--select", "I001,F401")


def ruff(*arguments: str, text: str) -> str:
    """Have the linter sort imports, drop unused ones, and lay the source out."""
    command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", "kps/face.py"]
    return subprocess.run(
        command, input=text, capture_output=True, text=True, check=True, cwd=ROOT.parent
    ).stdout


def main() -> int:
    stale = []
    for name, target in FACES.items():
        text = blocking((ROOT / name).read_text(encoding="utf-8"), name)
        path = ROOT / target
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(target)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if "--check" in sys.argv and stale:
        print("not up to date, run make faces:", *stale)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
