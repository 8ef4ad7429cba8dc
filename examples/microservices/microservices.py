"""A shop of three services: orders, stock, and mail, which three workers share.

    python examples/microservices/microservices.py

This program is the bus and the shop's customers. It starts the services (``services.py``), orders
some things, and prints what happens. One worker dies at a mail, and another one sends it.
"""

import asyncio
import contextlib
import os
import secrets
import sys
from pathlib import Path

from services import SERVICES, Answer, Mailed, Order

import kps

ORDERS = (
    Order(number=1, customer="ann", item="tea", count=2),
    Order(number=2, customer="bob", item="coffee", count=1),
    Order(number=3, customer="cid", item="tea", count=3),
    Order(number=4, customer="dot", item="coffee", count=2),
    Order(number=5, customer="eve", item="cake", count=1),
    Order(number=6, customer="fay", item="tea", count=1),
)

# Who may do what: each service has a token, takes its own requests, and asks those it needs.
TOKENS = {name: secrets.token_urlsafe() for name in SERVICES}
TAKES = {"orders": "orders/place", "stock": "stock/reserve"}  # the others: mail/send
ASKS = {"orders": ["stock/reserve", "mail/send", "mailed"]}
PERMISSIONS = {
    name: kps.Permissions(
        ids=[name],
        subscribe=[TAKES.get(name, "mail/send")],
        publish=["ready", f"log/{name}", *ASKS.get(name, [])],
        direct=[],
    )
    for name in SERVICES
}
IDENTITIES = {TOKENS[name]: kps.Identity(name, PERMISSIONS[name]) for name in TOKENS}


async def by_token(token: str) -> kps.Identity | None:
    """Tell whose a token is."""
    return IDENTITIES.get(token)


class Refusal(Exception):
    """An order is refused, for a ``reason``; so many are ``left``."""

    def __init__(self, reason: str, left: int) -> None:
        super().__init__(f"{reason}, {left} left")
        self.reason, self.left = reason, left


async def place(server: kps.Server, order: Order) -> int:
    """Place an order, and return how many are left.

    Raises :class:`Refusal`; or :class:`kps.KPSError` if a service fails, or is not there.
    """
    answer: Answer = await server.request("orders/place", order)
    if "refused" in answer:
        raise Refusal(answer["refused"], answer["left"])
    return answer["left"]


def say(who: str, order: int, text: str) -> None:
    """Print a line about an order."""
    print(f"{who:8} order {order}: {text}", flush=True)


async def run_shop(server: kps.Server) -> None:
    """Order things one after the other, and wait for the receipts of their mails."""
    mailed = asyncio.Queue[Mailed]()

    async def on_log(message: kps.Message) -> None:
        say(message.topic.removeprefix("log/"), message.data["order"], message.data["text"])

    await server.subscribe(kps.Pattern("log/*"), on_log)
    await server.subscribe("mailed", lambda message: mailed.put_nowait(message.data), inline=True)
    accepted = 0
    for order in ORDERS:
        say("shop", order["number"], "{count} {item} for {customer}".format(**order))
        try:
            await place(server, order)
        except Refusal as refusal:
            say("shop", order["number"], f"refused: {refusal}")
        else:
            accepted += 1
    for _ in range(accepted):
        receipt = await mailed.get()
        died = "".join(f"{one}; then " for one in receipt["died"])
        say("orders", receipt["order"], f"receipt of the mail: {died}handled by {receipt['by']}")


async def start(name: str, address: str) -> asyncio.subprocess.Process:
    """Start a service as a process of its own."""
    program = str(Path(__file__).with_name("services.py"))
    environment = {**os.environ, "SERVICE_TOKEN": TOKENS[name]}
    return await asyncio.create_subprocess_exec(
        sys.executable, program, name, address, env=environment
    )


async def main(address: str = "localhost:9313") -> None:
    """Run all of it."""
    async with kps.Server(address, auth=by_token) as server:
        print(f"{len(ORDERS)} orders go to {', '.join(SERVICES)}", flush=True)
        ready = server.subscribe("ready")
        processes = []
        try:
            for name in SERVICES:
                processes.append(await start(name, server.address))
            for _ in SERVICES:
                await anext(ready)
            await run_shop(server)
        finally:
            for process in processes:
                if process.returncode is None:
                    process.terminate()
                await process.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
