"""Nodes agree about the homes of names, whatever goes wrong in one of them."""

from collections.abc import Iterator

import pytest

from kps.testing.cluster import MemoryCluster


@pytest.mark.pure("it replaces a part of the core")
@pytest.mark.parametrize("steps", [0, 3])
def test_a_fault_in_what_is_told_to_new_homes_stops_neither_the_rest_nor_the_next(
    monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr("kps.protocol.bus.slices.AT_ONCE", 2)
    cluster = MemoryCluster(("n1", "n2"))
    one, done = cluster["n1"].cluster, list[str]()

    def fail() -> Iterator[int]:
        yield from [1] * steps
        raise RuntimeError("a fault")

    def work() -> Iterator[int]:
        done.append("the rest")
        yield 1

    cluster["n2"].cluster.agreement.is_sure = False
    one.agreement.begin(fail, work)
    with pytest.raises(RuntimeError, match="a fault"):
        cluster.advance(1.0)
    cluster.advance(1.0)
    assert done == ["the rest"]
    assert all(node.cluster.agreement.is_sure for node in cluster.nodes.values())
    one.agreement.begin(work)
    cluster.advance(1.0)
    assert one.agreement.is_sure
