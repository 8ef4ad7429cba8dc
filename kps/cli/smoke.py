"""The command ``kps-test``: checks that this installation works.

It connects two clients, subscribes, publishes, sends a direct message and asks for acks, on a
server of its own or at a given address. The token for a given server is in ``KPS_TOKEN``.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn

from kps.cli.main import start


def main(words: Sequence[str] | None = None) -> NoReturn:
    """Run the smoke test and exit: 0 if all works, 1 if not."""

    def prepare(words: Sequence[str]) -> Callable[[], int]:
        from kps.cli.checking import prepare

        return prepare(words)

    start(prepare, words)


if __name__ == "__main__":
    main()
