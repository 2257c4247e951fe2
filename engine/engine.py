"""The engine: starts, resumes, steers and stops the flows of one journal; the loop over states is `drive.py`.

    async with open_engine(paths, programs) as engine:
        flow = await engine.start(LOGIN, LoginContext(api_url=...), key="...")
        outcome = await flow.wait()

The journal is the truth. A step counts when it is on disk; nothing is shown, sent or started because of it before.
Leaving the `async with` interrupts every flow in its current state, as Ctrl-C does; all of them can be resumed. A flow
is driven by one process at a time; another one gets `FlowBusy`, and can send it events through the inbox.

What stops a flow before its end (no login, a full disk, a bug) *parks* it: the flow keeps its state and records the
reason, and `resume` continues from there.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import trio

from ..base.clock import Clock, SystemClock
from ..base.errors import CloudError
from .claims import Claims
from .disk import Disk
from .drive import drive, take_up
from .driven import Driven
from .endings import Endings
from .errors import EngineClosed, EventNotAccepted, FlowExists, FlowNotFound, IncompatibleFlow
from .feed import Feed, follow
from .flow import Flow
from .history import Change, Outcome, first_lines
from .ids import child_flow_id, new_flow_id, runs_inside
from .inbox import Inbox
from .journal.file_vault import FileVault
from .journal.journal import Journal
from .journal.owners import Owner
from .journal.records import FlowRow, Record
from .journal.store import SqliteStore
from .journal.vault import VaultFiles
from .ledger import Ledger
from .leftovers import sweep
from .live import LiveFlow
from .machine.machine import Machine
from .machine.parts import Context, Event
from .nursery import open_plain_nursery
from .paths import Places, directory_maker
from .secrets import discard_secrets
from .signals import post
from .versions import Begun
from .visit import Program


class Engine:
    """Drives the flows of one journal. Made by `open_engine`."""

    def __init__(
        self,
        *,
        store: SqliteStore,
        clock: Clock,
        programs: Iterable[Program[Any]],
        vault: VaultFiles,
        owner: Owner,
        nursery: trio.Nursery,
        disk: Disk,
    ) -> None:
        self.store = store
        self.journal = store.journal
        self.clock = clock
        self.feed = Feed()
        self.vault = vault
        self._secrets = FileVault(vault, disk)
        self._disk = disk
        self._nursery = nursery
        self._ledger = Ledger(store, clock, self._committed)
        self._claims = Claims(store, self._ledger, programs, owner.name, self._enliven)
        self._driven = Driven(self._claims, self._secrets)
        self._endings = Endings(store, self._ledger, self._claims, self._driven, self._secrets)
        self._taking = trio.Lock()
        self._repeating: set[str] = set()

    async def begin(self) -> None:
        """Cancel the child flows that killed processes left behind, then watch the inbox; `open_engine` calls it."""
        await self._endings.cancel_orphans()
        inbox = Inbox(self.store, self._claims.owner, self._driven, self._endings)
        self._nursery.start_soon(inbox.watch)

    # --- starting and resuming --------------------------------------------------------------------------------------

    async def start(
        self,
        machine: Machine[Any],
        context: Context,
        *,
        key: str | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Flow:
        """Start a flow, or resume the unfinished one of the same machine and key.

        Args:
            machine: Its table; its program must be among those the engine was opened with.
            context: What the flow knows at its start.
            key: Makes starting idempotent while the flow is unfinished.
            secrets: Put in the flow's vault first; the context may refer to them as `vault:<name>`.

        Raises:
            FlowBusy: Another process drives the flow with this key.
            IncompatibleFlow: The engine was opened without this machine, or another version of the machine wrote the
                unfinished flow and no migration leads from there.
            JournalError: It could not be written; nothing was started.
            Io: A secret could not be written; nothing was started.
        """
        if key is not None and (found := await self.store.unfinished_with_key(machine.name, key)):
            return await self.resume(found.id)
        flow = new_flow_id(self.clock.now())
        try:
            return await self._begin(flow, machine, context, key=key, parent=None, secrets=secrets or {})
        except FlowExists as exc:  # another process was quicker
            return await self.resume(exc.flow)

    async def resume(self, flow: str, *, repeat: bool = False) -> Flow:
        """Continue a flow from its current state; a child is resumed by resuming the flow that runs it.

        Args:
            flow: Its id.
            repeat: Repeat the outward effect whose result is unknown; only this flow's, not its children's.

        Raises:
            EffectUncertain: `repeat` was given and no effect of the flow waits for a decision.
            FlowNotFound: No flow has this id.
            FlowBusy: Another process drives it.
            IncompatibleFlow: Another version of its machine wrote it, and no migration leads from there.
            JournalError: It could not be written; nothing changed.
        """
        row = leaf = await self._claims.existing(flow)
        if repeat:
            self._claims.must_await_decision(row, driven=self.driven(row.id) is not None)
        while row.parent is not None and (parent := await self.store.flow(row.parent)) and parent.status != "ended":
            row = parent
        if repeat:
            self._repeating.add(leaf.id)
        try:
            await self._resume_one(row.id)
        except BaseException:  # a decision holds for this once: the next resume must not repeat anything by itself
            self._repeating.discard(leaf.id)
            raise
        return Flow(self, row.id)

    async def _run_child(self, parent: LiveFlow, program: Program[Any], context: Context) -> Outcome:
        """Run the child flow of the parent's current visit to its end; found again by its id after a crash."""
        flow = child_flow_id(parent.row.id, program.machine.name, parent.row.incarnation)
        if await self.store.flow(flow) is None:
            await self._begin(flow, program.machine, context, key=None, parent=parent.row.id, secrets={})
        else:
            await self._resume_one(flow)
        return await self.wait(flow)

    async def _resume_one(self, flow: str) -> None:
        """Take a flow over and drive it, without looking for the flow that runs it; nothing when it is driven here."""
        async with self._taking:  # two callers at once in one process share the one drive
            if self.driven(flow) is not None:
                return
            live = await self._driven.take_over(await self._claims.existing(flow))
            if live.ended:
                return
            repeat, owner = flow in self._repeating, self._claims.owner
            self._repeating.discard(flow)  # a decision holds for one try, also for one that fails
            try:
                await take_up(live, self.store, self._secrets, self.cancel, owner, repeat=repeat)
            except BaseException:
                # Taken over and not driven: it must not look as if it were, or nobody could take it up again.
                await self._driven.finish(
                    live, EngineClosed(f"flow {flow} could not be resumed; it is in state {live.row.state}")
                )
                raise
            self._nursery.start_soon(self._drive, live, True, name=f"flow {flow}")

    # --- reading ----------------------------------------------------------------------------------------------------

    def row(self, flow: str) -> FlowRow:
        """A flow's current row. Raises `FlowNotFound`."""
        live = self._driven.known(flow)
        return live.row if live else self._stored(flow)

    def context(self, flow: str) -> Context:
        """What a flow knows now. Raises `FlowNotFound`; `IncompatibleFlow` when this version cannot read it."""
        live = self._driven.known(flow)
        if live is not None:
            return live.context
        row, journal = self._stored(flow), self.journal
        return self._claims.read(row, Begun(journal.intents(flow, row.incarnation), journal.children(flow)))

    def history(self, flow: str) -> list[Change]:
        """Everything that happened to a flow, in order. Raises `FlowNotFound`."""
        row = self._stored(flow)
        return [Change.of(row.machine, record) for record in self.journal.records(flow)]

    async def changes(self, flow: str, *, children: bool = False) -> AsyncGenerator[Change]:
        """A flow's changes, from its first to its last; see `Flow.changes`."""
        with self.feed.subscribe() as channel:
            row = self._stored(flow)
            past = [self.history(each.id) for each in (self.journal.family(row) if children else [row])]
            async with aclosing(follow(channel, past, self._driven.known(flow), children=children)) as changes:
                async for change in changes:
                    yield change

    async def wait(self, flow: str) -> Outcome:
        """Wait until a flow driven here has ended; see `Flow.wait`."""
        live = self._driven.known(flow)
        if live is None:
            return await self._claims.outcome(flow)
        await live.settled.wait()
        if live.failure is not None:
            raise live.failure
        return live.outcome()

    def driven(self, flow: str) -> LiveFlow | None:
        """The flow, if it is driven here and not stopped."""
        return self._driven.driven(flow)

    # --- controlling ------------------------------------------------------------------------------------------------

    async def send(self, flow: str, event: Event) -> bool:
        """Send a flow an event; returns when it is durable. See `Flow.send`.

        An event for a flow that is not driven here is left in its inbox: the process that drives it takes it from
        there, or the next one that resumes it.

        Returns:
            True when the flow took it; False when it was left in its inbox.

        Raises:
            FlowNotFound: No flow has this id.
            EventNotAccepted: The state of a flow driven here has no row for it; or the flow has ended; or its machine
                knows no such event. What another process finds wrong with the event is a warning in that process's log.
            IncompatibleFlow: The engine was opened without the flow's machine.
            JournalError: It could not be written; nothing changed.
        """
        live = self.driven(flow)
        if live is not None:
            await live.step(event)
            return True
        row = await self._claims.existing(flow)
        if row.status == "ended" or type(event).__name__ not in self._claims.program(row.machine).machine.events:
            raise EventNotAccepted(row.state, type(event).__name__, machine=row.machine)
        await post(self.store, self.clock, flow, event)
        return False

    async def cancel(self, flow: str, reason: str = "") -> bool:
        """Stop a flow for good, its children first. One that another process drives is sent a signal.

        A flow that a version of its machine unknown here wrote is abandoned: it ends in its current state.

        Returns:
            True when it has ended; False when the process that drives it was asked to end it.

        Raises:
            FlowNotFound: No flow has this id.
            EventNotAccepted: The flow's state has no row for `CancelRequested`.
            JournalError: It could not be written; children that had ended before stay ended.
        """
        return await self._endings.cancel(flow, reason)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _stored(self, flow: str) -> FlowRow:
        row = self.journal.flow(flow)
        if row is None:
            raise FlowNotFound(f"no flow has the id {flow!r} in {self.store.place}")
        return row

    def _committed(self, row: FlowRow, record: Record) -> None:
        if self.feed.heard:
            self.feed.publish(Change.of(row.machine, record))

    def _enliven(self, program: Program[Any], row: FlowRow, context: Context) -> LiveFlow:
        return LiveFlow(
            program, row, context, ledger=self._ledger, vault=self._secrets, disk=self._disk, run_child=self._run_child
        )

    async def _drive(self, live: LiveFlow, resumed: bool) -> None:
        failure: Exception | None = EngineClosed(f"the engine was closed while flow {live.row.id} was running")
        try:
            failure = await drive(live, self.store, self.cancel, resumed=resumed)
        except CloudError as exc:
            # The journal itself cannot be written: nothing changed, and `wait` raises this.
            failure = exc
        finally:
            self._repeating -= {flow for flow in self._repeating if runs_inside(flow, live.row.id)}
            await self._driven.finish(live, failure)

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
        program = self._claims.program(machine.name)
        if program.machine is not machine:
            raise IncompatibleFlow(f"the engine was opened with another machine of the name {machine.name}")
        row, record = first_lines(
            flow, machine, context, now=self.clock.now(), key=key, parent=parent, owner=self._claims.owner
        )
        try:
            for name, secret in secrets.items():
                await self._secrets.put(flow, name, secret)
            await self._ledger.begin(row, record)
        except BaseException:  # also when it was cancelled between the two: no flow, no secrets
            if secrets:
                await discard_secrets(self._secrets, flow)
            raise
        live = self._enliven(program, row, context)
        self._driven.add(live)
        self._nursery.start_soon(self._drive, live, False, name=f"flow {flow}")
        return Flow(self, flow)


@asynccontextmanager
async def open_engine(
    paths: Places,
    programs: Iterable[Program[Any]],
    *,
    clock: Clock | None = None,
    inline: bool = False,
) -> AsyncGenerator[Engine]:
    """An engine on the journal of `paths`, for as long as the block runs.

    Leaving the block interrupts every flow in its current state; all of them can be resumed. The redactor then forgets
    their secrets.

    Args:
        paths: Where the journal, the vault and the lock files are.
        programs: Every machine that may run, with its activities.
        clock: The time; this machine's when not given.
        inline: Write on the calling thread, for tests on a virtual clock.

    Raises:
        JournalCorrupted: The journal is damaged; it was set aside.
        JournalTooNew: A newer version wrote it.
        JournalError: The journal cannot be opened.
        DirectoryInUse: The directory holds other things and nothing of ours; nothing was changed.
        Io: A directory or file cannot be made.
        RuntimeError: It is not trio that runs here; nothing was opened.
    """
    if not trio.lowlevel.in_trio_task():
        way = 'a portal\'s thread of its own, anyio.from_thread.start_blocking_portal("trio")'
        raise RuntimeError(f"the flows run in trio: trio.run(main), or beside asyncio {way} (docs/guides/embed.md)")
    with Journal(paths.journal, make_directory=directory_maker(paths)) as journal:
        owner = Owner(paths.owners)
        vault = VaultFiles(paths.vault)
        try:
            async with open_plain_nursery() as nursery:
                engine = Engine(
                    store=SqliteStore(journal, paths.owners, inline=inline),
                    clock=clock or SystemClock(),
                    programs=programs,
                    vault=vault,
                    owner=owner,
                    nursery=nursery,
                    disk=Disk(inline=inline),
                )
                sweep(journal, vault, paths.owners)
                await engine.begin()
                yield engine
        finally:
            vault.forget()
            owner.release()
