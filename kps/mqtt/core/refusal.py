"""Why a message does not pass. Each reason has a name, under which it is counted."""

from kps.errors import KPSError
from kps.mqtt.core.reasons import FAILED


class Refusal(KPSError):
    """A message does not pass the bridge.

    ``name`` is that of the count, ``code`` what a broker of MQTT 5 is answered.
    """

    def __init__(self, name: str, text: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.name = name
        self.code = code
