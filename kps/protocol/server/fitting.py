"""Writes what is told of a server so that it fits into one message of a client."""

from kps.protocol.dialect.envelope import Fields, write

MOST_BYTES = 960 * 1024
"""Bytes of an answer, or of the figures. By default, clients take messages of up to 1 MiB."""


def fitting(told: Fields) -> bytes:
    """Return what is told as JSON. If it is too long, its longest lists have fewer entries.

    These are the first ones; of events the shortest ones, because whoever floods chooses the texts.
    """
    written = write(told)
    if len(written) <= MOST_BYTES:
        return written
    sizes = {name: len(write(part)) for name, part in told.items() if type(part) is list}
    told = dict(told)
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        room = MOST_BYTES - (len(written) - sizes[name])
        told[name] = _part_of(told[name], room, shortest=name == "events")
        written = write(told)
        if len(written) <= MOST_BYTES:
            break
    return written


def _part_of(entries: list[Fields], room: int, *, shortest: bool) -> list[Fields]:
    """Return as many entries as have room, in their order."""
    sizes = [len(write(one)) + 1 for one in entries]  # with a comma
    places = list(range(len(entries)))
    if shortest:
        places.sort(key=lambda place: sizes[place])
    room -= 2  # for the brackets
    kept = 0
    while kept < len(places) and sizes[places[kept]] <= room:
        room -= sizes[places[kept]]
        kept += 1
    return [entries[place] for place in sorted(places[:kept])]
