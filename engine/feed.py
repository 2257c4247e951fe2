"""Who listens to what happens: subscribers get every change after its commit, in order, and slow ones lose nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager
from heapq import merge
from typing import Protocol

import trio

from .history import Change
from .ids import runs_inside
from .journal.records import FlowRow


class Followed(Protocol):
    """A flow that is driven here, as far as following it needs to know."""

    @property
    def row(self) -> FlowRow:
        """The flow, as it was last written."""
        ...

    @property
    def settled(self) -> trio.Event:
        """Set when nothing drives it here any more."""
        ...


class Feed:
    """The changes of every flow an engine drives."""

    def __init__(self) -> None:
        self._subscribers: set[trio.MemorySendChannel[Change]] = set()

    @contextmanager
    def subscribe(self) -> Generator[trio.MemoryReceiveChannel[Change], None, None]:
        """Every change from now on, for as long as the block runs."""
        send, receive = trio.open_memory_channel[Change](float("inf"))
        self._subscribers.add(send)
        try:
            yield receive
        finally:
            self._subscribers.discard(send)
            send.close()
            receive.close()

    @property
    def heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._subscribers)

    def publish(self, change: Change) -> None:
        """Called after a commit, with what changed."""
        for subscriber in self._subscribers:
            subscriber.send_nowait(change)


async def follow(
    channel: trio.MemoryReceiveChannel[Change],
    past: Sequence[Sequence[Change]],
    live: Followed | None,
    *,
    children: bool,
) -> AsyncGenerator[Change, None]:
    """One flow's changes, and its children's if wanted: their past, then what the channel brings, until it is over."""
    seen: Counter[str] = Counter()
    for change in merge(*past, key=lambda change: change.at):  # a clock may be set back: a flow's own order stays
        seen[change.flow] = change.seq
        yield change
    while live is not None and not (live.settled.is_set() and seen[live.row.id] >= live.row.seq):
        change = await _next_or_settled(channel, live.settled)
        if change is None or change.seq <= seen[change.flow]:
            continue
        if change.flow == live.row.id or (children and runs_inside(change.flow, live.row.id)):
            seen[change.flow] = change.seq
            yield change


async def _next_or_settled(channel: trio.MemoryReceiveChannel[Change], settled: trio.Event) -> Change | None:
    found: Change | None = None
    async with trio.open_nursery() as nursery:

        async def until_settled() -> None:
            await settled.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(until_settled)
        found = await channel.receive()
        nursery.cancel_scope.cancel()
    return found
