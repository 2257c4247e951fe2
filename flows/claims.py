"""Which flows this process may drive, and what others left behind.

A flow names its owner; an owner that is dead has lost it. Taking a flow over is one write that only succeeds if the
flow is still as it was when its owner was looked at; a flow that moved in between is looked at once more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..errors import CLI, CloudError, EffectUncertain, EngineClosed, FlowBusy, FlowNotFound, IncompatibleFlow
from ..io.log import logger
from ..io.owners import Owner, OwnerName, owner_is_alive, sweep_owners
from ..io.records import FlowRow, Record
from ..machines.machine import ResumePolicy
from .flow import Change, Outcome
from .live import LiveFlow, Trouble
from .versions import bring
from .visit import Program
from .ways_on import fitting

if TYPE_CHECKING:
    from .engine import Engine

ORPHANED_SECONDS: Final = 60.0
"""Secrets without a flow are younger than this while a flow is being started; older ones belong to nobody."""


class Claims:
    """The flows of one journal, as one engine may claim them."""

    def __init__(self, engine: Engine, programs: Iterable[Program[Any]], owner: Owner) -> None:
        self._engine = engine
        self._programs = {program.machine.name: program for program in programs}
        self.owner = owner

    def existing(self, flow: str) -> FlowRow:
        """The flow's row. Raises `FlowNotFound`."""
        row = self._engine.journal.flow(flow)
        if row is None:
            raise FlowNotFound(f"no flow has the id {flow!r} in {self._engine.journal.path}")
        return row

    def program(self, machine: str, flow: str = "") -> Program[Any]:
        """What to do for the flows of a machine, or for this one. Raises `IncompatibleFlow`."""
        program = self._programs.get(machine)
        if program is None:
            end = f", or end the flow: {CLI} flows cancel {flow}" if flow else "."
            raise IncompatibleFlow(
                f"the machine {machine} is not known here: the engine was opened without its program",
                hint=f"Open the engine with it{end}",
            )
        return program

    def load(self, row: FlowRow) -> tuple[LiveFlow, Record | None]:
        """The flow, with the record that has to be written first if another version of its machine wrote it.

        Raises:
            IncompatibleFlow: Another version wrote it, and no migration leads from there.
        """
        program = self.program(row.machine, row.id)
        brought = bring(program.machine, row, self._engine.journal, self._engine.clock.now())
        return LiveFlow(self._engine, program, brought.row, brought.context), brought.record

    def must_await_decision(self, row: FlowRow) -> None:
        """Refuse to repeat an effect where nobody was asked about one.

        Raises:
            EffectUncertain: The flow is driven here, or stands in a state that asks nothing.
        """
        policy = self.program(row.machine, row.id).machine.states[row.state].resume
        if policy is not ResumePolicy.ASK or self._engine.driven(row.id) is not None:
            raise EffectUncertain(
                f"flow {row.id} stands in {row.state}, where nothing waits for such a decision",
                hint=fitting(f"Go on with it without --repeat: {CLI} flows resume {row.id}", row),
            )

    def outcome(self, flow: str) -> Outcome:
        """How a flow that is not driven here ended.

        Raises:
            FlowParked: It has not; it waits for somebody to mend something.
            EngineClosed: It has not, and nobody drives it here.
        """
        live, _ = self.load(self.existing(flow))
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
            moved = self.existing(row.id)
            if (moved.seq, moved.owner) == (row.seq, row.owner):
                raise
            return await self._take_over(moved)

    async def _take_over(self, row: FlowRow) -> LiveFlow:
        engine, mine = self._engine, self.owner.name
        if row.owner not in (None, mine) and owner_is_alive(engine.paths.owners_directory, row.owner):
            owner = OwnerName.parse(row.owner)
            raise FlowBusy(row.id, pid=owner.pid, host=owner.host)
        live, record = self.load(row)
        if live.ended:
            return live
        after = msgspec.structs.replace(live.row, owner=mine)
        if record is None:
            await engine.commits.write(lambda: engine.journal.claim(row, mine))
        else:
            await engine.commits.write(lambda: engine.journal.migrate(row, after, record))
            engine.feed.publish(Change.of(row.machine, record))
        live.row = after
        return live

    def discard_secrets(self, flow: str) -> None:
        """Remove the vault of a flow that has ended."""
        try:
            self._engine.vault.discard(flow)
        except CloudError as exc:  # the flow has ended all the same; `tidy` tries again
            logger.warning("the secrets of flow {} are still on disk: {}", flow, exc)

    def tidy(self) -> None:
        """Remove what processes that were killed could not: secrets of flows that ended or never began, lock files."""
        sweep_owners(self._engine.paths.owners_directory)
        for path in self._engine.paths.vault_directory.glob("*.json*"):
            row = self._engine.journal.flow(path.name.partition(".json")[0])
            try:
                orphaned = row is None and time.time() - path.lstat().st_mtime > ORPHANED_SECONDS
                if orphaned or (row is not None and row.status == "ended"):
                    path.unlink()
            except OSError as exc:
                logger.warning("{} holds secrets nobody needs and cannot be removed: {}", path, exc)
