"""What the bridge says about rules that are possible, but hardly meant. It needs no broker."""

import asyncio

import pytest

from kps.mqtt.bridge import Bridge
from kps.mqtt.core.rules import InRule
from kps.mqtt.core.settings import Settings


@pytest.mark.parametrize(("chosen", "is_doubted"), [("sensors/**", True), ("sensors/#", False)])
def test_stars_in_a_filter(chosen: str, is_doubted: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It says so at its start, also when neither side is there."""

    async def main() -> None:
        stop = asyncio.Event()
        stop.set()
        settings = Settings(broker="mqtt://127.0.0.1:1", ins=(InRule(filter=chosen),))
        await Bridge(settings, "127.0.0.1:1").run_until(stop)

    asyncio.run(main())
    said = "in the filter 'sensors/**' * is a character, as MQTT has it; + is a level, and # at"
    assert (said in caplog.text) == is_doubted
