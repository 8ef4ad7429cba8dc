"""A server whose rooms have few places, and that logs who comes and goes.

    python examples/rooms.py
    kps sub rooms/red                              # in up to two terminals; a third is refused

The rooms are the topics that begin with ``rooms/``. Arguments: optionally the address to listen
on, and how many places a room has.
"""

import sys

import kps


def serve(address: str = "localhost:9313", places: str = "2") -> None:
    async def on_connect(client: kps.ConnectedClient) -> None:
        print(f"{client.id} connects", flush=True)

    async def on_subscribe(asked: kps.Subscribing) -> None:
        name, room = asked.client.id, asked.topic
        if not isinstance(room, str):
            raise kps.Refused("a pattern would have rooms without a place in them")
        if not room.startswith("rooms/"):
            return
        # Nothing is awaited from here on, so nobody takes the last place in between.
        present = server.presence(room)
        others = present.count - (name in (present.members or ()))  # it may be here already
        if others >= int(places):
            print(f"{name} finds {room} full", flush=True)
            raise kps.Refused(f"{room} is full")
        print(f"{name} comes into {room}", flush=True)

    async def on_unsubscribe(ended: kps.Unsubscribed) -> None:
        if str(ended.topic).startswith("rooms/"):
            print(f"{ended.client.id} leaves {ended.topic}: {ended.reason}", flush=True)

    async def on_disconnect(event: kps.ClientLeft) -> None:
        print(f"{event.client.id} is gone", flush=True)

    server = kps.Server(
        address,
        on_connect=on_connect,
        on_disconnect=on_disconnect,
        on_subscribe=on_subscribe,
        on_unsubscribe=on_unsubscribe,
    )
    server.run(lambda server: print(f"the rooms are at {server.url}", flush=True))


if __name__ == "__main__":
    serve(*sys.argv[1:])
