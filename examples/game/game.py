"""A game for several players: steer in one arena, and be the first to collect ten dots.

    python examples/game/game.py          # and open the page that it names, in two windows

The program alone decides what happens. A player tells it a direction, as a direct message. It
publishes the whole state on ``arena`` 20 times a second, and who has won on ``wins``. Players are
those who are subscribed to ``arena`` with a name; others watch. Arguments: optionally the address
of the bus (localhost:8001), and the port of the page (8000).
"""

import asyncio
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from math import dist, hypot
from pathlib import Path
from threading import Thread
from typing import Any

import kps

TICK = 0.05  # seconds
WIDTH, HEIGHT = 100.0, 60.0
SPEED = 30.0  # per second
REACH = 3.0
DOTS, GOAL = 12, 10


@dataclass
class Player:
    """Where somebody is, and where they want to go."""

    name: str
    x: float
    y: float
    score: int = 0
    heading: tuple[float, float] = (0.0, 0.0)


class Arena:
    """The rules of the game. It knows nothing of the bus."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.players: dict[str, Player] = {}
        self.dots = [self._somewhere() for _ in range(DOTS)]

    def admit(self, members: Mapping[str, dict[str, Any] | None]) -> None:
        """Let those play who are here and say their names."""
        self.players = {
            one: self.players.get(one) or Player(str(info["name"])[:20], *self._somewhere())
            for one, info in members.items()
            if info and "name" in info
        }

    def steer(self, one: str, heading: object) -> None:
        """Have a player go into a direction, which anybody may have written anything into."""
        match heading:
            case [int() | float() as x, int() | float() as y] if one in self.players:
                length = max(1.0, hypot(x, y))  # nobody is faster than others
                self.players[one].heading = x / length, y / length

    def step(self, seconds: float) -> str | None:
        """Move all on; return the name of who has won."""
        for player in self.players.values():
            x, y = player.heading
            player.x = min(WIDTH, max(0.0, player.x + x * SPEED * seconds))
            player.y = min(HEIGHT, max(0.0, player.y + y * SPEED * seconds))
            for number, dot in enumerate(self.dots):
                if dist(dot, (player.x, player.y)) < REACH:
                    self.dots[number] = self._somewhere()
                    player.score += 1
            if player.score >= GOAL:
                for one in self.players.values():
                    one.score = 0
                return player.name
        return None

    def state(self) -> dict[str, Any]:
        """Return all that is to be drawn. Names are not in it: they are told when they change."""
        players = {
            one: [round(player.x, 1), round(player.y, 1), player.score]
            for one, player in self.players.items()
        }
        return {"players": players, "dots": self.dots}

    def _somewhere(self) -> tuple[float, float]:
        x, y = self._chance.uniform(3, WIDTH - 3), self._chance.uniform(3, HEIGHT - 3)
        return round(x, 1), round(y, 1)


async def identify(token: str) -> kps.Identity:
    """Take whoever shows a secret, so that nobody else can have the id of that player."""
    return kps.Identity(
        sha256(token.encode()).hexdigest(),
        kps.Permissions(
            publish=[],  # the state comes from the program only
            subscribe=["arena", "wins"],
            presence=["arena"],
            direct=["game"],
            groups=[],
        ),
    )


async def play(server: kps.Server, arena: Arena) -> None:
    """Run the game. Nobody is waited for: who gets one state too late gets the next one."""
    clock = asyncio.get_running_loop().time
    due = clock()
    while True:
        arena.admit(server.presence("arena").members or {})
        winner = arena.step(TICK)
        await server.publish("arena", arena.state())
        if winner is not None:
            await server.publish("wins", {"name": winner})
        due = max(due + TICK, clock())
        await asyncio.sleep(due - clock())


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
    arena = Arena(random.Random())
    files = partial(Page, directory=str(Path(__file__).parent))
    pages = ThreadingHTTPServer(("127.0.0.1", int(port)), files)
    url = f"http://127.0.0.1:{pages.server_port}"

    async def steer(message: kps.Message) -> None:
        arena.steer(message.sender, message.data)

    async def ready(server: kps.Server) -> None:
        Page.bus = server.address
        Thread(target=pages.serve_forever, daemon=True).start()
        print(f"open {url} in two windows", flush=True)
        await play(server, arena)

    server = kps.Server(
        address,
        id="game",
        auth=identify,
        on_id=steer,
        origins=[url],  # the page comes from another port than the bus
        history=[kps.History("wins", size=5)],
        limits=kps.ServerLimits(
            # Who reads too slowly gets the newest states, and no old ones one after the other.
            queue_messages=4,
            overflow=kps.Overflow.DROP_OLDEST,
            message_rate=50,  # fast fingers, and no more
            max_message=4_096,
        ),
        console=False,
    )
    server.run(ready)


if __name__ == "__main__":
    main(*sys.argv[1:])
