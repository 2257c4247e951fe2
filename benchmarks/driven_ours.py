"""Our side of the tables about driven flows, written with public names only.

So the same file measures any version of this package: `side_by_side.py` compares two.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import systemprompt_cloud
import trio
from systemprompt_cloud import (
    STAY,
    CloudPaths,
    Context,
    Engine,
    Event,
    Flow,
    Machine,
    Program,
    State,
    Verdict,
    Visit,
    on,
    open_engine,
)

from .results import Latencies, Run

BATCH = 200
"""Flows that are started concurrently: enough to share commits, few enough not to affect the measurement."""


def where() -> str:
    """The directory of the imported package."""
    return str(Path(systemprompt_cloud.__file__).resolve().parent)


class Counted(Context, frozen=True, kw_only=True):
    """A context of one number, and the number to stop at."""

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
    states=[State("counting", "Counting"), DONE],
    rows=[on(Noted, "counting", STAY, update=plus_one), on(Closed, "counting", "done")],
)


async def idle(_visit: Visit[Any]) -> None:
    """Wait for events from outside."""
    await trio.sleep_forever()


STAYING_PROGRAM = Program(STAYING, {"counting": [idle]})


def paths_at(home: Path | str) -> CloudPaths:
    """Everything in one directory."""
    return CloudPaths(directory=Path(home), state_directory=Path(home), origin="explicit")


async def start_all(engine: Engine, machine: Machine[Any], flows: int, context: Context) -> list[Flow]:
    """Start `flows` flows, `BATCH` of them at a time."""
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
    """An engine with `flows` flows that wait for events."""
    async with open_engine(paths_at(directory), [STAYING_PROGRAM]) as engine:
        yield await start_all(engine, STAYING, flows, Counted())


def collect_after(threshold: int) -> None:
    """Have the garbage collector run after so many new objects; after as many as ever when it is 0."""
    if threshold:
        gc.set_threshold(threshold)


# --- durable transitions ----------------------------------------------------------------------------------------------


def leaving(directory: Path, flows: int, transitions: int, *, threshold: int = 0) -> Run:
    """Every transition leaves a state: its nursery is closed and awaited, and the next one's opened."""
    collect_after(threshold)
    each = max(1, transitions // flows)

    async def main() -> Run:
        begin = trio.Event()

        async def tick(_visit: Visit[Any]) -> Event:
            if not begin.is_set():  # once it is set, waiting would cost a checkpoint per transition
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


def staying(directory: Path, flows: int, transitions: int, *, threshold: int = 0) -> Run:
    """Every transition is an event from outside, sent with `Flow.send`, that stays in its state."""
    collect_after(threshold)
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
