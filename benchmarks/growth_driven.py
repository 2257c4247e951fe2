"""The work of `growth.py` with flows that are driven."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import trio
import trio.testing
from systemprompt_cloud import Context, Engine, Event, Flow, Machine, Program, State, Verdict, Visit, on, open_engine
from systemprompt_cloud.base.alarms import Alarms
from systemprompt_cloud.engine.ids import child_flow_id, new_flow_id
from systemprompt_cloud.engine.inbox import INBOX_SECONDS
from systemprompt_cloud.testing.clock import NEW_YEAR, VirtualClock

from .crowd import crowd
from .driven_ours import STAYING, STAYING_PROGRAM, Closed, Counted, Noted, paths_at, start_all
from .results import Cost
from .spent import began, spent

NOTES = 6
"""Events of a flow before its last one."""
HOUR = 3600.0
LOOKS = 100


class Many(Context, frozen=True, kw_only=True):
    """How many flows are to be run inside it, or how deep."""

    many: int


class Next(Event, frozen=True):
    """One of them has ended; the next one."""


class AllDone(Event, frozen=True):
    """All have ended."""


def parent(name: str, child: str) -> Machine[Many]:
    """A table of flows that run others in their only state."""
    return Machine(
        name,
        version=1,
        initial="running",
        context=Many,
        states=[State("running", "Runs flows inside it", child=child), State("done", "Done", verdict=Verdict.SUCCESS)],
        rows=[on(Next, "running", "running"), on(AllDone, "running", "done")],
    )


async def _note(visit: Visit[Any]) -> Event:
    for _ in range(NOTES):
        await visit.send(Noted())
    return Closed()


MEMBER = Program(STAYING, {"counting": [_note]})


async def _followed(flow: Flow, *, children: bool = False) -> None:
    async with aclosing(flow.changes(children=children)) as changes:
        async for _ in changes:
            pass


def watched(directory: Path, size: int) -> Cost:
    """So many flows at once, each with a follower of its own."""

    async def send(flow: Flow) -> None:
        for _ in range(NOTES):
            await flow.send(Noted())
        await flow.send(Closed())

    async def main() -> Cost:
        async with open_engine(paths_at(directory), [STAYING_PROGRAM]) as engine:
            flows = await start_all(engine, STAYING, size, Counted())
            async with trio.open_nursery() as nursery:
                for flow in flows:
                    nursery.start_soon(_followed, flow)
                await trio.testing.wait_all_tasks_blocked()
                start = began()
                for flow in flows:
                    nursery.start_soon(send, flow)
            return spent(start)

    return trio.run(main)


async def _run(
    directory: Path,
    size: int,
    name: str,
    child: str,
    activity: Callable[[Visit[Any]], Awaitable[Event]],
    programs: list[Program[Any]],
    *,
    follow: bool = False,
) -> Cost:
    machine = parent(name, child)
    async with open_engine(paths_at(directory), [Program(machine, {"running": [activity]}), *programs]) as engine:
        start = began()
        flow = await engine.start(machine, Many(many=size))
        if follow:
            await _followed(flow, children=True)
        await flow.wait()
        return spent(start)


def watched_family(directory: Path, size: int) -> Cost:
    """A flow that runs so many at once, with one follower of all."""

    async def run(visit: Visit[Many]) -> Event:
        async with trio.open_nursery() as nursery:
            for number in range(visit.context.many):
                nursery.start_soon(_run_child, visit, str(number))
        return AllDone()

    return trio.run(lambda: _run(directory, size, "family", "staying", run, [MEMBER], follow=True))


async def _run_child(visit: Visit[Many], key: str) -> None:
    await visit.run_child(MEMBER, Counted(), key=key)


def series(directory: Path, size: int) -> Cost:
    """A flow that runs so many one after the other."""

    async def run(visit: Visit[Many]) -> Event:
        await visit.run_child(MEMBER, Counted())
        return AllDone() if visit.incarnation == visit.context.many else Next()

    return trio.run(lambda: _run(directory, size, "series", "staying", run, [MEMBER]))


SHAFT = parent("shaft", "shaft")


def nested(directory: Path, size: int) -> Cost:
    """Flows inside flows, so many levels deep."""

    async def dig(visit: Visit[Many]) -> Event:
        if visit.context.many:
            await visit.run_child(program, Many(many=visit.context.many - 1))
        return AllDone()

    program = Program(SHAFT, {"running": [dig]})

    async def main() -> Cost:
        async with open_engine(paths_at(directory), [program]) as engine:
            start = began()
            await (await engine.start(SHAFT, Many(many=size))).wait()
            return spent(start)

    return trio.run(main)


def longest_id(size: int) -> Cost:
    """Characters of the id of a flow so many levels deep."""
    flow = new_flow_id(NEW_YEAR)
    for _ in range(size):
        flow = child_flow_id(flow, SHAFT.name, 1)
    return Cost(len(flow))


def deadlines(size: int) -> Cost:
    """An hour with so many tasks that wait for a later moment."""

    async def main() -> Cost:
        alarms = Alarms(trio.current_time)
        async with trio.open_nursery() as nursery:
            for number in range(size):
                nursery.start_soon(alarms.wait, trio.current_time() + 2 * HOUR + number)
            await trio.testing.wait_all_tasks_blocked()
            start = began()
            await trio.sleep(HOUR)
            cost = spent(start)
            nursery.cancel_scope.cancel()
        return cost

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def resumed(directory: Path, size: int) -> Cost:
    """So many flows, resumed at once."""
    paths = paths_at(directory)

    async def main() -> Cost:
        async with open_engine(paths, [STAYING_PROGRAM]) as engine:
            flows = [flow.id for flow in await start_all(engine, STAYING, size, Counted())]
        async with open_engine(paths, [STAYING_PROGRAM]) as engine:
            start = began()
            await _resume_all(engine, flows)
            return spent(start)

    return trio.run(main)


async def _resume_all(engine: Engine, flows: list[str]) -> None:
    async with trio.open_nursery() as nursery:
        for flow in flows:
            nursery.start_soon(engine.resume, flow)


def looked(directory: Path, size: int) -> Cost:
    """An engine that looks into an inbox where so many signals wait for flows that are paused."""
    paths = paths_at(directory)
    crowd(paths.journal, size, status="paused")
    with closing(sqlite3.connect(paths.journal)) as connection, connection:
        connection.execute("INSERT INTO inbox (flow, at, name, body) SELECT id, updated, 'Noted', '{}' FROM flows")

    async def main() -> Cost:
        async with open_engine(paths, [STAYING_PROGRAM], clock=VirtualClock(), inline=True) as engine:
            await engine.start(STAYING, Counted())
            await trio.sleep(2 * INBOX_SECONDS)
            start = began()
            await trio.sleep(LOOKS * INBOX_SECONDS)
            return spent(start)

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
