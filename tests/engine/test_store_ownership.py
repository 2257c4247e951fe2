"""What every store must keep whose flows are claimed by the processes that drive them: owners, keys and inboxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.errors import (
    EventNotAccepted,
    FlowBusy,
    FlowNotFound,
    SignalTaken,
)
from systemprompt_cloud.engine.journal.owners import Owner
from systemprompt_cloud.engine.journal.records import KEPT_AT_MOST
from systemprompt_cloud.engine.journal.selecting import FlowFilter
from systemprompt_cloud.engine.store import Ownership

from tests.support.rows import flow_row
from tests.support.stores import OWNED, begun, moved, sqlite


async def test_a_flow_is_claimed_by_one(owned: Ownership) -> None:
    """Of two that saw the same owner one gets the flow; writes of the other are refused from then on."""
    row = await begun(owned, owner="a:1:here")
    await owned.claim(row, "b:2:here")
    with pytest.raises(FlowBusy) as caught:
        await owned.claim(row, "c:3:here")
    assert caught.value.pid == 2
    with pytest.raises(FlowBusy):
        await owned.advance(row, *moved(row))
    now = await owned.flow("f")
    assert now is not None
    assert (now.owner, now.seq) == ("b:2:here", 1)


async def test_the_flow_of_a_key_is_found_until_it_ends(owned: Ownership) -> None:
    """By machine and key."""
    row = await begun(owned, key="k")
    assert await owned.unfinished_with_key("m", "k") == row
    assert await owned.unfinished_with_key("n", "k") is None
    await owned.advance(row, *moved(row, status="ended", verdict="failure"))
    assert await owned.unfinished_with_key("m", "k") is None


async def test_a_signal_is_taken_once(owned: Ownership) -> None:
    """It leaves the inbox in the write of the step it led to; a second step of it changes nothing."""
    row = await begun(owned, owner="me:1:here")
    await owned.post("f", row.created, "Poked", '{"event":"Poked"}')
    (signal,) = await owned.signals("f")
    assert (signal.flow, signal.name, signal.body) == ("f", "Poked", '{"event":"Poked"}')
    after, record = moved(row, state="b")
    await owned.advance(row, after, record, signal.id)
    assert list(await owned.signals("f")) == []
    with pytest.raises(SignalTaken):
        await owned.advance(after, *moved(after, state="c"), signal.id)
    assert await owned.flow("f") == after
    assert len(await owned.records("f")) == 2


async def test_signals_wait_for_the_driver_of_their_flow(owned: Ownership) -> None:
    """In order, from any number on; those of a flow that nobody drives wait for whoever resumes it."""
    for flow, owner in (("mine", "me:1:here"), ("theirs", "them:2:here"), ("idle", None)):
        await begun(owned, flow, owner=owner)
    for number, flow in enumerate(("theirs", "mine", "idle", "mine")):
        await owned.post(flow, f"2026-01-01T00:00:0{number}.000000Z", f"E{number}", "{}")
    mine = list(await owned.signals_for("me:1:here", 0))
    assert await owned.newest_signal() == mine[-1].id
    assert [each.name for each in mine] == ["E1", "E3"]
    assert [each.name for each in await owned.signals_for("me:1:here", mine[0].id)] == ["E3"]
    for each in mine:
        row = await owned.flow("mine")
        assert row is not None
        await owned.advance(row, *moved(row, owner="me:1:here"), each.id)
    assert list(await owned.signals_for("me:1:here", 0)) == []
    assert [each.name for each in await owned.signals_for("them:2:here", 0)] == ["E0"]
    assert [each.name for each in await owned.signals("idle")] == ["E2"]


async def test_what_nobody_will_take_is_not_posted(owned: Ownership) -> None:
    """To a flow that has ended or never was, and to one whose inbox is full; an end takes the inbox along."""
    row = await begun(owned)
    with pytest.raises(FlowNotFound):
        await owned.post("never", row.created, "Poked", "{}")
    for number in range(KEPT_AT_MOST):
        await owned.post("f", row.created, f"E{number}", "{}")
    with pytest.raises(EventNotAccepted, match=f"{KEPT_AT_MOST} events wait"):
        await owned.post("f", row.created, "Poked", "{}")
    for _ in range(2):
        await owned.post("f", row.created, "CancelRequested", "{}")  # always has a place, and one is enough
    assert len(await owned.signals("f")) == KEPT_AT_MOST + 1
    await owned.advance(row, *moved(row, status="ended", verdict="success"))
    assert list(await owned.signals("f")) == []
    with pytest.raises(EventNotAccepted):
        await owned.post("f", row.created, "Poked", "{}")


async def test_the_newest_flow_of_a_key_is_found_after_its_end(owned: Ownership) -> None:
    """By machine and key, the one that was started last, also where its id, of a clock that was set back, is lower."""
    for flow in ("b", "c", "a"):
        row = await begun(owned, flow, key="k")
        assert await owned.newest_with_key("m", "k") == row
        after, record = moved(row, status="ended", verdict="failure")
        await owned.advance(row, after, record)
        row = after
        assert await owned.newest_with_key("m", "k") == row
    assert await owned.newest_with_key("n", "k") is None


async def test_orphans_are_children_whose_parents_have_ended(owned: Ownership) -> None:
    """They are found until they end, too."""
    parent, child = await begun(owned, "p"), await begun(owned, "p.c", parent="p")
    assert list(await owned.orphans()) == []
    await owned.advance(parent, *moved(parent, status="ended", verdict="success"))
    assert [each.id for each in await owned.orphans()] == ["p.c"]
    await owned.advance(child, *moved(child, status="ended", verdict="cancelled"))
    assert list(await owned.orphans()) == []


async def test_an_owner_is_alive_until_its_process_lets_go(tmp_path: Path) -> None:
    """For the SQLite store that is a lock file; an owner that never was is not alive."""
    async with sqlite(tmp_path) as store:
        owner = Owner(tmp_path / "state" / "owners")
        assert store.is_alive(owner.name)
        owner.release()
        assert not store.is_alive(owner.name)
        assert not store.is_alive("0123:1:nowhere")


Operation: TypeAlias = tuple[str, int, int]
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "advance", "claim", "end", "post", "take"]),
        st.integers(0, 2),
        st.integers(0, 1),
    ),
    max_size=25,
)


async def play(store: Ownership, operations: list[Operation]) -> list[object]:
    """Do these things one after the other; what came of each."""
    seen: list[object] = []
    for what, number, way in operations:
        flow, owner = f"f{number}", f"{way}:{way}:here"
        row = await store.flow(flow)
        try:
            match what:
                case "begin":
                    await begun(store, flow, key=f"k{way}", owner=owner)
                case "post":
                    await store.post(flow, flow_row(flow).created, f"E{way}", "{}")
                case "take":
                    signals = list(await store.signals_for(owner, way))
                    seen.append([(each.flow, each.name) for each in signals])
                    if signals and row is not None:
                        await store.advance(row, *moved(row), signals[-1].id)
                case "claim" if row is not None:
                    await store.claim(row if way else msgspec.structs.replace(row, seq=row.seq + 1), owner)
                case "advance" if row is not None:
                    await store.advance(
                        row if way else msgspec.structs.replace(row, seq=0), *moved(row, state=f"s{way}")
                    )
                case "end" if row is not None:
                    await store.advance(row, *moved(row, status="ended", verdict="success", owner=None))
                case _:
                    pass
        except CloudError as exc:
            seen.append(type(exc).__name__)
        seen.append(await store.flow(flow))
        seen.append(len(await store.records(flow)))
        seen.append(await store.unfinished_with_key("m", f"k{way}"))
    return seen


@given(operations=OPERATIONS)
@settings(max_examples=60, deadline=None)
def test_stores_cannot_be_told_apart(operations: list[Operation], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever is done to them, in whatever order, they answer alike."""

    async def main() -> None:
        answers: list[list[object]] = []
        for opens in OWNED.values():
            async with opens(tmp_path_factory.mktemp("store")) as store:
                answers.append(await play(store, operations))
        assert answers[0] == answers[1]

    trio.run(main)


async def test_flows_are_selected_page_by_page(owned: Ownership) -> None:
    """By what is wanted, the newest first, each page after the last flow of the one before it."""
    await begun(owned, "c", status="ended", key="k")
    await begun(owned, "a", key="k")
    await begun(owned, "d", machine="n", status="paused", key="k")
    await begun(owned, "d.m-1", parent="d")

    async def selected(**wanted: Any) -> list[str]:
        return [row.id for row in await owned.select(FlowFilter(**wanted))]

    assert await selected() == ["d.m-1", "d", "a", "c"]
    assert await selected(limit=2) == ["d.m-1", "d"]
    assert await selected(limit=2, before="d") == ["a", "c"]
    assert await selected(statuses=("running", "paused")) == ["d.m-1", "d", "a"]
    assert await selected(statuses=("ended",), machines=("m",)) == ["c"]
    assert await selected(machines=("m", "n"), parent=None) == ["d", "a", "c"]
    assert await selected(machines=("x",)) == []
    assert await selected(key="k") == ["d", "a", "c"]
    assert await selected(key="k", machines=("m",), statuses=("running",)) == ["a"]
    assert await selected(parent="d") == ["d.m-1"]
    with pytest.raises(FlowNotFound):
        await selected(before="e")


async def test_a_flow_is_found_by_the_beginning_of_its_id(owned: Ownership) -> None:
    """A flow goes before its own children; none and several are refused."""
    for flow, parent in (("ab", None), ("ab.m-1", "ab"), ("ac", None)):
        await begun(owned, flow, parent=parent)
    assert (await owned.find("ab")).id == (await owned.find("ab")).id == "ab"
    assert (await owned.find("ab.")).id == "ab.m-1"
    for beginning in ("a", "x", ""):
        with pytest.raises(FlowNotFound):
            await owned.find(beginning)


async def test_the_stamp_tells_whether_anything_was_written(owned: Ownership) -> None:
    """It differs after each kind of write, and stays the same while nothing is."""
    stamps = [await owned.stamp()]
    row = await begun(owned)
    stamps.append(await owned.stamp())
    after, record = moved(row, state="b")
    await owned.advance(row, after, record)
    stamps.append(await owned.stamp())
    await owned.claim(after, "a:1:here")
    stamps.append(await owned.stamp())
    assert len(set(stamps)) == len(stamps)
    await owned.flow("f")
    await owned.records("f")
    assert await owned.stamp() == stamps[-1]
