"""The specification: what must be true at rest, and of what calls returned.

Nothing here knows how the engine does it. Every flow is driven by exactly one process, or has ended, or can be reached;
and every acknowledged operation has its effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from systemprompt_cloud.engine.fold import check_flow
from systemprompt_cloud.engine.journal.records import RESTING, FlowRow, Signal
from systemprompt_cloud.testing.audit import orphans

from . import semantics
from .answers import Answers, Numbers
from .log import Call
from .machines import MACHINES, Activities

if TYPE_CHECKING:
    from .simulation import Simulation

EVERY_FLOW: Final = 1000
EARLY_SECONDS: Final = 0.2
"""How much the wall clock of a history gains by being looked at, more or less."""
LATE_SECONDS: Final = 1.0


def problems_at_rest(simulation: Simulation, *, final: bool) -> list[str]:
    """What is wrong once no task can run and nothing fails any more; `final` when a fresh engine has resumed all."""
    found: list[str] = []
    rows = simulation.journal.flows(limit=EVERY_FLOW)
    for row in rows:
        found += _wrong_driver(simulation, row)
        found += _wrong_secrets(simulation, row, final=final)
        found += _wrong_deadline(simulation, row)
        if final and row.parent is None and row.status == "running" and not _drivers(simulation, row):
            found.append(f"{row.id} was resumed in {row.state} and nobody drives it")
    by_id = {row.id: row for row in rows}
    found += _wrong_signals(simulation, by_id)
    found += _wrong_children(simulation, final=final)
    found += _wrong_waits(simulation, by_id)
    return found


def problems_after_all(simulation: Simulation) -> list[str]:
    """What is wrong after the fresh engine has cancelled everything."""
    found = [f"the file: {problem}" for problem in simulation.journal.integrity_problems()]
    programs = Activities(simulation).programs()
    rows = simulation.journal.flows(limit=EVERY_FLOW)
    for row in rows:
        found += check_flow(simulation.journal, programs, row)
        if row.status != "ended":
            found.append(f"{row.id} was cancelled and is {row.status} in {row.state}")
        elif row.owner is not None:
            found.append(f"{row.id} has ended and has the owner {row.owner}")
    found += [f"the secrets {path.name} are left" for path in _left_secrets(simulation)]
    found += [f"an activity of {work.visit.flow} is still at work" for work in simulation.working]
    found += _wrong_signals(simulation, {row.id: row for row in rows})
    return found


def wrong_answers(simulation: Simulation, calls: Sequence[Call]) -> list[str]:
    """What is wrong with what calls returned, by what is in the journal now."""
    answers = Answers(simulation, Numbers(simulation.journal, simulation.log, EVERY_FLOW))
    return [*answers.wrong(calls), *answers.wrong_for_activities()]


# --- driving ----------------------------------------------------------------------------------------------------------


def _drivers(simulation: Simulation, row: FlowRow) -> list[int]:
    """The processes that have an activity of the flow's present visit at work."""
    return sorted(
        {
            work.process.number
            for work in simulation.working
            if work.visit.flow == row.id and work.visit.incarnation == row.incarnation and not work.process.dead
        }
    )


def _waits(simulation: Simulation, row: FlowRow) -> bool:
    """Whether there is something that the flow waits for."""
    return row.status == RESTING or bool(_drivers(simulation, row))


def _wrong_driver(simulation: Simulation, row: FlowRow) -> Iterator[str]:
    alive = {each.owner: each.number for each in simulation.processes if not each.dead and not each.closed.is_set()}
    owner = alive.get(row.owner) if row.owner is not None else None
    drivers = _drivers(simulation, row)
    where = f"{row.id}, {row.status} in visit {row.incarnation} of {row.state}"
    if owner is not None and owner not in drivers:
        yield f"{where}: it belongs to process {owner}, which does not drive it"
    if owner is not None and row.status != "running":
        yield f"{where}: it belongs to process {owner}"
    for driver in drivers:
        if driver != owner:
            yield f"{where}: process {driver} drives it, and it belongs to {owner}"
    stale = [
        work
        for work in simulation.working
        if work.visit.flow == row.id and work.visit.incarnation != row.incarnation and not work.process.dead
    ]
    for work in stale:
        yield f"{where}: an activity of visit {work.visit.incarnation} is still at work"


def _wrong_deadline(simulation: Simulation, row: FlowRow) -> Iterator[str]:
    """A deadline passes after the seconds of the flow's context, however often the wall clock is set meanwhile.

    Only of flows that were never resumed: the deadline of another is a moment of the wall clock when it is read.
    """
    records = [record for _, record in simulation.log.records[row.id]]
    context = MACHINES[row.machine].decode_context(row.context)
    timed = row.machine == "timed" or (
        row.machine == "rests" and row.state != "second" and not simulation.plan.sets_clock
    )
    if not timed or records[-1].kind == "paused" or any(each.kind == "resumed" for each in records):
        return
    passed = next((record.at for record in records if record.name == "DeadlinePassed"), None)
    seconds = (trio.current_time() if passed is None else passed) - records[0].at
    if passed is not None and seconds < context.patience - EARLY_SECONDS:
        yield f"{row.id} has {context.patience} s, and its deadline passed after {seconds:.2f} s"
    elif passed is None and _waits(simulation, row) and seconds > context.patience + LATE_SECONDS:
        yield f"{row.id} has {context.patience} s, and its deadline has not passed after {seconds:.2f} s"


def _wrong_secrets(simulation: Simulation, row: FlowRow, *, final: bool) -> Iterator[str]:
    if row.status != "ended" or not (simulation.paths.vault / f"{row.id}.json").exists():
        return
    # A process that is killed between an end and the removal leaves it to the next engine that is opened, as does one
    # that is closed and could not remove it.
    failed = {
        entry.process for _, entry in simulation.log.failures if entry.what == "vault discard" and row.id in entry.flows
    }
    left = any(process.dead or (process.number in failed and not process.open) for process in simulation.processes)
    if final or not left:
        yield f"{row.id} has ended, and its secrets are on disk"


def _left_secrets(simulation: Simulation) -> list[Path]:
    """What is left in the vault when every flow has ended.

    What belongs to a flow that never began stays for a minute: its process was killed, or could not remove it.
    """
    log = simulation.log
    failed = any(entry.what == "vault discard" for _, entry in log.failures)
    excused = failed or any(process.dead for process in simulation.processes)
    left = simulation.paths.vault.glob("*")
    return [path for path in left if path.stem in log.rows or not excused]


def _wrong_children(simulation: Simulation, *, final: bool) -> Iterator[str]:
    for row in orphans(simulation.journal):
        parent = simulation.journal.flow(row.parent or "")
        assert parent is not None
        # Where nothing drives the parent, its next resume stops the child.
        if final or _drivers(simulation, row) or _drivers(simulation, parent):
            yield f"{row.id} goes on in {row.state}; its parent is {parent.status} in visit {parent.incarnation}"


def _wrong_signals(simulation: Simulation, rows: dict[str, FlowRow]) -> Iterator[str]:
    for signal in simulation.journal.signals():
        row = rows[signal.flow]
        if row.status == "ended" or not _takes(row, signal):
            continue
        since = (
            "at rest"
            if row.status == RESTING
            else "driven"
            if _drivers(simulation, row)
            else "resumed"
            if _visited_since(simulation, row, signal)
            else ""
        )
        if since:
            yield (
                f"{row.id} is {row.status} in {row.state} and was {since} since {signal.name} {signal.body} was left "
                f"in its inbox, and has not taken it"
            )


def _visited_since(simulation: Simulation, row: FlowRow, signal: Signal) -> bool:
    """Whether the flow was resumed in this visit after the signal was left, and its activities began after that.

    A process that is stopped between the two, or cannot write, leaves the signal to the next one.
    """
    log = simulation.log
    resumed = [
        number
        for number, record in log.wrote(row.id, log.posted[signal.id][0], log.now, "resumed")
        if record.incarnation == row.incarnation
    ]
    if not resumed or any(number > resumed[0] and row.id in failed.flows for number, failed in log.failures):
        return False
    return any(number > resumed[0] for number, work in log.work[row.id] if work.how == "began")


def _wrong_waits(simulation: Simulation, rows: dict[str, FlowRow]) -> Iterator[str]:
    for call in simulation.log.calls:
        if not call.pending:
            continue
        row = rows[call.flow]
        if call.operation.kind == "wait":
            pending = _waits(simulation, row)  # wherever it is driven
        else:
            pending = call.process in _drivers(simulation, row)
        if not pending:
            yield f"{call.operation.kind} of {row.id} by process {call.process} does not return: it is {row.status}"


def _takes(row: FlowRow, signal: Signal) -> bool:
    return signal.name == "CancelRequested" or semantics.takes(row.machine, row.state, signal.name)
