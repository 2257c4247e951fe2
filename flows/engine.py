"""The engine: the only loop. It drives flows from state to state, each visit in a nursery of its own.

    async with open_engine(paths, programs) as engine:
        flow = await engine.start(LOGIN, LoginContext(api_url=...), key="...")
        outcome = await flow.wait()

The journal is the truth. A step counts when it is on disk; nothing is shown, sent or started because of it before.
Leaving the `async with` stops every flow where it stands, resumable: that is what Ctrl-C does. A flow is driven by one
process at a time; another one gets `FlowBusy`, and can reach it through the inbox.

What stops a flow from going on (no login, a full disk, a bug) *parks* it: it keeps its state, says why, and `resume`
goes on from there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, ParamSpec, TypeVar, cast

import trio

from ..errors import CloudError, EngineClosed, EventNotAccepted, FlowExists, IncompatibleFlow
from ..io.clock import Clock, SystemClock
from ..io.commits import Commits
from ..io.journal import Journal
from ..io.owners import Owner
from ..io.paths import CloudPaths
from ..io.records import FlowRow
from ..io.vault import Vault
from ..machines.machine import Context, Event, Machine
from .claims import Claims
from .endings import Endings
from .feed import Feed, follow
from .flow import Change, Flow, Outcome
from .ids import child_flow_id, new_flow_id
from .inbox import Inbox
from .live import LiveFlow, first_lines
from .nursery import open_plain_nursery
from .visit import Program, Visit, run_state

P = ParamSpec("P")
T = TypeVar("T")


class Engine:
    """Drives the flows of one journal. Made by `open_engine`."""

    def __init__(
        self,
        *,
        paths: CloudPaths,
        programs: Iterable[Program[Any]],
        journal: Journal,
        owner: Owner,
        clock: Clock,
        nursery: trio.Nursery,
        inline: bool,
    ) -> None:
        self.paths = paths
        self.journal = journal
        self.commits = Commits(journal, inline=inline)
        self.vault = Vault(paths.vault_directory)
        self.clock = clock
        self.feed = Feed()
        self.inbox = Inbox(self)
        self.claims = Claims(self, programs, owner)
        self.endings = Endings(self)
        self._nursery = nursery
        self._inline = inline
        self._live: dict[str, LiveFlow] = {}
        self._taking = trio.Lock()
        self._repeating: set[str] = set()

    # --- starting and going on --------------------------------------------------------------------------------------

    async def start(
        self,
        machine: Machine[Any],
        context: Context,
        *,
        key: str | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Flow:
        """Start a flow, or go on with the unfinished one of the same machine and key.

        Args:
            machine: Its table; its program must be among those the engine was opened with.
            context: What it is to do.
            key: Makes starting idempotent while the flow is unfinished.
            secrets: Put in the flow's vault first; the context may refer to them as `vault:<name>`.

        Raises:
            FlowBusy: Another process drives the flow with this key.
            JournalError: It could not be written; nothing was started.
        """
        if key is not None and (found := self.journal.unfinished_with_key(machine.name, key)):
            return await self.resume(found.id)
        flow = new_flow_id(self.clock.now())
        try:
            return await self._begin(flow, machine, context, key=key, parent=None, secrets=secrets or {})
        except FlowExists as exc:  # another process was quicker
            return await self.resume(exc.flow)

    async def resume(self, flow: str, *, repeat: bool = False) -> Flow:
        """Go on with a flow where it stands; a child is resumed by resuming the flow that runs it.

        Args:
            flow: Its id.
            repeat: Do the outward effect it waits for a decision about again; this flow's, not its children's.

        Raises:
            EffectUncertain: `repeat` was asked for where nothing waits for a decision.
            FlowNotFound: There is none.
            FlowBusy: Another process drives it.
            IncompatibleFlow: Another version of its machine wrote it, and no migration leads from there.
        """
        row = leaf = self.claims.existing(flow)
        if repeat:
            self.claims.must_await_decision(row)
        while row.parent is not None and (parent := self.journal.flow(row.parent)) and parent.status != "ended":
            row = parent
        if repeat:
            self._repeating.add(leaf.id)
        try:
            await self._go_on(row.id)
        except BaseException:  # a decision holds for this once: the next resume must not repeat anything by itself
            self._repeating.discard(leaf.id)
            raise
        return Flow(self, row.id)

    async def run_child(self, parent: LiveFlow, program: Program[Any], context: Context) -> Outcome:
        """Run the child flow of the parent's current visit to its end; found again by its id after a crash."""
        flow = child_flow_id(parent.row.id, program.machine.name, parent.row.incarnation)
        if self.journal.flow(flow) is None:
            await self._begin(flow, program.machine, context, key=None, parent=parent.row.id, secrets={})
        else:
            await self._go_on(flow)
        return await self.wait(flow)

    async def _go_on(self, flow: str) -> None:
        async with self._taking:  # two callers at once in one process share the one drive
            if self.driven(flow) is not None:
                return
            live = await self.take_over(self.claims.existing(flow))
            if live.ended:
                return
            try:
                await live.resume(self.claims.owner.name, repeat=flow in self._repeating)
                self._repeating.discard(flow)
                await self.endings.cancel_strays(live)
            except BaseException:
                # Taken over and not driven: it must not look as if it were, or nobody could take it up again.
                self.finish(live, EngineClosed(f"flow {flow} was not taken up again; it stands in {live.row.state}"))
                raise
            self._nursery.start_soon(self._drive, live, True, name=f"flow {flow}")

    # --- looking ----------------------------------------------------------------------------------------------------

    def row(self, flow: str) -> FlowRow:
        """A flow as it stands. Raises `FlowNotFound`."""
        live = self._live.get(flow)
        return live.row if live else self.claims.existing(flow)

    def context(self, flow: str) -> Context:
        """What a flow knows. Raises `FlowNotFound`."""
        live = self._live.get(flow)
        return live.context if live else self.claims.load(self.claims.existing(flow))[0].context

    def history(self, flow: str) -> list[Change]:
        """Everything that happened to a flow, in order. Raises `FlowNotFound`."""
        row = self.claims.existing(flow)
        return [Change.of(row.machine, record) for record in self.journal.records(flow)]

    async def changes(self, flow: str, *, children: bool = False) -> AsyncGenerator[Change]:
        """A flow's changes, from its first to its last; see `Flow.changes`."""
        with self.feed.subscribe() as channel:
            row = self.claims.existing(flow)
            past = [self.history(each.id) for each in (self.journal.family(row) if children else [row])]
            async with aclosing(follow(channel, past, self._live.get(flow), children=children)) as changes:
                async for change in changes:
                    yield change

    async def wait(self, flow: str) -> Outcome:
        """Wait until a flow driven here has ended; see `Flow.wait`."""
        live = self._live.get(flow)
        if live is None:
            return self.claims.outcome(flow)
        await live.settled.wait()
        if live.failure is not None:
            raise live.failure
        return live.outcome()

    @property
    def driving(self) -> bool:
        """Whether any flow is driven here."""
        return bool(self._live)

    def driven(self, flow: str) -> LiveFlow | None:
        """The flow, if it is driven here and not stopped."""
        live = self._live.get(flow)
        return None if live is None or live.settled.is_set() else live

    # --- steering ---------------------------------------------------------------------------------------------------

    async def send(self, flow: str, event: Event) -> bool:
        """Give a flow an event; returns when it is durable. See `Flow.send`.

        A flow that is not driven here finds the event in its inbox: its driver takes it at once, and if nobody drives
        it, whoever resumes it does.

        Returns:
            True when the flow took it; False when it was left in its inbox.

        Raises:
            FlowNotFound: There is none.
            EventNotAccepted: The state of a flow driven here has no row for it; or the flow has ended; or its machine
                knows no such event. What only the driver can know it does not raise here, but warns of in its log.
            JournalError: It could not be written; nothing changed.
        """
        live = self.driven(flow)
        if live is not None:
            await live.step(event)
            return True
        row = self.claims.existing(flow)
        if row.status == "ended" or type(event).__name__ not in self.claims.program(row.machine).machine.events:
            raise EventNotAccepted(row.state, type(event).__name__, machine=row.machine)
        await self.inbox.post(flow, event)
        return False

    async def cancel(self, flow: str, reason: str = "") -> bool:
        """Stop a flow for good, its children first. One that another process drives is sent a signal.

        A flow whose version of the machine is not known here cannot be told; it is abandoned where it stands.

        Returns:
            True when it has ended; False when its driver was asked to end it.

        Raises:
            FlowNotFound: There is none.
        """
        return await self.endings.cancel(flow, reason)

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def _drive(self, live: LiveFlow, resumed: bool) -> None:
        failure: Exception | None = EngineClosed(f"the engine was closed while flow {live.row.id} was running")
        try:
            while not live.ended:
                with trio.CancelScope() as scope:
                    await self._visit_states(live, scope, resumed)
                resumed = False
                visit = cast("Visit[Any]", live.visit)
                if visit.trouble is not None and not visit.left:
                    parked = await live.park(visit.trouble)
                    if parked is not None:
                        failure = parked.error(live.row)
                        return
                if live.machine.states[visit.state].child is not None:
                    await self.endings.cancel_strays(live)
            failure = None
        except CloudError as exc:
            # The journal itself cannot be written: nothing changed, and whoever waits is told so.
            failure = exc
        finally:
            live.visit = None
            self.finish(live, failure)

    async def _visit_states(self, live: LiveFlow, scope: trio.CancelScope, resumed: bool) -> None:
        """One state after the other, until there is something to do between two of them, or the scope is used up."""
        while True:
            visit: Visit[Any] = Visit(
                live,
                flow=live.row.id,
                state=live.row.state,
                incarnation=live.row.incarnation,
                resumed=resumed,
                deadline=live.deadline(),
                clock=self.clock,
                scope=scope,
            )
            live.visit = visit
            await run_state(visit, live.program.activities[visit.state])
            child = live.machine.states[visit.state].child
            if live.ended or not visit.left or scope.cancel_called or child is not None:
                return
            resumed = False

    def finish(self, live: LiveFlow, failure: Exception | None) -> None:
        """Nobody drives the flow here any more; `failure` is why, when it has not ended."""
        if live.ended:
            self.claims.discard_secrets(live.row.id)
        if failure is None or live.row.status == "parked":
            # The journal can answer for it from now on.
            self._live.pop(live.row.id, None)
        live.settle(failure)

    # --- inside -----------------------------------------------------------------------------------------------------

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that waits for the disk, off the loop."""
        if self._inline:
            return function(*args, **kwargs)
        return await trio.to_thread.run_sync(lambda: function(*args, **kwargs))

    async def take_over(self, row: FlowRow) -> LiveFlow:
        """Make a flow ours, to be driven or ended; see `Claims.take_over`."""
        live = await self.claims.take_over(row)
        if not live.ended:
            self._live[row.id] = live
        return live

    async def _begin(
        self,
        flow: str,
        machine: Machine[Any],
        context: Context,
        *,
        key: str | None,
        parent: str | None,
        secrets: Mapping[str, str],
    ) -> Flow:
        program = self.claims.program(machine.name)
        if program.machine is not machine:
            raise IncompatibleFlow(f"the engine was opened with another machine of the name {machine.name}")
        row, record = first_lines(
            flow, machine, context, now=self.clock.now(), key=key, parent=parent, owner=self.claims.owner.name
        )
        try:
            for name, secret in secrets.items():
                await self.on_disk(self.vault.put, flow, name, secret)
            await self.commits.write(lambda: self.journal.begin(row, record))
        except BaseException:  # also when it was cancelled between the two: no flow, no secrets
            if secrets:
                self.claims.discard_secrets(flow)
            raise
        live = LiveFlow(self, program, row, context)
        self._live[flow] = live
        self.feed.publish(Change.of(machine.name, record))
        self._nursery.start_soon(self._drive, live, False, name=f"flow {flow}")
        return Flow(self, flow)


@asynccontextmanager
async def open_engine(
    paths: CloudPaths,
    programs: Iterable[Program[Any]],
    *,
    clock: Clock | None = None,
    inline: bool = False,
) -> AsyncGenerator[Engine]:
    """An engine on the journal of `paths`, for as long as the block runs.

    Leaving the block stops every flow that is still running where it stands; all of them can be resumed.

    Args:
        paths: Where the journal and the vault are.
        programs: Every machine that may run, with its activities.
        clock: The time; this machine's when not given.
        inline: Write on the calling thread, for tests on a virtual clock.

    Raises:
        JournalCorrupted: The journal is damaged; it was set aside.
        JournalTooNew: A newer version wrote it.
        Io: A directory or file cannot be made.
        RuntimeError: It is not trio that runs here; nothing was opened.
    """
    if not trio.lowlevel.in_trio_task():
        way = 'a portal\'s thread of its own, anyio.from_thread.start_blocking_portal("trio")'
        raise RuntimeError(f"the flows run in trio: trio.run(main), or beside asyncio {way} (docs/guides/embed.md)")
    with Journal(paths.journal) as journal:
        owner = Owner(paths.owners_directory)
        try:
            async with open_plain_nursery() as nursery:
                engine = Engine(
                    paths=paths,
                    programs=programs,
                    journal=journal,
                    owner=owner,
                    clock=clock or SystemClock(),
                    nursery=nursery,
                    inline=inline,
                )
                engine.claims.tidy()
                await engine.endings.cancel_orphans()
                nursery.start_soon(engine.inbox.watch)
                yield engine
        finally:
            owner.release()
