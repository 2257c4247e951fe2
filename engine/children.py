"""The flows that a flow runs inside it: begun by a visit, found again by the same visit in another process.

A child is identified by its parent's visit, its machine and its key; nothing else makes it that child. It lives no
longer than that visit: when the visit is left its children are cancelled, and when the parent is paused they are
stopped, to go on with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

from .driven import Driven
from .errors import KeyInUse
from .gates import Gates
from .history import Outcome
from .ids import child_flow_id, plain_child_flow_id, visit_of_child
from .journal.records import FlowRow
from .live import LiveFlow, ResumeFlow
from .machine.machine import Machine
from .machine.parts import Context
from .starting import check_text, different_fields, started_context
from .steps import Why
from .store import Store
from .visit import Program


class BeginChild(Protocol):
    """Writes a new flow and drives it; the caller is at its gate."""

    def __call__(self, flow: str, machine: Machine[Any], context: Context, *, parent: str) -> Awaitable[None]: ...


class WaitForChild(Protocol):
    """Waits until a flow driven here has ended."""

    def __call__(self, flow: str) -> Awaitable[Outcome]: ...


class Children:
    """The child flows of the flows one engine drives.

    Args:
        store: Where they are.
        driven: Which are driven here.
        gates: Each flow's gate.
        begin: How one is begun.
        resume: How one is resumed.
        wait: How one is waited for.
        check_known: Raises `IncompatibleFlow` for a machine the engine was not opened with.
    """

    def __init__(
        self,
        store: Store,
        driven: Driven,
        gates: Gates,
        *,
        begin: BeginChild,
        resume: ResumeFlow,
        wait: WaitForChild,
        check_known: Callable[[Machine[Any]], None],
    ) -> None:
        self._check_known = check_known
        self._store = store
        self._driven = driven
        self._gates = gates
        self._begin = begin
        self._resume = resume
        self._wait = wait

    async def run(
        self, parent: LiveFlow, visit: int, program: Program[Any], context: Context, key: str | None
    ) -> Outcome:
        """Run the child of one visit to its end: begin it, or find it and resume it; see `Visit.run_child`."""
        machine, flow = program.machine, parent.row.id
        self._check_known(machine)
        if key is not None:
            check_text(key, "key")
        _, context = machine.encode_context(context)
        child = child_flow_id(flow, machine.name, visit, key)
        for name in self._names(machine, flow, visit, key):
            found = await self._store.flow(name)
            if found is not None:
                await self._check_same(machine, parent, found, context)
                repeating = parent.repeating
                inside = repeating is not None and await self._is_inside(repeating, found.id)
                await self._resume(found.id, why=parent.why, repeating=repeating if inside else None)
                return await self._wait(found.id)
        async with self._gates.flow(child):
            if await self._store.flow(child) is None:
                await self._begin(child, machine, context, parent=flow)
        return await self._wait(child)

    def _names(self, machine: Machine[Any], parent: str, visit: int, key: str | None) -> Iterator[str]:
        """The ids a child may have: of today's name of its machine, of a former one, as they were before long ones were
        shortened."""
        for name in machine.names:
            today, before = (each(parent, name, visit, key) for each in (child_flow_id, plain_child_flow_id))
            yield today
            if before != today:
                yield before

    async def _is_inside(self, flow: str, outer: str) -> bool:
        """Whether a flow is another one, or runs inside it."""
        inner: str | None = flow
        while inner is not None and inner != outer:
            row = await self._store.flow(inner)
            inner = None if row is None else row.parent
        return inner is not None

    async def _check_same(self, machine: Machine[Any], parent: LiveFlow, found: FlowRow, context: Context) -> None:
        if found.parent != parent.row.id or found.machine not in machine.names:
            raise KeyInUse(found.id, ("machine",), how="has the id of this child")
        started = started_context(machine, found, await self._store.first(found.id))
        if started is not None and (fields := different_fields(started, context)):
            raise KeyInUse(found.id, fields, how="is this child")

    async def stop(self, flow: str) -> None:
        """Stop driving the children of a flow, and wait until nothing of them runs here."""
        children = self._driven.children(flow)
        for child in children:
            child.scope.cancel()
        for child in children:
            await child.settled.wait()

    async def ask_again(self, live: LiveFlow, why: Why) -> bool:
        """A resume of a flow that is driven here: one that is about to be paused, or that runs a paused one, goes on.

        Returns:
            False when nothing drives the flow here any more: it has to be taken over.
        """
        pausing = False
        for row in await self._store.unfinished_children(live.row.id):
            if visit_of_child(row.id) == live.stay:
                pausing = pausing or self._driven.driven(row.id) is None
        for child in self._driven.children(live.row.id):  # also one that another process has ended since it was paused
            if not await self.ask_again(child, why):
                pausing = True
        return await live.ask_again(why, pausing=pausing)
