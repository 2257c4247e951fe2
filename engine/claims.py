"""Which flows this process may drive.

A flow names its owner; an owner that is dead has lost it. Taking a flow over is one write that only succeeds if the
flow is still as it was when its owner was looked at; a flow that moved in between is looked at once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import msgspec

from ..base.remedies import Remedy
from .errors import EffectUncertain, EngineClosed, FlowBusy, FlowNotFound, IncompatibleFlow
from .history import Outcome, Trouble
from .journal.owners import OwnerName
from .journal.records import FlowRow, Record
from .ledger import Ledger
from .live import LiveFlow
from .machine.parts import Context, ResumePolicy
from .store import Ownership
from .versions import Begun, bring, is_current
from .visit import Program

Enliven: TypeAlias = Callable[[Program[Any], FlowRow, Context], LiveFlow]
"""Makes a flow that can be driven of what is stored."""


class Claims:
    """The flows of one journal, as one engine may claim them.

    Args:
        store: Where they are.
        ledger: How they are written.
        programs: The machines that are known here, with their activities.
        owner: This engine, as the journal names it.
        enliven: Makes a flow that can be driven of what is stored.
    """

    def __init__(
        self, store: Ownership, ledger: Ledger, programs: Iterable[Program[Any]], owner: str, enliven: Enliven
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._programs = {program.machine.name: program for program in programs}
        self.owner = owner
        self._enliven = enliven

    async def existing(self, flow: str) -> FlowRow:
        """The flow's row. Raises `FlowNotFound`."""
        row = await self._store.flow(flow)
        if row is None:
            raise FlowNotFound(f"no flow has the id {flow!r} in {self._store.place}")
        return row

    def program(self, machine: str, flow: str = "") -> Program[Any]:
        """What to do for the flows of a machine, or for this one. Raises `IncompatibleFlow`."""
        program = self._programs.get(machine)
        if program is None:
            raise IncompatibleFlow(
                f"the machine {machine} is not known here: the engine was opened without its program",
                hint="Open the engine with its program, or cancel the flow." if flow else "Open the engine with it.",
                remedy=Remedy("add_program", {"flow": flow}) if flow else None,
            )
        return program

    async def load(self, row: FlowRow) -> tuple[LiveFlow, Record | None]:
        """The flow, with the record that has to be written first if another version of its machine wrote it.

        Raises:
            IncompatibleFlow: Another version wrote it, and no migration leads from there.
        """
        program = self.program(row.machine, row.id)
        begun = Begun()
        if not is_current(program.machine, row):
            intents = await self._store.intents(row.id, row.incarnation)
            begun = Begun(intents, await self._store.children(row.id))
        brought = bring(program.machine, row, begun, self._ledger.clock.now())
        return self._enliven(program, brought.row, brought.context), brought.record

    def read(self, row: FlowRow, begun: Begun) -> Context:
        """What a stored flow knows, in today's terms. Raises `IncompatibleFlow`."""
        program = self.program(row.machine, row.id)
        return bring(program.machine, row, begun, self._ledger.clock.now()).context

    def must_await_decision(self, row: FlowRow, *, driven: bool) -> None:
        """Refuse to repeat an effect where nobody was asked about one.

        Raises:
            EffectUncertain: The flow is driven here, or is in a state that asks nothing.
        """
        policy = self.program(row.machine, row.id).machine.states[row.state].resume
        if policy is not ResumePolicy.ASK or driven:
            raise EffectUncertain(
                f"flow {row.id} stands in {row.state}, where nothing waits for such a decision",
                hint="Resume it without `repeat`.",
                remedy=Remedy("resume_without_repeat", {"flow": row.id}),
            )

    async def outcome(self, flow: str) -> Outcome:
        """How a flow that is not driven here ended.

        Raises:
            FlowParked: It has not; it waits for a person to fix something.
            EngineClosed: It has not, and nothing drives it here.
        """
        live, _ = await self.load(await self.existing(flow))
        if live.ended:
            return live.outcome()
        if live.row.trouble is not None:
            raise msgspec.json.decode(live.row.trouble, type=Trouble).error(live.row)
        raise EngineClosed(f"nobody drives flow {flow} here; it stands in {live.row.state}")

    async def take_over(self, row: FlowRow) -> LiveFlow:
        """Make a flow ours; one that has ended is only loaded.

        Raises:
            FlowBusy: Another process drives it.
            IncompatibleFlow: Another version wrote it, and no migration leads from there.
        """
        try:
            return await self._take_over(row)
        except FlowBusy:
            moved = await self.existing(row.id)
            if (moved.seq, moved.owner) == (row.seq, row.owner):
                raise
            return await self._take_over(moved)

    async def _take_over(self, row: FlowRow) -> LiveFlow:
        mine = self.owner
        if row.owner not in (None, mine) and self._store.is_alive(row.owner):
            owner = OwnerName.parse(row.owner)
            raise FlowBusy(row.id, pid=owner.pid, host=owner.host)
        live, record = await self.load(row)
        if live.ended:
            return live
        after = msgspec.structs.replace(live.row, owner=mine)
        if record is None:
            await self._store.claim(row, mine)
        else:
            await self._ledger.migrate(row, after, record)
        live.row = after
        return live
