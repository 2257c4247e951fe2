"""Looking at the flows of an engine: their rows, contexts, histories and ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from .driven import Driven
from .errors import EngineClosed, FlowNotFound
from .feed import Feed, follow
from .flow import FlowId, id_of
from .history import Change, Outcome
from .journal.records import FlowRow
from .journal.store import SqliteStore
from .live import LiveFlow
from .loading import Loading
from .machine.parts import Context
from .versions import Begun


class Looking:
    """The part of an engine that changes nothing.

    Args:
        store: Where the flows are.
        feed: What happens to those that are driven here.
        driven: Which those are.
        loading: How a stored flow is read.
    """

    def __init__(self, store: SqliteStore, feed: Feed, driven: Driven, loading: Loading) -> None:
        self.store = store
        self.journal = store.journal
        self.feed = feed
        self._driven = driven
        self._loading = loading
        self._closed = False

    def row(self, flow: FlowId) -> FlowRow:
        """A flow's current row. Raises `FlowNotFound`."""
        flow = id_of(flow)
        live = self._driven.known(flow)
        return live.row if live else self._stored(flow)

    def context(self, flow: FlowId) -> Context:
        """What a flow knows now. Raises `FlowNotFound`; `IncompatibleFlow` when this version cannot read it."""
        flow = id_of(flow)
        live = self._driven.known(flow)
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

    async def changes(self, flow: FlowId, *, children: bool = False) -> AsyncGenerator[Change]:
        """A flow's changes, from its first to its last; see `Flow.changes`."""
        flow = id_of(flow)
        with self.feed.follow(flow, children=children) as follower:
            row = self._stored(flow)
            family = self.journal.family(row) if children else [row]
            for each in (one for one in family if one.status != "ended"):
                self.feed.add(follower, each.id)
            live = self._driven.known(flow)
            over = live is None or live.settled.is_set()
            past = [self._past(each) for each in family]
            async with aclosing(follow(follower, past, over=over)) as changes:
                async for change in changes:
                    yield change

    async def wait(self, flow: FlowId) -> Outcome:
        """Wait until a flow driven here has ended; see `Flow.wait`.

        A flow that has ended already, wherever, is answered at once; one that another process drives is not waited for.
        """
        flow = id_of(flow)
        live = self._driven.known(flow)
        if live is None:
            self._refuse_closed()
            return await self._loading.outcome(flow)
        await live.settled.wait()
        if live.failure is not None:
            raise live.failure
        return live.outcome()

    def driven(self, flow: str) -> LiveFlow | None:
        """The flow, if it is driven here and not stopped."""
        return self._driven.driven(flow)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise EngineClosed("the engine is closed", hint="Use it inside its `async with` block.")

    def _past(self, row: FlowRow) -> Iterator[Change]:
        return (Change.of(row.machine, record) for record in self.journal.each_record(row.id))

    def _stored(self, flow: str) -> FlowRow:
        self._refuse_closed()
        row = self.journal.flow(flow)
        if row is None:
            raise FlowNotFound(f"no flow has the id {flow!r} in {self.store.place}")
        return row
