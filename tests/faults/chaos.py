"""Run many processes on one journal, kill them at random, and check that nothing was lost or done twice.

    python -m tests.faults.chaos --seconds 60 --processes 8

Processes start, resume, cancel and signal the same few flows and many others, several at the same moment, and do not
wait for every answer; activities fail at random; every few hundredths of a second one of the processes gets SIGKILL and
another takes its place. In the end all are killed, one engine resumes whatever is unfinished,
and the records are checked:

- Is every flow whose start was acknowledged in the journal? Does every one reach a final state?
- Does every history fold to its row, without gaps?
- Did two processes ever drive a flow at the same time? Every record made by an activity names its process, and that may
  change only with a record that the flow was resumed, or with the event that woke a flow at rest. Each activity also
  holds a lock of its own.
- Is every event whose delivery was acknowledged in the history, once? Was an event posted to an inbox delivered at
  most once, and is the inbox empty? Has an event that was refused left no trace?
- Are the secrets of every flow that has ended gone, and does nobody own it?
- Was an outward effect done twice under one key, both times as if for the first time?
- Were two flows with the same key unfinished at the same time? Does a child run whose parent has ended?

The actions are random, and the processes race, so a seed does not reproduce a run. A failed run keeps its files.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import trio
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.fold import check_flow
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import RESTING, UNFINISHED, FlowRow, Record
from systemprompt_cloud.testing.audit import orphans

from tests.faults.chaos_worker import Ack, Nudged, Packed, Place, Poked, programs, work

ALL = 1_000_000
AT_REST = "at_rest"
"""A state in which a flow has no driver."""
FINISH_SECONDS = 60.0


class _Nonce(msgspec.Struct, frozen=True):
    nonce: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a run.

    Attributes:
        processes: How many ran at the same time.
        seconds: The duration.
        kills: How many processes got SIGKILL.
        flows: Flows in the journal, children included.
        records: Records in the journal.
        taken_up: How often a flow was resumed after its process had died or closed its engine.
        refused: How often an action was refused because another process drives the flow.
        sent: Events sent to flows.
        posted: Those of them that were left in the inbox of another process's flow.
        effects: Outward effects, counted by key.
        problems: The broken promises, a sentence each.
    """

    processes: int
    seconds: float
    kills: int
    flows: int
    records: int
    taken_up: int
    refused: int
    sent: int
    posted: int
    effects: int
    problems: list[str]


def run_chaos(directory: Path, *, processes: int = 8, seconds: float = 8.0, seed: int = 0) -> Report:
    """Run processes on one journal for a while, kill them at random, and check the result.

    It forks, so the calling process must have one thread only and must not have opened the journal.

    Args:
        directory: An empty directory for the journal and the traces.
        processes: How many at the same time.
        seconds: For how long.
        seed: Decides the actions of the processes and the kills.
    """
    place = Place(directory)
    rng = random.Random(seed)  # noqa: S311 no secret
    until = time.time() + seconds
    alive: list[int] = []
    kills = started = 0
    try:
        while time.time() < until:
            while len(alive) < processes:
                started += 1
                alive.append(_fork(directory, seed * 1_000_003 + started, until + 60))
            time.sleep(rng.uniform(0.02, 0.12))
            _kill(alive.pop(rng.randrange(len(alive))))
            kills += 1
    finally:
        for pid in alive:
            _kill(pid)
    left = trio.run(_finish, place)
    return examine(place, processes=processes, seconds=seconds, kills=kills + len(alive), left=left)


def _fork(directory: Path, seed: int, until: float) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        # Events for flows that have just ended are expected, so their warnings go to a file.
        log = os.open(directory / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 2)
        work(directory, seed, until)
    finally:
        os._exit(0)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


async def _finish(place: Place) -> list[str]:
    """Resume every unfinished flow and wait for its end; returns a problem for each that did not end."""
    problems: list[str] = []
    async with open_engine(place.paths, programs(place, "finish"), wake=True) as engine:
        flows: list[Flow] = []
        for row in engine.journal.flows(statuses=UNFINISHED, limit=ALL):
            if row.status == RESTING:  # woken by its deadline, by this engine
                flows.append(Flow(engine, row.id))
                continue
            try:
                flows.append(await engine.resume(row.id))
            except CloudError as exc:  # every other process is dead, so no flow can be busy
                problems.append(f"flow {row.id} cannot be resumed: {exc.user_message}")
        for flow in flows:
            with trio.move_on_after(FINISH_SECONDS) as scope:
                try:
                    await flow.wait()
                except CloudError as exc:  # nothing fails any more, so nothing is paused
                    problems.append(f"flow {flow.id} did not end: {exc.user_message}")
            if scope.cancelled_caught:
                problems.append(f"flow {flow.id} is stuck in {flow.state}")
    return problems


def examine(
    place: Place, *, processes: int = 0, seconds: float = 0.0, kills: int = 0, left: Sequence[str] = ()
) -> Report:
    """Check the records after every process has ended.

    Args:
        place: The journal and the traces.
        processes: Copied to the report.
        seconds: Copied to the report.
        kills: Copied to the report.
        left: Problems found before.
    """
    acks = [msgspec.json.decode(line, type=Ack) for line in place.lines("acks")]
    effects = Counter(line.split()[0] for line in place.lines("effects"))
    with Journal(place.paths.journal) as journal:
        rows = {row.id: row for row in journal.flows(limit=ALL)}
        histories = {flow: journal.records(flow) for flow in rows}
        begun = [rows[flow] for flow in journal.begun()]
        problems: list[str] = [*place.lines("problems"), *left, *journal.integrity_problems()]
        problems += [f"flow {row.id} still runs, and its parent has ended" for row in orphans(journal)]
        for row in rows.values():
            problems += check_flow(journal, programs(place, ""), row)
        problems += [
            f"the event {signal.name} is still in the inbox of flow {signal.flow}, which has not ended"
            for signal in journal.signals()
            if signal.flow in rows and rows[signal.flow].status != "ended"
        ]
    problems += _broken_promises(acks, rows, histories)
    problems += [f"flow {row.id} has ended and belongs to {row.owner}" for row in rows.values() if _is_owned(row)]
    ended = [row.id for row in rows.values() if row.status == "ended"]
    problems += [f"the secrets of {flow} are left" for flow in ended if (place.paths.vault / f"{flow}.json").exists()]
    problems += [problem for history in histories.values() for problem in _second_drivers(history)]
    problems += _same_keys(begun, histories)
    problems += _repeated(place.lines("effects"))
    return Report(
        processes=processes,
        seconds=seconds,
        kills=kills,
        flows=len(rows),
        records=sum(map(len, histories.values())),
        taken_up=sum(record.kind == "resumed" for history in histories.values() for record in history),
        refused=sum(ack.what == "busy" for ack in acks),
        sent=sum(bool(ack.nonce) for ack in acks),
        posted=sum(ack.what == "posted" and bool(ack.nonce) for ack in acks),
        effects=len(effects),
        problems=problems,
    )


def _is_owned(row: FlowRow) -> bool:
    return row.status == "ended" and row.owner is not None


def _broken_promises(
    acks: Sequence[Ack], rows: dict[str, FlowRow], histories: dict[str, list[Record]]
) -> Iterator[str]:
    seen = Counter(
        (record.flow, msgspec.json.decode(record.body, type=_Nonce).nonce)
        for history in histories.values()
        for record in history
        if record.kind == "event" and record.name in {Poked.__name__, Nudged.__name__}
    )
    yield from (
        f"flow {flow} took the event {nonce} {times} times" for (flow, nonce), times in seen.items() if times > 1
    )
    for ack in acks:
        if ack.flow not in rows:
            yield f"flow {ack.flow} was {ack.what} and is not there"
        elif ack.what == "taken" and not seen[ack.flow, ack.nonce]:
            yield f"flow {ack.flow} acknowledged the event {ack.nonce} and has lost it"
        elif ack.what == "refused" and seen[ack.flow, ack.nonce]:
            yield f"flow {ack.flow} refused the event {ack.nonce} and has taken it"
        elif ack.what == "cancelled" and rows[ack.flow].status != "ended":
            yield f"flow {ack.flow} was cancelled and has not ended"


def _second_drivers(history: Sequence[Record]) -> Iterator[str]:
    driver: str | None = None
    for before, record in pairwise(history):
        if before.kind == "resumed" or before.from_state == AT_REST:
            driver = None
        if record.name != Packed.__name__:
            continue
        found = msgspec.json.decode(record.body, type=Packed).driver
        if driver not in (None, found):
            yield f"flow {record.flow}: record {record.seq} is by {found}, and {driver} still drove it"
        driver = found


def _same_keys(begun: Iterable[FlowRow], histories: dict[str, list[Record]]) -> Iterator[str]:
    """Flows that began while another of the same key was unfinished; `begun` is in the order of the first writes.

    That order, and not the timestamps: a start is stamped before it is written, and the wait between may be long.
    """
    latest: dict[tuple[str, str], FlowRow] = {}
    for row in begun:
        if row.key is None:
            continue
        before, latest[row.machine, row.key] = latest.get((row.machine, row.key)), row
        # A flow's second record is stamped after its first was written; an end is stamped before it is written.
        if before is not None and any(record.at < before.updated for record in histories[row.id][1:2]):
            yield f"flow {row.id} began while {before.id} of the same key was unfinished"


def _repeated(effects: Sequence[str]) -> Iterator[str]:
    first = Counter(line.split()[0] for line in effects if line.endswith(" first"))
    yield from (f"the effect {key} was done {times} times as if new" for key, times in first.items() if times > 1)


def table(report: Report) -> str:
    """The report as text, one figure a line."""
    lines = {
        "processes at a time": report.processes,
        "seconds": report.seconds,
        "killed with SIGKILL": report.kills,
        "flows": report.flows,
        "records": report.records,
        "flows resumed": report.taken_up,
        "refused, driven elsewhere": report.refused,
        "events sent": f"{report.sent}, {report.posted} of them through the inbox",
        "outward effects": report.effects,
        "lost, torn, doubled, stuck": len(report.problems),
    }
    return "\n".join([*(f"{name:<30} {value}" for name, value in lines.items()), *report.problems])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 if no promise was broken, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))  # noqa: S311 no secret
    parser.add_argument("--json", action="store_true", help="the report as one line of JSON")
    wanted = parser.parse_args(argv)
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    report = run_chaos(directory, processes=wanted.processes, seconds=wanted.seconds, seed=wanted.seed)
    text = msgspec.json.encode(report).decode() if wanted.json else f"{'seed':<30} {wanted.seed}\n{table(report)}"
    sys.stdout.write(text + "\n")
    if report.problems:
        sys.stderr.write(f"the files are in {directory}\n")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
