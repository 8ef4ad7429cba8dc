"""The command ``kps top``."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from kps.cli import readers
from kps.cli.connecting import PatientOptions, client_options
from kps.cli.declaring import Command, option, switch
from kps.cli.figures_view import NAME, SORTS, Figures, Wish, draw
from kps.cli.manual import columns
from kps.cli.screen import Screen
from kps.errors import KPSError, ServerError
from kps.io_asyncio.client import Client
from kps.io_asyncio.loop import call
from kps.io_asyncio.signals import on_signals
from kps.protocol.bus.message import Message

_FIGURES = "__kps/stats"  # where a server publishes its figures (spec, 12.8)
_CLIENTS = "__kps/clients"  # where it is asked for the first clients in an order
_SORTS_THERE = {"slow": "queue_bytes", "in": "received_rate", "out": "delivered_rate", NAME: "id"}
"""What the server calls by what it sorts, if that is another name."""
_PATIENCE = 5.0  # seconds that these may take to come, each second

_SEQUENCE = re.compile(r"\x1b([\[O][0-9;]*[A-Za-z~])?")
"""What arrows and the like send."""

_BY_KEY: Final = {name[0]: name for name in (*SORTS, NAME)}


@dataclass(frozen=True, kw_only=True)
class TopOptions(PatientOptions):
    """What ``kps top`` takes."""

    sort: str = option(
        "",
        "by what clients are sorted",
        read=readers.name,
        choices=(*SORTS, NAME),
        default="slow",
    )
    once: bool = switch("print one picture of all, and end; also if the output is no terminal")


def top(options: TopOptions) -> int:
    """Show the figures of a server until somebody has seen enough."""
    is_live = os.isatty(1) and not options.once and os.name == "posix"
    call(_watch if is_live else _look, options)
    return 0


async def _look(options: TopOptions) -> None:
    """Print what there is now, and what has happened in the second before."""
    wish = Wish(sort=options.sort, has_keys=False)
    async with _figures_of(options) as news:
        figures = await news.next(wish)
        while not figures.has_rates:
            figures = await news.next(wish)
    for line in draw(figures, wish, columns(), None):
        print(line.text)


async def _watch(options: TopOptions) -> None:
    async with _figures_of(options) as news:
        with Screen() as screen:
            await _Live(screen, news, Wish(sort=options.sort, has_keys=screen.has_keys)).run()


class _News:
    """What the server publishes about itself."""

    def __init__(self, patience: float | None) -> None:
        self.client: Client
        self._patience = patience
        self._queue: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue(1)
        self._latest: Mapping[str, Any] | None = None

    async def came(self, message: Message) -> None:
        """Take figures; those that nobody has taken yet are old."""
        if isinstance(message.data, dict):
            self._put(message.data)

    async def ended(self) -> None:
        """Note that none come any more."""
        self._put(None)

    async def next(self, wish: Wish) -> Figures:
        """Wait for figures, with the clients that are wished first.

        Raises :class:`kps.KPSError` if none come.
        """
        try:
            now = await asyncio.wait_for(self._queue.get(), self._patience)
        except TimeoutError:
            raise KPSError(
                "the server tells no figures: it runs without its console, or is too busy"
            ) from None
        if now is None:
            await self.client.flush()  # raises the reason
            raise KPSError("the client has ended")
        before, self._latest = self._latest, await self._with_first_clients(now, wish)
        return Figures(self._latest, before)

    async def _with_first_clients(
        self, figures: Mapping[str, Any], wish: Wish
    ) -> Mapping[str, Any]:
        """Ask for the first clients, if there are more than the server lists by itself."""
        listed, count = figures.get("clients"), figures.get("client_count")
        if not (isinstance(listed, list) and isinstance(count, int) and count > len(listed)):
            return figures
        question = {
            "sort": _SORTS_THERE.get(wish.sort, wish.sort),
            "descending": (wish.sort != NAME) != wish.is_reversed,
            "limit": len(listed) or None,
        }
        try:
            found = await self.client.request(_CLIENTS, question, timeout=_PATIENCE)
        except KPSError:  # it is too busy, or is gone, which is told when no figures come
            return figures
        first = found.get("clients") if isinstance(found, dict) else None
        return {**figures, "clients": first} if isinstance(first, list) else figures

    def _put(self, item: Mapping[str, Any] | None) -> None:
        with contextlib.suppress(asyncio.QueueEmpty):
            self._queue.get_nowait()
        self._queue.put_nowait(item)


@contextlib.asynccontextmanager
async def _figures_of(options: TopOptions) -> AsyncIterator[_News]:
    """Subscribe to the figures of a server."""
    news = _News(None if options.reconnect else _PATIENCE)
    async with Client(
        options.address,
        id=options.id,
        reconnect=options.reconnect,
        on_close=news.ended,
        **client_options(options),
    ) as client:
        news.client = client
        try:
            await client.subscribe(_FIGURES, news.came)
        except ServerError as error:
            hint = "; an identity needs the permission console" if error.code == "forbidden" else ""
            raise KPSError(f"cannot see the figures: {error}{hint}") from None
        yield news


class _Live:
    """Shows figures on a screen as they come, and obeys keys."""

    def __init__(self, screen: Screen, news: _News, wish: Wish) -> None:
        self._screen = screen
        self._news = news
        self._wish = wish
        self._figures: Figures | None = None
        self._is_drawing = self._is_stale = False
        self._drawing: asyncio.Future[None] | None = None  # for a key
        self._has_ended = asyncio.Event()

    async def run(self) -> None:
        """Go on until somebody types q or Ctrl-C, or no more figures come, which raises."""
        handlers = {
            signal.SIGINT: self._end,
            signal.SIGTERM: self._end,
            signal.SIGHUP: self._end,
            signal.SIGWINCH: self._draw,
            signal.SIGTSTP: self._stand_still,
        }
        loop = asyncio.get_running_loop()
        following = asyncio.ensure_future(self._follow())
        ending = asyncio.ensure_future(self._has_ended.wait())
        with on_signals(handlers):
            if self._screen.has_keys:
                loop.add_reader(self._screen.keys, self._read_keys)
            try:
                await asyncio.wait({following, ending}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    following.result()
            finally:
                if self._screen.has_keys:
                    loop.remove_reader(self._screen.keys)
                following.cancel()
                ending.cancel()
                await asyncio.gather(following, ending, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            figures = await self._news.next(self._wish)
            if not self._wish.is_paused:
                self._figures = figures
                await self._draw()

    async def _draw(self) -> None:
        """Draw the latest figures, in a thread: a terminal may be held for any time."""
        self._is_stale = True
        if self._is_drawing:
            return
        self._is_drawing = True
        try:
            while self._is_stale and self._figures is not None:
                self._is_stale = False
                lines = draw(self._figures, self._wish, *self._screen.size())
                await asyncio.to_thread(self._screen.show, lines)
        finally:
            self._is_drawing = False

    async def _end(self) -> None:
        self._has_ended.set()

    async def _stand_still(self) -> None:
        self._screen.stand_still()
        await self._draw()

    def _read_keys(self) -> None:
        try:
            typed = os.read(self._screen.keys, 1024).decode(errors="replace")
        except OSError:
            typed = ""
        if not typed:  # the terminal is gone
            self._has_ended.set()
        for key in _SEQUENCE.sub("", typed):
            self._obey(key)
        self._drawing = asyncio.ensure_future(self._draw())

    def _obey(self, key: str) -> None:
        wish = self._wish
        if key == "q":
            self._has_ended.set()
        elif key == " ":
            self._wish = replace(wish, is_paused=not wish.is_paused)
        elif key == "r":
            self._wish = replace(wish, is_reversed=not wish.is_reversed)
        elif key in _BY_KEY:
            self._wish = replace(wish, sort=_BY_KEY[key])


COMMAND = Command(
    "kps top",
    TopOptions,
    top,
    about=[
        "It shows what the console shows: the server, its clients, topics and patterns, once a "
        "second. A client with ! is slow: messages wait for it, or were dropped just now. Of more "
        "than 200 clients it shows those that come first: for slow, those for which most bytes "
        "wait. The server lists 200 topics at most. Where it wants tokens, it tells all this to "
        "an identity with the permission console.",
        "Keys: q ends it, space pauses, r reverses the order, and the first letter of what "
        "--sort takes sorts by that.",
    ],
    examples=[
        ("kps top", "until q or Ctrl-C"),
        ("kps top --sort out", "who gets the most messages"),
        ("kps top --once", "one picture of all, for a file or a pipe"),
    ],
)
