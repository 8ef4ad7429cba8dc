"""What is said behind an error, in the words of the command line."""

import pytest

from kps.cli.advice import advice
from kps.cli.sources import Settled
from kps.cli.subscribe import COMMAND as SUB
from kps.errors import ConnectFailed, KPSError, ServerError

REFUSED = ConnectFailed("cannot connect to localhost:9313: connection refused")


@pytest.mark.parametrize(
    ("error", "words", "said"),
    [
        (REFUSED, [], " (kps serve starts a server; --address names another one)"),
        (REFUSED, ["--address", "localhost:9313"], ""),
        (REFUSED, ["--port", "9313"], ""),
        (
            ConnectFailed("cannot connect to h/p: refused with HTTP status 404", 404),
            ["--address", "h/p"],
            " (there is no bus at this path; the usual one is /ws/bus)",
        ),
        (ServerError("no", "forbidden", topic="t"), [], " (the topic 't')"),
        (ServerError("no", "forbidden", to="x"), [], ""),
        (
            ServerError("this client may not use this id", "forbidden"),
            [],
            " (--id names one that the identity may use)",
        ),
    ],
)
def test_where_it_went_wrong(error: KPSError, words: list[str], said: str) -> None:
    assert advice(error, Settled.read(SUB, ["t", *words], {})) == said
