"""A chat with rooms: who is here and who types, what was said before, private lines, who has read.

    python examples/chat/chat.py          # and open the page that it names, in two windows

``rooms/NAME`` has the lines of a room, and its members are those who are subscribed to it.
``typing/NAME`` tells who types there. A private line is a direct message. Arguments: optionally
the address of the bus (localhost:8001), and the port of the page (8000).
"""

import re
import sys
from functools import partial
from hmac import compare_digest
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import kps

owners: dict[str, str] = {}
"""Of each name that somebody has taken, the secret which that browser has made."""


async def identify(token: str) -> kps.Identity | None:
    """Let the first who comes with a name have it. In place of this you have a login."""
    name, _, secret = token.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,20}", name) or len(secret) < 16:
        return None
    if not compare_digest(owners.setdefault(name, secret).encode(), secret.encode()):
        return None
    return kps.Identity(
        name,
        kps.Permissions(
            ids=[name],  # so a line of alice is hers, whatever others write into their messages
            publish=["rooms/*", "typing/*"],
            subscribe=["rooms/*", "typing/*"],
            presence=["rooms/*"],
            groups=[],  # members of a group share the lines: one would take some from the others
        ),
    )


class Page(SimpleHTTPRequestHandler):
    """Serves the files of this folder, and as ``bus.js`` the address of the bus."""

    bus = ""

    def do_GET(self) -> None:
        """Answer a request."""
        if self.path != "/bus.js":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript")
        self.end_headers()
        self.wfile.write(
            f"export const address = '{self.bus}';\n"
            f"export {{ Client }} from 'http://{self.bus}/kps.js';\n".encode()
        )
        return None

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing for each request."""


def main(address: str = "localhost:8001", port: str = "8000") -> None:
    files = partial(Page, directory=str(Path(__file__).parent))
    pages = ThreadingHTTPServer(("127.0.0.1", int(port)), files)
    url = f"http://127.0.0.1:{pages.server_port}"

    def ready(server: kps.Server) -> None:
        Page.bus = server.address
        Thread(target=pages.serve_forever, daemon=True).start()
        print(f"open {url} in two windows", flush=True)

    server = kps.Server(
        address,
        auth=identify,
        origins=[url],  # the page comes from another port than the bus
        history=[kps.History("rooms/*", size=200, ttl=86_400)],
        # Nobody types 50 lines in a second; but acks of what others have written count, too.
        limits=kps.ServerLimits(message_rate=50, max_message=8_192, max_subscriptions=20),
        console=False,
    )
    server.run(ready)


if __name__ == "__main__":
    main(*sys.argv[1:])
