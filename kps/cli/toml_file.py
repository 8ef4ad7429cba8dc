"""TOML files of options, and where in them something is."""

from typing import Any

from kps.cli.line import Mistake
from kps.io_common.system_errors import describe_file
from kps.io_common.toml import NotTOML, parse


class TomlFile:
    """What a TOML file has. Raises :class:`Mistake`, which names the line of a fault."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with open(path, "rb") as opened:
                content = opened.read()
        except (OSError, ValueError) as error:
            raise Mistake(f"cannot read {path}: {describe_file(error, path)}") from None
        try:
            self.values = parse(content)
        except NotTOML as error:
            raise Mistake(f"cannot read {path}: {error}") from None
        # TOML has other line ends than ``splitlines``.
        self._lines = [f"{line}\n" for line in content.decode("utf-8-sig").split("\n")]

    def place(self, *keys: str | int) -> str:
        """Return the file and the line of a value that it has, given by its keys."""
        first = 1  # the line with which a statement begins
        for count in range(1, len(self._lines) + 1):
            try:
                values = parse("".join(self._lines[:count]).encode())
            except NotTOML:
                continue  # the statement has more lines
            if _has(values, keys):
                return f"{self.path}, line {first}"
            first = count + 1
        return self.path


def _has(values: Any, keys: tuple[str | int, ...]) -> bool:
    try:
        for key in keys:
            values = values[key]
    except (KeyError, IndexError, TypeError):
        return False
    return True
