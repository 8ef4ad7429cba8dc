"""Ends connections of clients of other nodes, when the program of a node says so."""

from collections.abc import Callable
from typing import Final

from kps.protocol.cluster.survey import Reply, Survey, Told
from kps.protocol.server.clients import Clients

_DISMISS: Final = "dismiss for a program"  # what is asked
_DONE: Final = b"done"


class Dismissal:
    """Asks other nodes to end connections, and does so when they ask.

    A node that says nothing for ``patience`` seconds counts as one that does not have the client.
    """

    def __init__(self, clients: Clients, survey: Survey, patience: float) -> None:
        self._clients = clients
        self._survey = survey
        self._patience = patience
        survey.answers[_DISMISS] = self._tell

    def ask(self, client_id: str, reason: str, done: Callable[[bool], object]) -> None:
        """Let the node of a client end its connection for good.

        Call ``done``, at once or later, with whether a node has told that it had the client.
        """

        def told(answers: Told) -> None:
            done(bool(answers))  # a node without the client answers with nothing

        self._survey.ask(_DISMISS, client_id, reason, patience=self._patience, done=told)

    def _tell(self, reply: Reply, client_id: str, reason: str) -> None:
        reply(_DONE if self._clients.dismiss_here(client_id, reason) else b"")
