"""A web application that gives work away: workers come to the bus in its process, and are a group.

    pip install /path/to/the/checkout starlette 'uvicorn[standard]'
    uvicorn --app-dir examples starlette_bus:app
    python examples/worker.py ws://127.0.0.1:8000/bus/      # in a terminal, or in several
    curl -d '[1, 2, 3]' localhost:8000/sums

The answer tells which worker has done it, when it has. Give a real bus an ``identify`` or ``auth``,
so that not everybody can be a worker.
"""

import json

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from kps import GroupResponse
from kps.asgi import Bus

GROUP = "workers of jobs"
TIMEOUT = 10.0
"""Seconds in which a job is done, or has failed."""

bus = Bus()


async def sums(request: Request) -> JSONResponse:
    """Give a job to a worker, and wait until it is done."""
    try:
        numbers = await request.json()
    except json.JSONDecodeError:
        return JSONResponse({"error": "send numbers, as JSON"}, 400)
    ack = await bus.publish_with_ack("jobs", {"add": numbers}, timeout=TIMEOUT)
    outcome = (await ack.wait()).get(GROUP)
    if not isinstance(outcome, GroupResponse):
        return JSONResponse({"error": "there is no worker"}, 503)
    if not outcome.success:
        return JSONResponse({"error": outcome.error}, 502)
    return JSONResponse({"done by": outcome.client_id})


app = Starlette(
    routes=[Route("/sums", sums, methods=["POST"]), Mount("/bus", bus)], lifespan=bus.lifespan
)
