"""The services: orders, stock, and mail. Each runs in a process of its own.

    SERVICE_TOKEN=… python services.py NAME ADDRESS

All that they know of each other are topics, and the types here.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Literal, NotRequired, TypedDict

import kps

UNLUCKY = 3  # the order at whose mail a worker dies


class Order(TypedDict):
    """Who wants how many of what."""

    number: int
    customer: str
    item: str
    count: int


class Answer(TypedDict):
    """How many are left after an order, or why it is refused.

    A refusal is an answer. What a service raises is a failure.
    """

    left: int
    refused: NotRequired[Literal["sold out", "unknown item"]]


class Mailed(TypedDict):
    """Who has sent the mail about an order, and who has died at it."""

    order: int
    by: str
    died: list[str]


async def tell(client: kps.Client, order: Order, text: str) -> None:
    """Tell what happens, to whoever wants to know. Nobody waits for that, so there is no ack."""
    await client.publish(f"log/{client.id}", {"order": order["number"], "text": text})


async def orders(client: kps.Client) -> None:
    """Take orders: ask the stock, and have a mail sent."""
    mails = set[asyncio.Task[None]]()

    async def place(message: kps.Message[Order]) -> Answer:
        order = message.data
        # With an id it is reserved once, also if the connection breaks before the answer.
        reserved = f"reserve-{order['number']}"
        answer: Answer = await client.request("stock/reserve", order, message_id=reserved)
        if "refused" not in answer:
            mails.add(task := asyncio.create_task(send_mail(order)))  # the customer does not wait
            task.add_done_callback(mails.discard)
        return answer

    async def send_mail(order: Order) -> None:
        ack = await client.publish_with_ack("mail/send", order, 30, expect_groups=["mailers"])
        outcome = (await ack.wait())["mailers of mail/send"]
        assert isinstance(outcome, kps.GroupResponse)
        by = outcome.client_id if outcome.success else f"nobody ({outcome.error})"
        died = [f"{worker}: {error}" for worker, error in outcome.failures]
        await client.publish("mailed", Mailed(order=order["number"], by=by, died=died))

    await client.subscribe("orders/place", place, group="orders")


async def stock(client: kps.Client) -> None:
    """Reserve things, as far as there are some."""
    left = {"tea": 6, "coffee": 2}

    async def reserve(message: kps.Message[Order]) -> Answer:
        order = message.data
        item, count = order["item"], order["count"]
        if item not in left:
            return Answer(left=0, refused="unknown item")
        if count > left[item]:
            return Answer(left=left[item], refused="sold out")
        left[item] -= count
        await tell(client, order, f"{count} {item} reserved, {left[item]} left")
        return Answer(left=left[item])

    await client.subscribe("stock/reserve", reserve, group="stock")


async def mail(client: kps.Client) -> None:
    """Send mails. Several of these share the work."""

    async def send(message: kps.Message[Order]) -> None:
        order = message.data
        if message.attempt > 1:  # another one has had it: did the mail go out?
            await tell(client, order, f"attempt {message.attempt}: looks, and finds no mail sent")
        await asyncio.sleep(0.2)  # writes it
        if order["number"] == UNLUCKY and message.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)  # as the system does when there is no memory
        await tell(client, order, f"mail to {order['customer']} sent")

    await client.subscribe("mail/send", send, group="mailers")


SERVICES: dict[str, Callable[[kps.Client], Awaitable[None]]] = {
    "orders": orders,
    "stock": stock,
    "mail-1": mail,
    "mail-2": mail,
    "mail-3": mail,
}


async def serve(name: str, address: str) -> None:
    """Be a service until a signal comes."""
    async with kps.Client(address, id=name, token=os.environ["SERVICE_TOKEN"]) as client:
        await SERVICES[name](client)
        await client.publish("ready", name)
        await client.run()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(*sys.argv[1:]))
