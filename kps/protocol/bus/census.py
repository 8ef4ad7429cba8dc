"""Who is subscribed, as far as this server counts: its clients and its program."""

from kps.protocol.bus.subjects import count_members
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.bus.topics import Bus
from kps.protocol.patterns import Scope


def audience(bus: Bus, topic: str) -> tuple[list[Subscriber], list[Subscriber]]:
    """Return who gets what is published on a topic, and the members of its groups.

    Who is a member of several groups is there for each.
    """
    subscribers, groups = bus.receivers(topic)
    members = [member.subscriber for group in groups for member in group.present()]
    elsewhere = bus.elsewhere
    if not elsewhere:
        return subscribers, members
    return (
        [one for one in subscribers if not isinstance(one, elsewhere)],
        [one for one in members if not isinstance(one, elsewhere)],
    )


def counts(bus: Bus, key: Scope) -> tuple[int, int]:
    """Return how many are subscribed to a topic or pattern, and its messages since the first."""
    subject = bus.routes.find(key)
    if subject is None:
        return 0, 0
    members = count_members(subject, bus.elsewhere)
    return len(bus.own_subscribers(key)) + members, subject.published
