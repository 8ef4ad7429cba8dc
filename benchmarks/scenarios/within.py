"""What a publication costs in the program that runs the server."""

from collections.abc import Sequence

from model import Case, Figure, Sample, Scale, Scenario
from scenarios.flow import worker

EACH = Figure("a publication", "µs", more_is_better=False)
NOBODY = "to nobody"
PLAIN = "to a plain callback, inline"


def measure(handler: str, seconds: float) -> Sample:
    with worker("within", handler, seconds) as process:
        return {EACH.title: process.report()["each"] * 1e6}


def _case(name: str, handler: str) -> Case:
    def run(server: object, scale: Scale) -> Sample:
        return measure(handler, scale.seconds)

    return Case(name, run)


SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="within",
        title="A server's own publications",
        text="Processor time of `kps.Server.publish` in the program that runs the server, which "
        "has no clients: no bytes are written. 100 messages are published before the event loop "
        "goes on and the callback has them.",
        figures=(EACH,),
        cases=(
            _case(NOBODY, "nobody"),
            _case(PLAIN, "plain"),
            _case("to a coroutine callback", "coroutine"),
        ),
    ),
)
