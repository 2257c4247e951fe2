"""Our side of every table."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
import trio.testing
from systemprompt_cloud.flows.engine import Engine, open_engine
from systemprompt_cloud.flows.flow import Flow
from systemprompt_cloud.flows.ids import new_flow_id
from systemprompt_cloud.flows.live import first_lines
from systemprompt_cloud.flows.visit import Program, Visit
from systemprompt_cloud.io.journal import Journal
from systemprompt_cloud.io.paths import CloudPaths
from systemprompt_cloud.machines.machine import STAY, Context, Event, Machine, State, Verdict, on

from .resident import resident_bytes
from .results import Bytes, Filled, Latencies, Run, Seconds

BATCH = 200
"""Flows that are started at the same time when many are: enough to share commits, few enough to leave no mark."""
FILL_BATCH = 2_000


class Counted(Context, frozen=True, kw_only=True):
    """The small state: a number."""

    n: int = 0
    limit: int = 0


class Ticked(Event, frozen=True):
    """Leads to the other state, or to the end."""


class Noted(Event, frozen=True):
    """Progress: it stays in the state."""


class Closed(Event, frozen=True):
    """Leads to the end."""


def plus_one(context: Counted, _event: Event) -> Counted:
    """One more."""
    return msgspec.structs.replace(context, n=context.n + 1)


def enough(context: Counted, _event: Event) -> bool:
    """Whether this one is the last."""
    return context.n + 1 >= context.limit


DONE = State("done", "All transitions have been made", verdict=Verdict.SUCCESS)

LEAVING = Machine(
    "leaving",
    version=1,
    initial="even",
    context=Counted,
    states=[State("even", "An even number of transitions"), State("odd", "An odd number of transitions"), DONE],
    rows=[
        on(Ticked, "even", "done", when=enough, update=plus_one),
        on(Ticked, "even", "odd", update=plus_one),
        on(Ticked, "odd", "done", when=enough, update=plus_one),
        on(Ticked, "odd", "even", update=plus_one),
    ],
)
STAYING = Machine(
    "staying",
    version=1,
    initial="counting",
    context=Counted,
    states=[State("counting", "Somebody counts"), DONE],
    rows=[on(Noted, "counting", STAY, update=plus_one), on(Closed, "counting", "done")],
)


async def idle(_visit: Visit[Any]) -> None:
    """Nothing to do but wait for events from outside."""
    await trio.sleep_forever()


STAYING_PROGRAM = Program(STAYING, {"counting": [idle]})


def paths_at(home: Path | str) -> CloudPaths:
    """Everything in one directory."""
    return CloudPaths(directory=Path(home), state_directory=Path(home), origin="explicit")


async def start_all(engine: Engine, machine: Machine[Any], flows: int, context: Context) -> list[Flow]:
    """Start so many flows."""
    started: list[Flow] = []

    async def start() -> None:
        started.append(await engine.start(machine, context))

    for first in range(0, flows, BATCH):
        async with trio.open_nursery() as nursery:
            for _ in range(min(BATCH, flows - first)):
                nursery.start_soon(start)
    return started


@asynccontextmanager
async def standing(directory: Path, flows: int) -> AsyncGenerator[list[Flow]]:
    """So many flows that stand in a state and wait for events."""
    async with open_engine(paths_at(directory), [STAYING_PROGRAM]) as engine:
        yield await start_all(engine, STAYING, flows, Counted())


# --- durable transitions ----------------------------------------------------------------------------------------------


def leaving(directory: Path, flows: int, transitions: int) -> Run:
    """Every transition leaves a state: its nursery is closed and awaited, and the next one's opened."""
    each = max(1, transitions // flows)

    async def main() -> Run:
        begin = trio.Event()

        async def tick(_visit: Visit[Any]) -> Event:
            if not begin.is_set():  # the gate before the clock runs, and no turn of the loop for it afterwards
                await begin.wait()
            return Ticked()

        program = Program(LEAVING, {"even": [tick], "odd": [tick]})
        set_up = time.perf_counter()
        async with open_engine(paths_at(directory), [program]) as engine:
            started = await start_all(engine, LEAVING, flows, Counted(limit=each))
            start = time.perf_counter()
            begin.set()
            for flow in started:
                await flow.wait()
            return Run(flows, time.perf_counter() - start, flows * each, start - set_up)

    return trio.run(main)


def staying(directory: Path, flows: int, transitions: int) -> Run:
    """Every transition is an event from outside, sent with `Flow.send`, that stays in its state."""
    each = max(1, transitions // flows)

    async def send(flow: Flow) -> None:
        for _ in range(each):
            await flow.send(Noted())

    async def main() -> Run:
        set_up = time.perf_counter()
        async with standing(directory, flows) as started:
            start = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for flow in started:
                    nursery.start_soon(send, flow)
            return Run(flows, time.perf_counter() - start, flows * each, start - set_up)

    return trio.run(main)


# --- latency ----------------------------------------------------------------------------------------------------------


def latencies(directory: Path, flows: int, events: int, *, together: bool = False) -> Latencies:
    """How long each `Flow.send` takes until it is durable; one after the other, or from all flows at once."""
    taken: list[float] = []

    async def send(flow: Flow) -> None:
        start = time.perf_counter()
        await flow.send(Noted())
        taken.append(time.perf_counter() - start)

    async def main() -> None:
        async with standing(directory, flows) as started:
            if together:
                for _ in range(max(1, events // flows)):
                    async with trio.open_nursery() as nursery:
                        for flow in started:
                            nursery.start_soon(send, flow)
            else:
                for flow in itertools.islice(itertools.cycle(started), events):
                    await send(flow)

    trio.run(main)
    return Latencies.of(taken)


# --- memory -----------------------------------------------------------------------------------------------------------


def idle_bytes(directory: Path, flows: int) -> Bytes:
    """What flows that stand in a state and wait add to the process."""

    async def main() -> Bytes:
        async with open_engine(paths_at(directory), [STAYING_PROGRAM]) as engine:
            await start_all(engine, STAYING, 10, Counted())
            before = resident_bytes()
            held = await start_all(engine, STAYING, flows, Counted())
            return Bytes(resident_bytes() - before, len(held))

    return trio.run(main)


def bare_task_bytes(flows: int) -> Bytes:
    """What tasks that sleep, each in a nursery of its own as every flow is, add to the process."""

    async def sleeper() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)

    async def main() -> Bytes:
        async with trio.open_nursery() as nursery:
            before = resident_bytes()
            for _ in range(flows):
                nursery.start_soon(sleeper)
            await trio.testing.wait_all_tasks_blocked()
            grown = resident_bytes() - before
            nursery.cancel_scope.cancel()
        return Bytes(grown, flows)

    return trio.run(main)


# --- among many -------------------------------------------------------------------------------------------------------


def fill(home: str, flows: int) -> Filled:
    """A journal with so many finished flows of two transitions each, and one in their middle that stands and waits."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    unfinished = ""
    with Journal(paths_at(home).journal) as journal:
        for first in range(0, flows, FILL_BATCH):
            operations: list[Callable[[], None]] = []
            for number in range(first, min(flows, first + FILL_BATCH)):
                now += timedelta(seconds=1)
                flow = new_flow_id(now)
                row, record = first_lines(flow, STAYING, Counted(), now=now, key=None, parent=None, owner="nobody")
                operations.append(partial(journal.begin, row, record))
                if number == flows // 2:
                    unfinished = flow
                    operations.append(partial(journal.claim, row, None))
                    continue
                for event, to in (("Noted", "counting"), ("Closed", "done")):
                    before, ended = row, to == "done"
                    row = msgspec.structs.replace(
                        row,
                        seq=row.seq + 1,
                        state=to,
                        incarnation=row.incarnation + ended,
                        status="ended" if ended else "running",
                        verdict="success" if ended else None,
                        owner=None if ended else "nobody",
                    )
                    record = msgspec.structs.replace(
                        record,
                        seq=row.seq,
                        kind="event",
                        name=event,
                        body=f'{{"event":"{event}"}}',
                        from_state=before.state,
                        to_state=to,
                        incarnation=row.incarnation,
                    )
                    operations.append(partial(journal.advance, before, row, record))
            journal.write(operations)
    return Filled(unfinished)


def newest(home: str, flow: str) -> Seconds:
    """Open the journal and list the newest twenty flows."""
    start = time.perf_counter()
    with Journal(paths_at(home).journal, create=False) as journal:
        rows = journal.flows(limit=20)
    taken = time.perf_counter() - start
    assert len(rows) == 20
    assert all(row.id != flow for row in rows)
    return Seconds(taken)


def resumed(home: str, flow: str) -> Seconds:
    """Open an engine and resume a flow, until it is claimed, noted in the journal, and driven."""

    async def main() -> Seconds:
        start = time.perf_counter()
        async with open_engine(paths_at(home), [STAYING_PROGRAM]) as engine:
            await engine.resume(flow)
            return Seconds(time.perf_counter() - start)

    return trio.run(main)
