# Made from kps/io_asyncio/traced_program.py by tools/unasync.py: edit that one.

"""What only the program of a server has of what is traced."""

from kps.io_sync.server_program import ServerProgram
from kps.io_sync.traced import Traced


class TracedProgram(Traced, ServerProgram):
    """The verbs of a server's program with spans around them."""

    def _stop(self, grace: float) -> None:
        super()._stop(grace)  # type: ignore[misc]  # the server has it
        for handle in list(self._under_way):  # no notice comes any more of those that end with it
            self._end_span(handle)
