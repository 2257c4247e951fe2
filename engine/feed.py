"""Who listens to what happens: subscribers get changes after their commit, in order, and slow ones lose nothing.

Each flow has a list of those who follow it, so that a change costs what its own followers cost, however many flows are
followed besides.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import contextmanager, suppress
from heapq import merge

import trio

from .history import Change


class Follower:
    """The changes of one flow, and of those that run inside it if wanted, from when it was made.

    Args:
        flow: The flow's id.
        children: Whether a flow that runs inside it is followed too, from when it is begun.

    Attributes:
        channel: What it brings; it ends when nothing drives the flow here any more.
        flows: Which flows are followed.
    """

    __slots__ = ("channel", "children", "flow", "flows", "send")

    def __init__(self, flow: str, *, children: bool) -> None:
        self.flow = flow
        self.children = children
        self.flows: set[str] = set()
        self.send, self.channel = trio.open_memory_channel[Change](float("inf"))


class Feed:
    """The changes of every flow an engine drives."""

    def __init__(self) -> None:
        self._subscribers: set[trio.MemorySendChannel[Change]] = set()
        self._followers: dict[str, set[Follower]] = {}

    @contextmanager
    def subscribe(self) -> Generator[trio.MemoryReceiveChannel[Change], None, None]:
        """Every change of every flow from now on, for as long as the block runs."""
        send, receive = trio.open_memory_channel[Change](float("inf"))
        self._subscribers.add(send)
        try:
            yield receive
        finally:
            self._subscribers.discard(send)
            send.close()
            receive.close()

    @contextmanager
    def follow(self, flow: str, *, children: bool = False) -> Generator[Follower, None, None]:
        """One flow's changes from now on, for as long as the block runs.

        Args:
            flow: Its id.
            children: Also those of the flows that run inside it; those that run already have to be `add`ed.
        """
        follower = Follower(flow, children=children)
        self.add(follower, flow)
        try:
            yield follower
        finally:
            self._drop_all(follower)
            follower.send.close()
            follower.channel.close()

    def add(self, follower: Follower, flow: str) -> None:
        """Have a follower get the changes of one more flow."""
        follower.flows.add(flow)
        self._followers.setdefault(flow, set()).add(follower)

    def hears(self, flow: str) -> bool:
        """Whether anybody listens to this flow."""
        return bool(self._subscribers) or flow in self._followers

    def begun(self, flow: str, parent: str) -> None:
        """Called before the first change of a child flow is published: who follows its parent may follow it too."""
        for follower in tuple(self._followers.get(parent, ())):
            if follower.children:
                self.add(follower, flow)

    def publish(self, change: Change) -> None:
        """Called after a commit, with what changed."""
        for channel in (*self._subscribers, *(each.send for each in self._followers.get(change.flow, ()))):
            with suppress(trio.BrokenResourceError):  # its reader is gone, and will leave
                channel.send_nowait(change)

    def settle(self, flow: str, *, ended: bool) -> None:
        """Called when nothing drives a flow here any more: who follows it has been told everything.

        Args:
            flow: Its id.
            ended: Whether it has ended; nothing will be published of it again.
        """
        for follower in tuple(self._followers.get(flow, ())):
            if follower.flow == flow:
                follower.send.close()
                self._drop_all(follower)  # a child may be cancelled later: nobody hears that any more
            elif ended:
                follower.flows.discard(flow)
                self._drop(follower, flow)

    def _drop_all(self, follower: Follower) -> None:
        while follower.flows:
            self._drop(follower, follower.flows.pop())

    def _drop(self, follower: Follower, flow: str) -> None:
        followers = self._followers.get(flow)
        if followers is not None:
            followers.discard(follower)
            if not followers:
                del self._followers[flow]


async def follow(
    follower: Follower, past: Iterable[Iterable[Change]], seen: dict[str, int], *, over: bool
) -> AsyncGenerator[Change, None]:
    """A flow's changes: its past, and that of its children if wanted, then what follows, until it is over.

    Args:
        follower: What follows; begun before the past was read, so that nothing is missed between the two.
        past: The history of each flow, in order.
        seen: The number of the last change of each flow that was brought; kept up to date.
        over: Nothing drives the flow here, so nothing follows.
    """
    for change in merge(*past, key=lambda change: change.at):  # a clock may be set back: a flow's own order stays
        seen[change.flow] = change.seq
        yield change
    if over:
        return
    async for change in follower.channel:
        if change.seq > seen.get(change.flow, 0):
            seen[change.flow] = change.seq
            yield change
