"""Looking at the flows of an engine, whoever drives them: their rows, contexts, histories and ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Any, Final, get_args

import msgspec

from ..base.clock import Clock
from ..base.errors import CloudError
from .driven import Driven
from .elsewhere import Elsewhere
from .errors import FlowInterrupted, FlowNotFound, FlowParked
from .feed import Feed, follow
from .flow import FlowId, id_of, in_words
from .history import Change, Outcome
from .journal.records import RESTING, FlowRow, Record, Status
from .journal.selecting import FlowFilter
from .journal.store import SqliteStore
from .live import LiveFlow
from .loading import Loading
from .machine.machine import Machine
from .machine.parts import Context
from .observers import Observer, Observers
from .versions import Begun

STATUSES: Final[tuple[Status, ...]] = get_args(Status)
"""What a flow's status can be."""
PAGE: Final = 100
"""Flows in a page, when nothing is said about it."""


class Looking:
    """The part of an engine that changes nothing.

    Args:
        store: Where the flows are.
        clock: The time.
        feed: What happens to those that are driven here.
        driven: Which those are.
        loading: How a stored flow is read.
        elsewhere: What happens to the others.
        observers: Who is told what is done here.
    """

    def __init__(
        self,
        store: SqliteStore,
        clock: Clock,
        feed: Feed,
        driven: Driven,
        loading: Loading,
        elsewhere: Elsewhere,
        observers: Observers,
    ) -> None:
        self.clock = clock
        self.store = store
        self.journal = store.journal
        self.feed = feed
        self._driven = driven
        self._loading = loading
        self._elsewhere = elsewhere
        self._observers = observers

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have an observer told of everything that this engine writes from now on.

        Args:
            observer: A subclass of `Observer` has only the methods that are wanted. It is called between two steps of
                the flows, so it must not block; what it raises is logged.

        Returns:
            What ends that when it is called.

        Raises:
            TypeError: It has not all methods of an observer, or one is a coroutine function.
        """
        return self._observers.add(observer)

    # --- one flow, now ----------------------------------------------------------------------------------------------

    def row(self, flow: FlowId) -> FlowRow:
        """A flow's current row. Raises `FlowNotFound`; `EngineClosed` after the engine, when another may drive it."""
        flow = id_of(flow)
        live = self._known(flow)
        return live.row if live else self._stored(flow)

    def context(self, flow: FlowId) -> Context:
        """What a flow knows now. Raises as `row`; `IncompatibleFlow` when this version cannot read it."""
        flow = id_of(flow)
        live = self._known(flow)
        if live is not None:
            return live.context
        row, journal = self._stored(flow), self.journal
        begun = Begun(journal.intents(flow, row.incarnation), journal.unfinished_children(flow))
        return self._loading.read(row, begun)

    def history(self, flow: FlowId) -> list[Change]:
        """Everything that happened to a flow, in order. Raises `FlowNotFound`."""
        flow = id_of(flow)
        row = self._stored(flow)
        return [Change.of(row.machine, record) for record in self.journal.records(flow)]

    def describe(self, flow: FlowId) -> str:
        """A flow's machine, state and what drives it, in a few words; or why that cannot be said."""
        flow = id_of(flow)
        try:
            row, how = self.row(flow), ""
            if self.driven(flow) is None and row.status not in {"ended", "paused", RESTING}:
                how = "driven by another process" if self._elsewhere.runs(row.owner) else "not driven"
            return in_words(row, how, self.clock.now())
        except CloudError as exc:
            return f"flow {flow}: {exc.user_message}"

    def driven(self, flow: str) -> LiveFlow | None:
        """The flow, if it is driven here and not stopped."""
        return self._driven.driven(flow)

    # --- any flow ---------------------------------------------------------------------------------------------------

    async def flows(
        self,
        *,
        status: Status | Iterable[Status] | None = None,
        machine: Machine[Any] | str | None = None,
        key: str | None = None,
        parent: FlowId | msgspec.UnsetType | None = msgspec.UNSET,
        before: FlowId | None = None,
        limit: int = PAGE,
    ) -> Sequence[FlowRow]:
        """A page of flows, the newest first; what is not given does not matter.

        The next page is what comes `before` the last flow of this one; a page that is shorter than `limit` is the last.

        Args:
            status: One status or several; `running` also when the process that drove the flow is gone.
            machine: A machine, or its name. Flows under its former names are found too, when its program is here.
            key: What the flows were started with.
            parent: The id of the flow that runs them; None for flows that no other flow runs.
            before: Only flows that were started before this one.
            limit: At most so many.

        Raises:
            ValueError: There is no such status, or the limit is below one.
            FlowNotFound: No flow has the id `before`.
            JournalError: The journal cannot be read.
            EngineClosed: The engine is closed.
        """
        self._elsewhere.refuse_closed()
        statuses = (status,) if isinstance(status, str) else tuple(status or ())
        if unknown := [each for each in statuses if each not in STATUSES]:
            raise ValueError(f"a flow's status is one of {', '.join(STATUSES)}, not {', '.join(map(repr, unknown))}")
        if limit < 1:
            raise ValueError(f"a page has at least one flow, not {limit}")
        if isinstance(machine, Machine):
            machines = machine.names
        else:
            machines = () if machine is None else self._loading.names(machine)
        return await self.store.select(
            FlowFilter(
                statuses=statuses,
                machines=machines,
                key=key,
                parent=parent if parent is None or parent is msgspec.UNSET else id_of(parent),
                before=None if before is None else id_of(before),
                limit=limit,
            )
        )

    async def find(self, beginning: str) -> FlowRow:
        """The flow with this id, or the only one whose id begins so; a flow goes before its own children.

        Raises:
            FlowNotFound: There is none, or several.
        """
        self._elsewhere.refuse_closed()
        return await self.store.find(beginning)

    async def family(self, flow: FlowId) -> Sequence[FlowRow]:
        """A flow and every flow that runs or ran inside it, parents before their children. Raises `FlowNotFound`."""
        self._elsewhere.refuse_closed()
        found: list[FlowRow] = []
        left = [await self._loading.existing(id_of(flow))]
        while left:
            found.append(left.pop())
            left += reversed(await self.store.children(found[-1].id))
        return found

    async def records(self, flow: FlowId, *, after: int = 0, limit: int | None = None) -> Sequence[Record]:
        """A flow's history as it is stored: what is numbered above `after`, and at most `limit` of it."""
        self._elsewhere.refuse_closed()
        return await self.store.records(id_of(flow), after=after, limit=limit)

    # --- following --------------------------------------------------------------------------------------------------

    async def changes(self, flow: FlowId, *, children: bool = False) -> AsyncGenerator[Change]:
        """A flow's changes, from its first to its last; see `Flow.changes`."""
        flow = id_of(flow)
        seen: dict[str, int] = {}
        while True:
            self._elsewhere.refuse_closed()
            stamp = await self._elsewhere.stamp()
            with self.feed.follow(flow, children=children) as follower:
                row = await self._loading.existing(flow)
                past: list[Iterator[Change]] = []
                left = [row]
                while left:
                    each = left.pop()
                    if each.status != "ended":
                        self.feed.add(follower, each.id)  # before its children are read: none may begin in between
                    past.append(self._past(each, after=seen.get(each.id, 0)))
                    if children:
                        left += reversed(await self.store.children(each.id))
                live = self._driven.known(flow)
                over = live is None or live.settled.is_set()
                async with aclosing(follow(follower, past, seen, over=over)) as changes:
                    async for change in changes:
                        yield change
            if live is None or live.row.status == RESTING:
                row = row if live is None else live.row
                if row.status in {"ended", "paused"} or await self._abandoned(row):
                    return
            else:
                return
            await self._elsewhere.news(stamp)

    async def wait(self, flow: FlowId) -> Outcome:
        """Wait until a flow has ended, whichever process drives it; see `Flow.wait`."""
        flow = id_of(flow)
        while True:
            live = self._driven.known(flow)
            if live is not None:
                await live.settled.wait()
                if live.failure is not None:
                    raise live.failure
                if live.ended:
                    return live.outcome()
            self._elsewhere.refuse_closed()
            stamp = await self._elsewhere.stamp()
            row = await self._loading.existing(flow)
            if row.status in {"ended", "paused"}:
                try:
                    return await self._loading.outcome(row)
                except FlowParked as paused:
                    raise paused from self._driven.cause(row)
            if self._driven.known(flow) is None:
                if await self._abandoned(row):
                    raise FlowInterrupted(flow, row.state)
                await self._elsewhere.news(stamp)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _known(self, flow: str) -> LiveFlow | None:
        """The flow, if no other engine can have changed it."""
        live = self._driven.known(flow)
        return None if self._elsewhere.closed and live is not None and live.settled.is_set() else live

    async def _abandoned(self, row: FlowRow) -> bool:
        """Whether no process drives an unfinished flow, and what was read of it is the last there is."""
        if row.status == RESTING or self._elsewhere.runs(row.owner):
            return False
        now = await self._loading.existing(row.id)  # its driver may have written more before it was gone
        return (now.seq, now.owner) == (row.seq, row.owner)

    def _past(self, row: FlowRow, *, after: int) -> Iterator[Change]:
        return (Change.of(row.machine, record) for record in self.journal.each_record(row.id, after=after))

    def _stored(self, flow: str) -> FlowRow:
        self._elsewhere.refuse_closed()
        row = self.journal.flow(flow)
        if row is None:
            raise FlowNotFound(f"no flow has the id {flow!r} in {self.store.place}")
        return row
