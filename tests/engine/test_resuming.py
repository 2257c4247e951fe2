"""Resuming: one write, also with a migration; never lost while a flow is being paused; never half done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import FlowParked, JournalError
from systemprompt_cloud.engine.machine.migrations import Migration
from systemprompt_cloud.engine.machine.parts import CancelRequested, Event
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.commits import WatchedCommits
from tests.support.journey import JOURNEY, Journey, Left, Noted, journey, journey_machine, until


@pytest.mark.parametrize("migrated", [False, True])
async def test_a_resume_is_one_write(paths: CloudPaths, migrated: bool) -> None:
    """The new owner and the record `resumed` come together, with the migration where there is one; or nothing does."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
    machine = journey_machine(version=2, migrations=[Migration(1)]) if migrated else JOURNEY
    async with open_engine(paths, [journey(machine)]) as engine:
        before = engine.row(flow.id)
        commits = WatchedCommits(engine)
        commits.refused = 1
        with pytest.raises(JournalError, match="the disk is full"):
            await engine.resume(flow.id)
        assert engine.journal.flow(flow.id) == before
        assert [record.kind for record in engine.journal.records(flow.id)] == ["started"]
        commits.made = 0
        await engine.resume(flow.id)
        assert commits.made == 1
        after = engine.journal.flow(flow.id)
        assert after is not None
        assert after.owner is not None
        assert engine.store.is_alive(after.owner)
        assert after.version == machine.version
        kinds = [record.kind for record in engine.journal.records(flow.id)]
        assert kinds == ["started", *(["migrated"] if migrated else []), "resumed"]


@pytest.mark.parametrize("why", ["person", "handover"])
async def test_the_history_says_why(paths: CloudPaths, why: Any) -> None:
    """A record `resumed` for a person, `handover` for another process."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
    async with open_engine(paths, [journey()]) as engine:
        await engine.resume(flow.id, why=why)
        assert [(change.kind, change.event) for change in engine.history(flow.id)][1:] == [
            ("resumed", "resumed" if why == "person" else "handover")
        ]


class Stubborn:
    """An activity that fails as often as told; beside it one that takes its time to let go."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tried = 0
        self.pausing, self.let_go = trio.Event(), trio.Event()

    async def fail(self, _visit: Visit[Journey]) -> Event | None:
        """Fail, or wait."""
        await trio.lowlevel.checkpoint()
        self.tried += 1
        if self.tried <= self.failures:
            raise OSError("broken")
        await trio.sleep_forever()

    async def cling(self, _visit: Visit[Journey]) -> Event | None:
        """Let go when told."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                self.pausing.set()
                await self.let_go.wait()

    @property
    def program(self) -> Program[Journey]:
        """Both at home."""
        wait = [await_signal]
        return Program(JOURNEY, {"home": [self.fail, self.cling], "station": wait, "train": wait})


async def test_a_resume_while_a_flow_is_being_paused_counts(paths: CloudPaths) -> None:
    """It goes on as soon as its activities have let go; it is never seen paused, and `wait` goes on waiting."""
    stubborn = Stubborn(failures=1)
    async with open_engine(paths, [stubborn.program]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        await stubborn.pausing.wait()
        await engine.resume(flow.id)
        stubborn.let_go.set()
        await until(lambda: stubborn.tried == 2)
        assert [change.kind for change in flow.history] == ["started", "resumed"]
        assert flow.row.status == "running"
        assert await flow.send(Left()) is True


async def test_a_resume_counts_for_one_pause(paths: CloudPaths) -> None:
    """What stops the flow after it pauses the flow: a decision to go on does not stay for ever."""
    stubborn = Stubborn(failures=2)
    async with open_engine(paths, [stubborn.program]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        await stubborn.pausing.wait()
        await engine.resume(flow.id)
        stubborn.let_go.set()
        with pytest.raises(FlowParked, match="broken"), trio.fail_after(10):
            await flow.wait()
        assert [change.kind for change in flow.history] == ["started", "resumed", "paused"]
        await engine.resume(flow.id)
        await until(lambda: stubborn.tried == 3)


async def test_an_event_while_a_flow_is_being_paused_leads_on(paths: CloudPaths) -> None:
    """It is taken, and the new state is driven: `True` means that something goes on with it."""
    stubborn = Stubborn(failures=1)
    worked: list[str] = []

    async def work(visit: Visit[Journey]) -> Event | None:
        worked.append(visit.state)
        await trio.sleep_forever()

    program = Program(JOURNEY, {**stubborn.program.activities, "station": [work]})
    async with open_engine(paths, [program]) as engine:
        flow = await engine.start(JOURNEY, Journey())
        await stubborn.pausing.wait()
        assert await flow.send(Left()) is True
        stubborn.let_go.set()
        await until(lambda: worked)
        assert (flow.state, flow.row.status, worked) == ("station", "running", ["station"])


@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize("what", ["resume", "resume paused", "cancel", "send", "start"])
async def test_whoever_gives_up_waiting_leaves_nothing_half_done(paths: CloudPaths, what: str, turns: int) -> None:
    """Cancelled at any moment, a call has its effect or none: the flow is driven, free, or ended; never neither."""
    for moment in range(14):
        stubborn = Stubborn(failures=1)
        stubborn.let_go.set()
        programs = [stubborn.program if what == "resume paused" else journey()]
        async with open_engine(paths, programs) as engine:
            flow = await engine.start(JOURNEY, Journey(), key=f"{what}-{turns}-{moment}")
            if what == "resume paused":
                with suppress(FlowParked):
                    await flow.wait()
        async with open_engine(paths, programs) as engine, open_engine(paths, programs) as other:
            WatchedCommits(engine, turns=turns)
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "cancel": lambda: engine.cancel(flow.id),  # noqa: B023 ends with the block
                "send": lambda: engine.send(flow.id, Noted()),  # noqa: B023
                "start": lambda: engine.start(JOURNEY, Journey(), key=f"{what}-{turns}-{moment}"),  # noqa: B023
            }
            await after_turns(moment, calls.get(what, lambda: engine.resume(flow.id)))  # noqa: B023
            await trio.testing.wait_all_tasks_blocked()
            await still_reachable(engine, other, flow.id)


async def after_turns(turns: int, call: Callable[[], Awaitable[object]]) -> None:
    """Call something, and cancel it after some turns of the scheduler."""
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            scope.cancel()

        with trio.CancelScope() as scope:
            nursery.start_soon(give_up)
            await call()
        nursery.cancel_scope.cancel()


async def still_reachable(engine: Engine, other: Engine, flow: str) -> None:
    """The flow has ended, or is driven here and takes events, or the other engine can drive it."""
    row = engine.journal.flow(flow)
    assert row is not None
    if row.status == "ended":
        assert engine.driven(flow) is None
        return
    driven = engine.driven(flow) is not None
    assert (row.owner is not None and engine.store.is_alive(row.owner)) == driven
    driver = engine if driven else other
    if not driven:
        await other.resume(flow)
    with trio.fail_after(10):
        assert await driver.send(flow, CancelRequested()) is True
        await driver.wait(flow)
    assert driver.row(flow).state == "cancelled"
