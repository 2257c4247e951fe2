"""The engine: starts, resumes, steers and stops the flows of one journal; the loop over states is `drive.py`.

    async with open_engine(paths, programs) as engine:
        flow = await engine.start(LOGIN, LoginContext(api_url=...), key="...")
        outcome = await flow.wait()

The journal is the truth. A step counts when it is on disk; nothing is shown, sent or started because of it before.
Leaving the `async with` interrupts every flow in its current state, as Ctrl-C does; all of them can be resumed. A flow
is driven by one process at a time; another one gets `FlowBusy`, and can send it events through the inbox.

What stops a flow before its end (no login, a full disk, a bug) *pauses* it: the flow keeps its state and records the
reason, and `resume` continues from there.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime
from typing import Any, get_args

import trio

from ..base.clock import Clock, SystemClock
from .beginnings import AfterEnd, Beginnings
from .children import Children
from .claims import Claims
from .countdown import BothClocks
from .diagnosis import watch_leaving, watched_loop
from .disk import Disk
from .drive import take_up
from .driven import Driven
from .driving import Driving
from .elsewhere import Elsewhere
from .endings import Endings
from .feed import Feed
from .flow import Flow, FlowId, id_of
from .gates import Gates
from .given import check_is, check_one_of
from .history import Change
from .inbox import Inbox
from .journal.file_vault import FileVault
from .journal.journal import Journal
from .journal.owners import Owner
from .journal.records import FlowRow, Record
from .journal.store import SqliteStore
from .journal.vault import VaultFiles
from .keeping import Keeping
from .ledger import Ledger
from .leftovers import sweep
from .live import LiveFlow
from .machine.machine import Machine
from .machine.parts import C, Context, Event
from .nursery import open_plain_nursery
from .observers import Observers
from .paths import Places, check_places, directory_maker
from .program import listed_programs
from .resting import Resting
from .secrets import Removal
from .sending import Sending
from .starting import begin_moment, check_text
from .steps import Why
from .turns import Turns
from .visit import Program


class Engine(Keeping):
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
        wake: bool = False,
    ) -> None:
        feed, driven = Feed(), Driven(self._settled)
        ledger = Ledger(store, clock, self._committed)
        claims = Claims(store, ledger, programs, owner.name, self._make_live)
        elsewhere, observers = Elsewhere(store, nursery), Observers(claims.program)
        super().__init__(store, clock, feed, driven, claims, elsewhere, observers, vault=vault, disk=disk, wakes=wake)
        # Threads of its own: activities on the disk may wait for what is kept here.
        secrets = self._vault = FileVault(vault, disk.another())
        removal = Removal(secrets, nursery)
        self._chance = (lambda: 0.5) if disk.inline else random.random
        self._nursery = nursery
        gates = self._gates = Gates()
        self._ledger, self._claims = ledger, claims
        turns = Turns(driven, clock)
        driving = self._driving = Driving(store, removal, driven, gates, turns, nursery)
        self._endings = Endings(store, ledger, claims, driven, secrets, removal, gates, nursery, driving.set_going)
        self._inbox = Inbox(store, owner.name, driven, gates, self._endings, nursery)
        make_live, resume = self._make_live, self._resume
        self._beginnings = Beginnings(
            store, ledger, claims, secrets, removal, gates, turns, driving, make_live=make_live, resume=resume
        )
        begin, known = self._beginnings.begin, claims.check_known
        self._children = Children(store, driven, gates, begin=begin, resume=resume, wait=self.wait, check_known=known)
        inbox, drive = self._inbox, driving.set_going
        self._resting = Resting(
            store, claims, driven, gates, inbox, secrets, removal, clock, drive=drive, resume=resume
        )
        self._sending = Sending(store, claims, driven, gates, inbox, clock, self._resting if wake else None)
        rest = self._resting.rest if wake else None
        driving.connect(inbox, self._children, self._endings, resume=resume, rest=rest)

    async def begin(self, *, diagnose: bool = False) -> None:
        """Cancel the child flows that killed processes left behind, then watch the inbox; `open_engine` calls it."""
        if diagnose:
            self._nursery.start_soon(watch_leaving, self._driven, self._nursery)
        self._nursery.start_soon(self._endings.cancel_orphans)  # what they do before they end may take long
        self._nursery.start_soon(self._inbox.watch)
        if self.wakes:
            self._nursery.start_soon(self._resting.watch)

    def close(self) -> None:
        """Nothing is started, sent or resumed any more, and nobody waits any longer; `open_engine` calls it."""
        self._elsewhere.close()

    # --- starting and resuming --------------------------------------------------------------------------------------

    async def start(
        self,
        machine: Machine[C],
        context: C,
        *,
        key: str | None = None,
        secrets: Mapping[str, str] | None = None,
        after_end: AfterEnd = "again",
        why: Why = "person",
        delay: float | None = None,
        at: datetime | None = None,
    ) -> Flow[C]:
        """Start a flow, or resume the unfinished one of the same machine and key.

        One that does not begin now is written and `queued`: with `delay` or `at` until its time, and where its program
        has a limit until there is room. In the queue it survives restarts; whoever resumes it waits on.

        Args:
            machine: Its table; its program must be among those the engine was opened with.
            context: What the flow knows at its start. An unfinished flow keeps its own, whatever is given here; but a
                field of the machine's `identity` must be the same.
            key: Makes starting idempotent while the flow is unfinished.
            secrets: Put in the flow's vault first; the context may refer to them as `vault:<name>`. A flow that is
                found keeps its own.
            why: Why an unfinished flow is resumed; see `resume`. A program that starts its flows anew after each crash
                gives `handover`, or no deadline that waits for a person would ever pass.
            after_end: What becomes of a key whose flow has ended: `again` starts a new flow, `return` gives back the
                ended one.
            delay: Seconds until it begins.
            at: The moment it begins, with its time zone; one that has passed is now.

        Raises:
            NotStorable: The context, the key or a secret cannot be written and read back, or is too large; nothing was
                started.
            KeyInUse: The flow with this key was started for something else: a field of `Machine.identity` differs.
            FlowBusy: Another process drives the flow with this key.
            IncompatibleFlow: The engine was opened without this machine, or another version of the machine wrote the
                unfinished flow and no migration leads from there.
            JournalError: It could not be written; nothing was started.
            Io: A secret could not be written; nothing was started.
            ValueError: `delay` or `at` is no time, or both are given.
            TypeError: The machine is no `Machine`, or the secrets are no mapping.
        """
        self._elsewhere.refuse_closed()
        check_is(machine, Machine, "Engine.start")
        moment = begin_moment(self.clock.now(), delay, at)
        return Flow(self, await self._beginnings.start(machine, context, key, secrets, after_end, why, at=moment))

    async def resume(self, flow: FlowId, *, repeat: bool = False, why: Why = "person") -> Flow:
        """Continue a flow from its current state; a child is resumed by resuming the flow that runs it.

        One whose parent has ended is cancelled instead. One whose parent continues without it, after an activity
        caught its `FlowParked`, is resumed when the parent runs it again.

        Args:
            flow: Its id, or its handle.
            repeat: Repeat the outward effect whose result is unknown; only this flow's, not its children's.
            why: `person` when somebody is back: a deadline that waits for a person (`late="restart"`) begins anew.
                `handover` when another process takes over by itself: it does not, or a crash could put it off for ever.

        Raises:
            EffectUncertain: `repeat` was given and no effect of the flow waits for a decision. If a start with its key
                has resumed it, wait until it has paused again.
            FlowNotFound: No flow has this id.
            FlowBusy: Another process drives it.
            IncompatibleFlow: Another version of its machine wrote it, and no migration leads from there.
            JournalError: It could not be written; nothing changed.
        """
        self._elsewhere.refuse_closed()
        check_one_of("why", why, get_args(Why))
        flow = id_of(flow)
        row = leaf = await self._claims.existing(flow)
        while row.parent is not None and (parent := await self.store.flow(row.parent)) is not None:
            if parent.status == "ended":
                self._claims.refuse_busy(row)
                await self._endings.cancel_wholly(row.id, "the flow it belonged to has ended")
                return Flow(self, row.id)
            row = parent
        if repeat:
            await self._claims.must_await_decision(leaf, driven=self.driven(leaf.id) is not None)
        await self._resume(row.id, why=why, repeating=leaf.id if repeat else None)
        return Flow(self, row.id)

    async def _resume(self, flow: str, *, why: Why = "person", repeating: str | None = None) -> None:
        """Take a flow over and drive it, without looking for the flow that runs it; nothing when it is driven here.

        Args:
            flow: Its id.
            why: Why it is resumed.
            repeating: The flow whose effect is repeated: this one, or one that runs inside it. A decision holds for
                this one drive.
        """
        async with self._gates.flow(flow):
            live = self.driven(flow)
            if live is not None and await self._children.ask_again(live, why):
                if repeating is not None:
                    if live.again is None:
                        await self._claims.must_await_decision(live.row, driven=True)
                    live.repeating = repeating
                return
            with trio.CancelScope(shield=True):  # written and driven, or neither

                async def write(live: LiveFlow) -> None:
                    live.repeating = None if repeating == flow else repeating
                    await take_up(live, self._vault, self._claims.owner, repeat=repeating == flow, why=why)

                live = await self._claims.take_over(flow, write)
                if not live.ended:
                    self._driving.set_going(live, resumed=True)

    # --- controlling ------------------------------------------------------------------------------------------------

    async def send(self, flow: FlowId, event: Event) -> bool:
        """Send a flow an event; returns when it is durable. See `Flow.send`.

        An event that the flow's state does not take is kept in its inbox, if the flow can enter a state that has a row
        for it: until such a state takes it, or the flow ends. The inbox is also where an event waits for a flow that is
        not driven here: the process that drives it takes it from there, or the next one that resumes it.

        Returns:
            True when the flow took it; False when it was left in its inbox.

        Raises:
            FlowNotFound: No flow has this id.
            EventNotAccepted: No state that the flow is in or can enter has a row for it; or the flow has ended; or its
                inbox is full; or it is `DeadlinePassed`, which only the engine sends. What another process cannot take
                is a `refused` record in the flow's history.
            NotStorable: The event, or the context after it, cannot be written and read back; nothing changed.
            IncompatibleFlow: The engine was opened without the flow's machine.
            JournalError: It could not be written; nothing changed.
        """
        self._elsewhere.refuse_closed()
        return await self._sending.send(id_of(flow), event)

    async def cancel(self, flow: FlowId, reason: str = "") -> bool:
        """Stop a flow for good, its children first. One that another process drives is sent a signal.

        Where no table for the flow is known here (its machine, or that version of it), the flow is abandoned: it ends
        in its current state, and no row for `CancelRequested` is taken.

        Returns:
            True when it has ended; False when it will: the process that drives it was asked to end it, or its table
            does something before it ends.

        Raises:
            FlowNotFound: No flow has this id.
            EventNotAccepted: The flow's state has no row for `CancelRequested`, or a guard refused it; its children
                were not cancelled either.
            NotStorable: The reason is no text that can be stored.
            TableFailed: The update of that row raised, and the flow is driven here; nothing was changed.
            JournalError: It could not be written; children that had ended before stay ended, and whoever resumes the
                flow may find that it is to end.
        """
        self._elsewhere.refuse_closed()
        check_text(reason, "reason")
        return await self._endings.cancel(id_of(flow), reason)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _committed(self, row: FlowRow, record: Record) -> None:
        if row.parent is not None and record.seq == 1:
            self.feed.begun(row.id, row.parent)
        if self.feed.hears(row.id):
            self.feed.publish(Change.of(row.machine, record))
        if self._observers.any:
            live = self._driven.known(row.id)
            self._observers.tell(row, record, None if live is None else live.unwritten)

    def _settled(self, live: LiveFlow) -> None:
        self.feed.settle(live.row.id, ended=live.ended)

    def _make_live(
        self,
        program: Program[Any],
        row: FlowRow,
        context: Context,
        migrated: tuple[FlowRow, Record] | None = None,
        *,
        read: BothClocks | None = None,
    ) -> LiveFlow:
        live = LiveFlow(
            program,
            row,
            context,
            ledger=self._ledger,
            vault=self._vault,
            disk=self._disk,
            run_child=self._children.run,
            owner=self._claims.owner,
            migrated=migrated,
            left_over=self._inbox.hand_over,
            read=read,
            chance=self._chance,
        )
        if self.wakes and row.parent is None and program.limit is None:
            live.may_rest = program.waiting
        return live


@asynccontextmanager
async def open_engine(
    paths: Places,
    programs: Iterable[Program[Any]],
    *,
    clock: Clock | None = None,
    inline: bool = False,
    diagnose: bool = False,
    wake: bool = False,
) -> AsyncGenerator[Engine]:
    """An engine on the journal of `paths`, for as long as the block runs.

    Leaving the block interrupts every flow in its current state; all of them can be resumed. The redactor then forgets
    their secrets.

    Args:
        paths: Where the journal, the vault and the lock files are.
        programs: Every machine that may run, with its activities.
        clock: The time; this machine's when not given.
        inline: Write on the calling thread, leave out the jitter of retries, and hear only of signals that this process
            sends: for tests on a virtual clock, where a week passes in milliseconds.
        diagnose: Warn in the log of activities that block the loop for more than 250 ms, or do not end within 5 s of
            when they are cancelled (`diagnosis.py`).
        wake: Let flows rest that only wait, without an owner and a task, and wake those that rest, whichever engine had
            driven them: at their deadlines, and when an event comes (`resting.py`).

    Raises:
        JournalCorrupted: The journal is damaged; it was set aside.
        JournalTooNew: A newer version wrote it.
        JournalError: The journal cannot be opened.
        DirectoryInUse: The directory holds other things and nothing of ours; nothing was changed.
        Io: A directory or file cannot be made.
        MachineInvalid: Two programs have machines of one name, or one's former name is another's.
        TypeError: The paths or the programs are something else.
        RuntimeError: It is not trio that runs here; nothing was opened.
    """
    if not trio.lowlevel.in_trio_task():
        way = 'a portal\'s thread of its own, anyio.from_thread.start_blocking_portal("trio")'
        raise RuntimeError(f"the flows run in trio: trio.run(main), or beside asyncio {way} (docs/guides/embed.md)")
    check_places(paths)
    programs = listed_programs(programs)
    with Journal(paths.journal, make_directory=directory_maker(paths), owners=paths.owners) as journal:
        owner = Owner(paths.owners)
        vault = VaultFiles(paths.vault, journal.identity)
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
                    wake=wake,
                )
                sweep(journal, vault, paths.owners)
                await engine.begin(diagnose=diagnose)
                try:
                    with watched_loop() if diagnose else nullcontext():
                        yield engine
                finally:
                    engine.close()
        finally:
            vault.forget()
            owner.release()
