"""Flows over their program's limit are queued, and begin in order when there is room."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import JournalError, MachineInvalid
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.limits import Limit
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.audit import audit_journal
from systemprompt_cloud.testing.clock import NEW_YEAR, VirtualClock
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.commits import WatchedCommits
from tests.support.rehearsal import wait_parked


class Number(Context, frozen=True, kw_only=True):
    """Which flow it is."""

    number: int = 0
    inner: bool = False


class Done(Event, frozen=True):
    """The end."""


def machine(name: str = "job") -> Machine[Number]:
    """One state and two ends."""
    return Machine(
        name,
        version=1,
        initial="working",
        context=Number,
        states=[
            State("working", "being done"),
            State("done", "done", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[on(Done, "working", "done"), on(CancelRequested, ANY, "cancelled")],
    )


JOB = machine()


class Site:
    """Where the work is done.

    Attributes:
        began: The number of each flow that began, and when, in seconds since New Year.
        most: The most flows that were at work at one moment.
        seconds: How long each works; None for ever.
        fails: The numbers of flows that fail.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.began: list[tuple[int, float]] = []
        self.seconds = seconds
        self.fails: set[int] = set()
        self.at_work = self.most = 0

    async def work(self, visit: Visit[Number]) -> Event:
        """Take a while."""
        self.began.append((visit.context.number, round((visit.clock.now() - NEW_YEAR).total_seconds(), 3)))
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            if visit.context.number in self.fails:
                raise OSError("as the test ordered")
            await trio.sleep(math.inf if self.seconds is None else self.seconds)
        finally:
            self.at_work -= 1
        return Done()

    def program(self, limit: Limit | None, table: Machine[Number] = JOB) -> Program[Number]:
        """The job, here."""
        return Program(table, {"working": [self.work]}, limit=limit)

    @property
    def order(self) -> list[int]:
        """Which flows began, in order."""
        return [number for number, _ in self.began]


async def start(engine: Engine, *numbers: int, table: Machine[Number] = JOB) -> list[Flow]:
    """Flows of these numbers, started one after the other."""
    flows: list[Flow] = []
    for number in numbers:
        await trio.sleep(0.01)  # ids are sorted by milliseconds
        flows.append(await engine.start(table, Number(number=number)))
    return flows


def statuses(flows: list[Flow]) -> list[str]:
    """What they are doing."""
    return [flow.row.status for flow in flows]


async def test_so_many_run_at_once_and_the_others_follow_in_order(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Each begins as soon as there is room, and not before."""
    site, limit = Site(10.0), Limit(concurrent=2)
    program = site.program(limit)
    async with open_engine(paths, [program], clock=clock, inline=True) as engine:
        flows = await start(engine, *range(5))
        assert statuses(flows) == ["running", "running", "queued", "queued", "queued"]
        assert (limit.taken, limit.waiting) == (2, 3)
        for flow in flows:
            assert (await flow.wait()).succeeded
        assert site.most == 2
        assert site.order == [0, 1, 2, 3, 4]
        assert [change.kind for change in flows[0].history] == ["started", "event"]
        assert [change.kind for change in flows[4].history] == ["started", "begun", "event"]
        assert (limit.taken, limit.waiting) == (0, 0)
        assert audit_journal(engine.journal, [program]) == []


async def test_begins_are_spread_over_time(paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock) -> None:
    """`per_second`: evenly, also below one; a pause before gives no burst after it."""
    site = Site()
    async with open_engine(paths, [site.program(Limit(per_second=0.5))], clock=clock, inline=True) as engine:
        await start(engine, 0, 1, 2)
        await trio.sleep(99.97)
        await start(engine, 3, 4)
        await trio.sleep(100)
    assert [moment for _, moment in site.began] == [0.0, 2.0, 4.0, 100.0, 102.0]
    assert site.order == [0, 1, 2, 3, 4]


async def test_both_limits_hold(paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock) -> None:
    """A place that becomes free is not taken before its time."""
    site = Site(0.1)
    async with open_engine(
        paths, [site.program(Limit(concurrent=1, per_second=1))], clock=clock, inline=True
    ) as engine:
        for flow in await start(engine, 0, 1, 2):
            await flow.wait()
    assert [moment for _, moment in site.began] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("how", ["paused", "cancelled"])
async def test_whatever_ends_the_drive_makes_room(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock, how: str
) -> None:
    """A flow that is paused does nothing: the next one begins. Resumed it has a place at once, beyond the limit."""
    site = Site()
    if how == "paused":
        site.fails.add(0)
    limit = Limit(concurrent=1)
    async with open_engine(paths, [site.program(limit)], clock=clock, inline=True) as engine:
        first, second, third = await start(engine, 0, 1, 2)
        if how == "cancelled":
            await first.cancel()
            await first.wait()
        else:
            await wait_parked(first)
        await wait_all_tasks_blocked()
        assert statuses([second, third]) == ["running", "queued"]
        if how == "paused":
            site.fails.clear()
            await engine.resume(first.id)
            await wait_all_tasks_blocked()
            assert limit.taken == 2
            await second.cancel()
            await wait_all_tasks_blocked()
            assert statuses([third]) == ["queued"]
            await first.cancel()
            await wait_all_tasks_blocked()
            assert statuses([third]) == ["running"]


async def test_a_queued_flow_that_is_cancelled_leaves_the_line(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """The one behind it moves up, and no place is lost."""
    site, limit = Site(), Limit(concurrent=1)
    async with open_engine(paths, [site.program(limit)], clock=clock, inline=True) as engine:
        first, second, third = await start(engine, 0, 1, 2)
        await second.cancel()
        assert (await second.wait()).verdict == "cancelled"
        await first.cancel()
        await wait_all_tasks_blocked()
        assert third.row.status == "running"
        assert site.order == [0, 2]
        assert (limit.taken, limit.waiting) == (1, 0)


async def test_a_restart_keeps_the_order(paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock) -> None:
    """Whatever the order in which they are resumed: the line goes by when they were started."""
    site = Site(10.0)
    async with open_engine(paths, [site.program(Limit(concurrent=1))], clock=clock, inline=True) as engine:
        flows = await start(engine, 0, 1, 2, 3)
    site.began.clear()
    async with open_engine(paths, [site.program(Limit(concurrent=1))], clock=clock, inline=True) as engine:
        first = await engine.resume(flows[0].id)
        for flow in (flows[3], flows[1], flows[2]):
            assert (await engine.resume(flow.id)).row.status == "queued"
        (newest,) = await start(engine, 4)
        await first.wait()
        await newest.wait()
    assert site.order == [0, 1, 2, 3, 4]


async def test_a_delayed_flow_joins_the_line_at_its_time(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """It takes no place before, and stands behind those that waited by then."""
    site = Site(100.0)
    limit = Limit(concurrent=1)
    async with open_engine(paths, [site.program(limit)], clock=clock, inline=True) as engine:
        delayed = await engine.start(JOB, Number(number=9), delay=50)
        flows = await start(engine, 0, 1)
        assert limit.waiting == 1
        await trio.sleep(60)
        (late,) = await start(engine, 2)
        assert limit.waiting == 3
        for flow in (*flows, late, delayed):
            await flow.wait()
    assert site.order == [0, 1, 9, 2]


async def test_engines_of_one_process_share_a_limit(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Of one journal or of two; and programs that are given the same one."""
    site, limit = Site(10.0), Limit(concurrent=2)
    other_table = machine("other")
    programs = [site.program(limit), site.program(limit, other_table)]
    async with (
        open_engine(paths, programs, clock=clock, inline=True) as one,
        open_engine(paths, programs, clock=clock, inline=True) as two,
    ):
        flows = [
            *await start(one, 0),
            *await start(two, 1),
            *await start(two, 2, table=other_table),
            *await start(one, 3),
            *await start(two, 4),
        ]
        assert statuses(flows) == ["running", "running", "queued", "queued", "queued"]
        for flow in flows:
            await flow.wait()
    assert site.most == 2
    assert site.order == [0, 1, 2, 3, 4]


def test_engines_in_several_threads_share_a_limit(paths: CloudPaths) -> None:
    """A place that becomes free in one event loop wakes a flow in another."""
    limit, go = Limit(concurrent=1), trio.Event()
    order: list[str] = []

    async def inner() -> None:
        place = await limit.join(("b", "b")).wait(VirtualClock())
        order.append("thread")
        place.release()

    async def main() -> None:
        place = limit.take()
        async with trio.open_nursery() as nursery:

            async def thread() -> None:
                await trio.to_thread.run_sync(trio.run, inner)
                go.set()

            nursery.start_soon(thread)
            while not limit.waiting:  # noqa: ASYNC110 a thread cannot set an event of ours
                await trio.sleep(0.001)
            order.append("main")
            place.release()
            with trio.fail_after(30):
                await go.wait()

    trio.run(main)
    assert order == ["main", "thread"]
    assert (limit.taken, limit.waiting) == (0, 0)


async def test_a_child_inside_a_flow_with_a_place_needs_none(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """It would wait for its own parent; a child of a program with a limit of its own does wait."""
    site = Site(1.0)
    outer_limit, inner_limit = Limit(concurrent=1), Limit(concurrent=1)
    inner = site.program(inner_limit, machine("inner"))

    async def runs_children(visit: Visit[Number]) -> Event:
        if not visit.context.inner:
            await visit.run_child(outer, Number(inner=True))
        async with trio.open_nursery() as nursery:
            for number in (1, 2):
                nursery.start_soon(run, visit, number)
        return Done()

    async def run(visit: Visit[Number], number: int) -> None:
        await visit.run_child(inner, Number(number=number), key=str(number))

    outer = Program(JOB, {"working": [runs_children]}, limit=outer_limit)
    async with open_engine(paths, [outer, inner], clock=clock, inline=True) as engine:
        flow = await engine.start(JOB, Number())
        assert (await flow.wait()).succeeded
        assert site.most == 1
        assert len(site.began) == 4
        assert (outer_limit.taken, inner_limit.taken) == (0, 0)
        assert audit_journal(engine.journal, [outer, inner]) == []


async def test_a_start_that_cannot_be_written_keeps_no_place(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Nothing was started, so nothing is counted."""
    limit = Limit(concurrent=1)
    async with open_engine(paths, [Site().program(limit)], clock=clock, inline=True) as engine:
        with trio.CancelScope() as scope:
            scope.cancel()
            await engine.start(JOB, Number(), secrets={"a": "b"})
        assert engine.journal.flows() == []
        assert limit.taken == 0
        commits = WatchedCommits(engine)
        commits.refused = 2
        for _ in range(2):
            with pytest.raises(JournalError):
                await engine.start(JOB, Number())
        assert (limit.taken, limit.waiting) == (0, 0)
        await engine.start(JOB, Number())
        commits.refused = 1
        with pytest.raises(JournalError):
            await engine.start(JOB, Number())
        assert (limit.taken, limit.waiting) == (1, 0)


async def test_who_was_queued_first_is_first_however_long_its_commit_takes(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """A flow stands in line from before it is written: no later start takes the place that becomes free meanwhile."""
    site, limit = Site(10.0), Limit(concurrent=1)
    place = limit.take()
    async with open_engine(paths, [site.program(limit)], clock=clock, inline=True) as engine:
        WatchedCommits(engine, turns=20)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.start, JOB, Number(number=1))
            await trio.lowlevel.checkpoint()
            while not limit.waiting:
                await trio.lowlevel.checkpoint()
            place.release()
            autojump_clock.jump(0.01)  # two flows of one moment have no order
            later = await engine.start(JOB, Number(number=2))
        await later.wait()
    assert site.order == [1, 2]


async def test_closing_the_engine_gives_every_place_back(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """The next engine of the process has all of them."""
    site, limit = Site(), Limit(concurrent=1)
    async with open_engine(paths, [site.program(limit)], clock=clock, inline=True) as engine:
        await start(engine, 0, 1)
    assert (limit.taken, limit.waiting) == (0, 0)


@given(
    st.lists(
        st.tuples(st.sampled_from(["wait", "take", "try", "release", "cancel", "time"]), st.integers(0, 5)),
        max_size=40,
    ),
    st.one_of(st.none(), st.integers(1, 3)),
    st.sampled_from([None, 0.5, 3.0]),
)
@settings(deadline=None, max_examples=60)
def test_any_history_of_a_limit(steps: list[tuple[str, int]], concurrent: int | None, per_second: float | None) -> None:
    """Never more than the limit but by `take`, always in order among those who wait, and no wait without a cause."""
    if concurrent is None and per_second is None:
        per_second = 3.0

    async def main() -> None:
        limit, clock = Limit(concurrent=concurrent, per_second=per_second), VirtualClock()
        places: list[Any] = []
        scopes: list[tuple[tuple[str, str], trio.CancelScope]] = []
        begun: list[float] = []
        forced = 0

        async def wait(order: tuple[str, str]) -> None:
            with trio.CancelScope() as scope:
                entry = (order, scope)
                scopes.append(entry)
                try:
                    place = await limit.join(order).wait(clock)
                finally:
                    scopes.remove(entry)
                ahead = [other for other, theirs in scopes if other < order and not theirs.cancel_called]
                assert not ahead, f"{order} began before {ahead}"
                begun.append(trio.current_time())
                places.append(place)

        async with trio.open_nursery() as nursery:
            for number, (step, value) in enumerate(steps):
                match step:
                    case "wait":
                        nursery.start_soon(wait, (str(value), f"{number:03}"))
                    case "take":
                        places.append(limit.take())
                        forced += 1
                    case "try":
                        if (place := limit.take_if_free(clock)) is not None:
                            assert not scopes
                            begun.append(trio.current_time())
                            places.append(place)
                    case "release" if places:
                        place = places.pop(value % len(places))
                        place.release()
                        place.release()
                    case "cancel" if scopes:
                        scopes[value % len(scopes)][1].cancel()
                    case _:
                        await trio.sleep(value / 4)
                await wait_all_tasks_blocked()
                assert limit.taken == len(places)
                if concurrent is not None and not forced:
                    assert limit.taken <= concurrent
                room = concurrent is None or limit.taken < concurrent
                if room and per_second is None:
                    assert not scopes, "somebody waits, and there is room"
            for scope in [each for _, each in scopes]:
                scope.cancel()
        if per_second is not None:
            gaps = [later - earlier for earlier, later in pairwise(begun)]
            assert all(gap >= 1 / per_second - 1e-5 for gap in gaps)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Limit, "limits nothing"),
        (lambda: Limit(concurrent=0), "concurrent=0"),
        (lambda: Limit(concurrent=True), "concurrent=True"),
        (lambda: Limit(per_second=0), "per_second=0"),
        (lambda: Limit(per_second=math.nan), "per_second=nan"),
        (lambda: Limit(per_second=math.inf), "per_second=inf"),
        (lambda: Program(JOB, {"working": [await_signal]}, limit=3), "3 is no limit"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_what_limits_nothing_is_refused(make: Callable[[], object], message: str) -> None:
    """By name, with the value."""
    with pytest.raises(MachineInvalid, match=message):
        make()


async def test_a_clock_that_went_back_stops_nobody(clock: VirtualClock, autojump_clock: MockClock) -> None:
    """A limit may outlive an event loop, whose clock began elsewhere: it waits at most one gap."""
    limit = Limit(per_second=1)

    class Later(VirtualClock):
        def elapsed(self) -> float:
            return super().elapsed() + 1e6

    limit.take_if_free(Later())
    with trio.fail_after(2):
        (await limit.join(("a", "a")).wait(clock)).release()
    assert timedelta(seconds=trio.current_time()) < timedelta(seconds=1.1)
