"""Who is subscribed, as far as this server counts: its clients and its program."""

from kps.protocol.bus.subjects import count_members, members_here
from kps.protocol.bus.subscriber import Subscriber
from kps.protocol.bus.topics import Bus
from kps.protocol.patterns import Scope


def audience(bus: Bus, topic: str) -> tuple[list[Subscriber], list[Subscriber]]:
    """Return who gets what is published on a topic, and the members of its groups.

    Who is a member of several groups is there for each.
    """
    subscribers, groups = bus.receivers(topic)
    elsewhere = bus.elsewhere
    members = [member for group in groups for member in members_here(group, elsewhere)]
    if elsewhere:
        subscribers = [one for one in subscribers if not isinstance(one, elsewhere)]
    return subscribers, members


def counts(bus: Bus, key: Scope) -> tuple[int, int]:
    """Return how many are subscribed to a topic or pattern, and its messages since the first."""
    subject = bus.routes.find(key)
    if subject is None:
        return 0, 0
    members = count_members(subject, bus.elsewhere)
    return len(bus.own_subscribers(key)) + members, subject.published
