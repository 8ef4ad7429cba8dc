"""A text that several people write at the same time.

    python examples/editor/editor.py      # and open the page that it names, in two windows

Each letter has an id, and an edit says behind which letter it belongs, not at which place: so edits
of several people come to the same text, in whatever order. A page sends its edits to this program,
which checks them and publishes them on ``edits``. Who is there, and where their cursors are, is the
presence of ``cursors``. Arguments: optionally the address of the bus (localhost:8001), and the
port of the page (8000).
"""

import sys
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import kps

MOST = 20_000  # letters, with those that have been removed

Id = tuple[int, str]
"""A letter: a number, and who wrote it. The number is larger than that of the letter before it."""


class Text:
    """Letters in their order. One that is removed stays, without text, as others may follow it."""

    def __init__(self) -> None:
        self.order: list[Id] = []
        self.letters: dict[Id, str] = {}

    def __str__(self) -> str:
        return "".join(self.letters[one] for one in self.order)

    def apply(self, edit: dict[str, Any]) -> None:
        """Make an edit. One that was made before changes nothing."""
        for one in edit["remove"]:
            self.letters[as_id(one)] = ""
        number, author = edit["id"]
        place = 0 if edit["after"] is None else self.order.index(as_id(edit["after"])) + 1
        for offset, letter in enumerate(edit["insert"]):
            new = number + offset, author
            if new in self.letters:
                place = self.order.index(new)
            else:
                # Of two letters behind the same one, that with the larger id comes first.
                while place < len(self.order) and self.order[place] > new:
                    place += 1
                self.order.insert(place, new)
                self.letters[new] = letter
            place += 1

    def check(self, edit: Any, author: str) -> None:
        """Raise ``ValueError`` for an edit that this author cannot have made of this text."""
        match edit:
            case {
                "remove": list(removed),
                "insert": str(new),
                "id": [int(number), by],
                "after": on,
            }:
                after = (0, "") if on is None else as_id(on)
                is_known = all(as_id(one) in self.letters for one in removed)
                is_known &= on is None or after in self.letters
                if is_known and by == author and after[0] < number and number < 2**50:
                    if len(self.letters) + len(new) > MOST:
                        raise ValueError("the text is too long")
                    return
        raise ValueError("this is no edit of the text")


def as_id(value: object) -> Id:
    """Read an id. Raises ``ValueError``."""
    match value:
        case [int(number), str(author)]:
            return number, author
    raise ValueError("this is no id of a letter")


async def identify(token: str) -> kps.Identity:
    """Take whoever shows a secret, so that nobody else can have the id of that author."""
    return kps.Identity(
        sha256(token.encode()).hexdigest(),
        kps.Permissions(
            publish=[],  # edits come from the program only, which has checked them
            subscribe=["edits", "cursors"],
            presence=["cursors"],
            direct=["editor"],
            groups=[],
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
    text = Text()
    files = partial(Page, directory=str(Path(__file__).parent))
    pages = ThreadingHTTPServer(("127.0.0.1", int(port)), files)
    url = f"http://127.0.0.1:{pages.server_port}"

    async def answer(message: kps.Message) -> dict[str, Any] | None:
        """Take edits of an author; or tell the whole text, and at which place of ``edits``."""
        if message.data == "open":
            epoch, offset = server.history("edits", limit=1).position or ("", 0)
            marks = [[*one, text.letters[one]] for one in text.order]
            return {"marks": marks, "position": {"epoch": epoch, "offset": offset}}
        for edit in message.data:
            text.check(edit, message.sender)
            text.apply(edit)
            await server.publish("edits", edit)
        return None  # an author who does not get this sends the edits again

    def ready(server: kps.Server) -> None:
        Page.bus = server.address
        Thread(target=pages.serve_forever, daemon=True).start()
        print(f"open {url} in two windows", flush=True)

    server = kps.Server(
        address,
        id="editor",
        auth=identify,
        on_id=answer,
        origins=[url],  # the page comes from another port than the bus
        history=[kps.History("edits", size=2000)],
        limits=kps.ServerLimits(message_rate=50, max_id=16),
        console=False,
    )
    server.run(ready)


if __name__ == "__main__":
    main(*sys.argv[1:])
