"""Warns a program that starts a blocking client where an event loop runs."""

import logging
import sys

from kps.io_common.logger import Write

_has_warned = False


def warn_within_loop(write: Write) -> None:
    """Write a line if an event loop of asyncio runs in this thread, once in a process.

    Whoever waits for the client then stops the loop, and all that is on it. A notebook has such
    a loop too, for itself: its cells may wait.
    """
    global _has_warned
    events = sys.modules.get("asyncio.events")  # nothing runs a loop that nobody has imported
    if _has_warned or events is None or "ipykernel" in sys.modules:
        return
    if events._get_running_loop() is not None:
        _has_warned = True
        text = "a client of kps.sync starts within an event loop, which stands still while the "
        text += "program waits for it; in coroutines use kps.Client"
        write(logging.WARNING, "loop_blocked", text)
