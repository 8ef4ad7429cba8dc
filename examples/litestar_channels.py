"""Litestar's channels over KPS: what one process publishes comes to the users of all of them.

    pip install '/path/to/the/checkout[litestar]' 'uvicorn[standard]'
    kps serve --history '**'
    uvicorn --app-dir examples --workers 2 litestar_channels:app
    curl -X POST -H 'Content-Type: application/json' -d '{"title": "hello"}' localhost:8000/news

Users are WebSockets at ``/live/news``, and get the latest five first. Other clients of the bus have
the same on the topic ``site/news``: ``kps sub site/news``. The server's address is taken from the
variable ``KPS_ADDRESS``.
"""

import os
from typing import Any

from litestar import Litestar, post
from litestar.channels import ChannelsPlugin

from kps.litestar import KpsChannelsBackend

ADDRESS = os.environ.get("KPS_ADDRESS", "localhost:9313")

live = ChannelsPlugin(
    KpsChannelsBackend(ADDRESS, prefix="site/", as_json=True),
    channels=["news"],
    create_ws_route_handlers=True,
    ws_handler_base_path="/live",
    ws_handler_send_history=5,
)


@post("/news")
async def tell(data: dict[str, Any], channels: ChannelsPlugin) -> dict[str, Any]:
    """Publish what was posted."""
    await channels.wait_published(data, "news")
    return data


app = Litestar([tell], plugins=[live])
