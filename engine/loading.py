"""Stored flows in today's terms: found, read, made ready to be driven."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias

import msgspec

from ..base.remedies import Remedy
from .errors import FlowNotFound, IncompatibleFlow, JournalCorrupted
from .history import Outcome, Trouble, plain_outcome
from .journal.records import FlowRow, Record
from .ledger import Ledger
from .live import LiveFlow
from .machine.machine import Machine
from .machine.parts import Context
from .program import Program, by_name
from .store import Store
from .versions import Begun, Brought, bring, is_current

MakeLive: TypeAlias = Callable[[Program[Any], FlowRow, Context, tuple[FlowRow, Record] | None], LiveFlow]
"""Makes a flow that can be driven of what is stored; see `LiveFlow` for the last of its arguments."""


class Loading:
    """The flows of a store, as one runner can take them up.

    Args:
        store: Where they are.
        ledger: How they are written.
        programs: The machines that are known here, with their activities.
        make_live: Makes a flow that can be driven of what is stored.

    Raises:
        MachineInvalid: Two programs have machines of one name, or one's former name is another's.
    """

    def __init__(self, store: Store, ledger: Ledger, programs: Iterable[Program[Any]], make_live: MakeLive) -> None:
        self._store = store
        self._ledger = ledger
        self._programs = by_name(programs)
        self._make_live = make_live

    async def existing(self, flow: str) -> FlowRow:
        """The flow's row. Raises `FlowNotFound`."""
        row = await self._store.flow(flow)
        if row is None:
            raise FlowNotFound(f"no flow has the id {flow!r} in {self._store.place}")
        return row

    def program(self, machine: str, flow: str = "") -> Program[Any]:
        """What to do for the flows of a machine, by today's name or a former one. Raises `IncompatibleFlow`."""
        program = self._programs.get(machine)
        if program is None:
            raise IncompatibleFlow(
                f"the machine {machine} is not known here: the engine was opened without its program",
                hint="Open the engine with its program, or cancel the flow." if flow else "Open the engine with it.",
                remedy=Remedy("add_program", {"flow": flow}) if flow else None,
            )
        return program

    def check_known(self, machine: Machine[Any]) -> None:
        """Raises `IncompatibleFlow` for a machine whose program is not known here."""
        if self.program(machine.name).machine is not machine:
            raise IncompatibleFlow(f"the engine was opened with another machine of the name {machine.name}")

    @property
    def all_names(self) -> Collection[str]:
        """The names that the flows of all machines that are known here are stored under."""
        return self._programs.keys()

    def names(self, machine: str) -> tuple[str, ...]:
        """The names that the flows of a machine are stored under, today's first; its own where it is not known here."""
        program = self._programs.get(machine)
        return (machine,) if program is None else program.machine.names

    async def load(self, row: FlowRow) -> LiveFlow:
        """The flow, ready to be driven.

        What carries it over from another version of its machine is written with its first record.

        Raises:
            IncompatibleFlow: Another version wrote it, and no migration leads from there.
        """
        program = self.program(row.machine, row.id)
        begun = Begun()
        if not is_current(program.machine, row):
            try:
                intents = await self._store.intents(row.id, row.incarnation)
            except JournalCorrupted as exc:  # what the flow has announced is not known; it can be ended all the same
                raise IncompatibleFlow(f"flow {row.id}: {exc.user_message}", hint="Cancel the flow.") from exc
            begun = Begun(intents, await self._store.unfinished_children(row.id))
        brought = self._bring(program, row, begun)
        migrated = None if brought.record is None else (row, brought.record)
        return self._make_live(program, brought.row, brought.context, migrated)

    def read(self, row: FlowRow, begun: Begun) -> Context:
        """What a stored flow knows, in today's terms. Raises `IncompatibleFlow`."""
        program = self.program(row.machine, row.id)
        return self._bring(program, row, begun).context

    def _bring(self, program: Program[Any], row: FlowRow, begun: Begun) -> Brought:
        children = [msgspec.structs.replace(child, machine=self._today(child.machine)) for child in begun.children]
        return bring(program.machine, row, Begun(begun.announced, children), self._ledger.clock.now())

    def _today(self, machine: str) -> str:
        """Today's name of a machine; as it is stored where it is not known here."""
        program = self._programs.get(machine)
        return machine if program is None else program.machine.name

    async def outcome(self, row: FlowRow) -> Outcome:
        """How a flow that has ended ended.

        Raises:
            FlowParked: It has not; it is paused until something is fixed.
            IncompatibleFlow: It is paused, and another version of its machine wrote it, or none is known here.
        """
        if row.status != "ended":
            row = (await self.load(row)).row
            raise Trouble.read(row.trouble or "").error(row)
        try:
            return (await self.load(row)).outcome()
        except IncompatibleFlow:  # an older table's end, in its own terms
            return plain_outcome(row)
