"""Flows are started once, found again, followed from the first change to the last, and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest
import trio
from anyio.from_thread import start_blocking_portal
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EngineClosed, FlowBusy, FlowInterrupted, FlowNotFound, IncompatibleFlow
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.history import Change
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from trio.testing import wait_all_tasks_blocked

from tests.support.parcel import PARCEL, Fails, Oops, Packed, Parcel, Stamped, deliver, parcel


async def test_a_key_makes_starting_idempotent(paths: CloudPaths) -> None:
    """While the flow is unfinished the same one is handed out, in this process and the next; then a new one starts."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel(stamps=1), key="k")
        same = await engine.start(PARCEL, Parcel(stamps=9), key="k")
        assert same.id == flow.id
        assert [change.kind for change in flow.history] == ["started"]
        assert (await engine.start(PARCEL, Parcel(), key="other")).id != flow.id
    async with open_engine(paths, [parcel()]) as engine:
        again = await engine.start(PARCEL, Parcel(stamps=9), key="k")
        assert (again.id, again.context) == (flow.id, Parcel(stamps=1))
        await again.cancel()
        assert (await engine.start(PARCEL, Parcel(), key="k")).id != flow.id


async def test_starting_the_same_key_at_once_starts_one_flow(paths: CloudPaths) -> None:
    """Twenty callers in one process share it."""
    ids: set[str] = set()
    async with open_engine(paths, [parcel()]) as engine:

        async def start() -> None:
            ids.add((await engine.start(PARCEL, Parcel(), key="k")).id)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(start)
        assert len(ids) == 1
        assert len(engine.journal.flows()) == 1


async def test_two_engines_at_once_and_the_second_is_told(paths: CloudPaths) -> None:
    """`FlowBusy` names the process; nothing is disturbed; when the first lets go, the second may continue."""
    async with open_engine(paths, [parcel()]) as second:
        async with open_engine(paths, [parcel()]) as first:
            flow = await first.start(PARCEL, Parcel(), key="k")
            starting, resuming = second.start(PARCEL, Parcel(), key="k"), second.resume(flow.id)
            for attempt in (starting, resuming):
                with pytest.raises(FlowBusy) as caught:
                    await attempt
                assert str(caught.value.pid) in str(flow.row.owner)
            assert [change.kind for change in flow.history] == ["started"]
            await flow.send(Stamped())
        assert (await second.start(PARCEL, Parcel(), key="k")).id == flow.id


async def test_closing_leaves_every_flow_resumable(paths: CloudPaths) -> None:
    """What Ctrl-C does: whoever waited is told, the state stands, and the next process goes on from it."""
    told: list[str] = []

    async def wait(flow: Flow) -> None:
        with pytest.raises(EngineClosed) as caught:
            await flow.wait()
        told.append(caught.value.user_message)

    async with trio.open_nursery() as nursery, open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        await flow.send(Stamped())
        nursery.start_soon(wait, flow)
        await wait_all_tasks_blocked()
    assert flow.id in told[0]
    async with open_engine(paths, [parcel()]) as engine:
        with pytest.raises(FlowInterrupted, match="no process drives"):
            await engine.wait(flow.id)
        again = await engine.resume(flow.id)
        assert again.context == Parcel(stamps=1)


async def test_resuming_twice_resumes_once(paths: CloudPaths) -> None:
    """Two callers at once share the one drive; a flow that has ended is handed out as it ended."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
    async with open_engine(paths, [parcel(travelling=deliver)]) as engine:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(engine.resume, flow.id)
        again = await engine.resume(flow.id)
        assert [change.kind for change in again.history] == ["started", "resumed"]
        await again.send(Packed())
        with trio.fail_after(10):
            await again.wait()
        assert (await (await engine.resume(flow.id)).wait()).succeeded
        assert again.row.seq == 4


async def test_changes_are_complete_for_whoever_comes_late(paths: CloudPaths) -> None:
    """From the first to the last, once each and in order; they end with the flow, or when it is parked."""
    fails = Fails(Oops())
    async with open_engine(paths, [parcel(await_signal, travelling=deliver)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        await flow.send(Stamped())
        seen: list[Change] = []
        other = await engine.start(PARCEL, Parcel())

        async def follow() -> None:
            async for change in flow.changes():
                seen.append(change)  # noqa: PERF401 as they come

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                await wait_all_tasks_blocked()
                for _ in range(5):
                    await flow.send(Stamped())
                    await other.send(Stamped())
                await flow.send(Packed())
        assert [change.seq for change in seen] == list(range(1, 10))
        assert seen == flow.history
        assert [change async for change in flow.changes()] == seen
    async with open_engine(paths, [parcel(fails)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        with trio.fail_after(10):
            kinds = [change.kind async for change in flow.changes()]
        assert kinds == ["started", "paused"]


async def test_cancel_is_a_transition_like_any_other(paths: CloudPaths) -> None:
    """The reason is kept; cancelling twice is fine."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        await flow.cancel("changed my mind")
        await flow.cancel("again")
        assert (await flow.wait()).problem == "changed my mind"
        assert flow.history[-1].event == "CancelRequested"
        assert flow.history[-1].message == "changed my mind"


async def test_flows_nobody_knows_are_named(paths: CloudPaths) -> None:
    """By id; a machine without a program, or of another version, is refused with what to do, and not touched."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        for ask in (engine.row, engine.context, engine.history):
            with pytest.raises(FlowNotFound, match="'nothing'"):
                ask("nothing")
        with pytest.raises(FlowNotFound):
            await engine.resume("nothing")
        with pytest.raises(FlowNotFound):
            await engine.cancel("nothing")
    newer = Machine(
        "parcel",
        version=2,
        initial="packing",
        context=Parcel,
        states=list(PARCEL.states.values()),
        rows=PARCEL.rows,
    )
    async with open_engine(paths, [Program(newer, parcel().activities)]) as engine:
        with pytest.raises(IncompatibleFlow, match=r"version 1 .* version 2"):
            await engine.resume(flow.id)
        assert engine.row(flow.id).seq == 1
    async with open_engine(paths, []) as engine:
        with pytest.raises(IncompatibleFlow, match="not known here"):
            await engine.resume(flow.id)
        with pytest.raises(IncompatibleFlow):
            await engine.start(PARCEL, Parcel())


@pytest.mark.parametrize("kind", [Oops, KeyboardInterrupt])
async def test_an_error_in_the_block_comes_out_as_it_is(kind: type[BaseException], paths: CloudPaths) -> None:
    """Not wrapped in a group by the engine's nursery."""

    async def use() -> None:
        async with open_engine(paths, [parcel()]) as engine:
            await engine.start(PARCEL, Parcel())
            raise kind

    with pytest.raises(kind):
        await use()


async def test_ctrl_c_in_an_activity_is_ctrl_c_to_the_caller(paths: CloudPaths) -> None:
    """Once it came out of a nest of groups, by chance of which task ran, and `except KeyboardInterrupt` missed it."""

    async def interrupted(_visit: Visit[Parcel]) -> None:
        raise KeyboardInterrupt

    async def use() -> None:
        async with open_engine(paths, [parcel(interrupted)]) as engine:
            await (await engine.start(PARCEL, Parcel(), key="k")).wait()

    with pytest.raises(KeyboardInterrupt):
        await use()
    async with open_engine(paths, [parcel()]) as engine:
        assert [change.kind for change in (await engine.start(PARCEL, Parcel(), key="k")).history] == [
            "started",
            "resumed",
        ]


async def test_ctrl_c_is_ctrl_c_although_something_fails_while_it_ends(paths: CloudPaths) -> None:
    """Neither an error of the tidying up nor a cancellation from outside hides it."""

    async def interrupted(_visit: Visit[Parcel]) -> None:
        await trio.sleep(1)
        raise KeyboardInterrupt

    async def fails_when_left() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Oops

    async def use(outside: trio.CancelScope) -> None:
        async with open_engine(paths, [parcel(interrupted)]) as engine, trio.open_nursery() as nursery:
            await engine.start(PARCEL, Parcel())
            nursery.start_soon(fails_when_left)
            try:
                await trio.sleep_forever()
            finally:
                outside.cancel()

    with trio.CancelScope() as outside, pytest.raises(KeyboardInterrupt) as found:
        await use(outside)
    what_else = cast("BaseExceptionGroup[BaseException]", found.value.__cause__)
    assert what_else.subgroup(Oops) is not None, "it is not hidden, either"


async def test_an_error_of_the_block_is_not_hidden_by_one_of_an_activity(paths: CloudPaths) -> None:
    """What an activity raises while it is stopped is that flow's affair, also when it is no `Exception`."""

    async def fails_when_left(_visit: Visit[Parcel]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise SystemExit

    async def use() -> None:
        async with open_engine(paths, [parcel(fails_when_left)]) as engine:
            await engine.start(PARCEL, Parcel())
            await wait_all_tasks_blocked()
            raise Oops

    with pytest.raises(Oops):
        await use()


async def test_asyncio_is_told_what_to_do(paths: CloudPaths) -> None:
    """Once it was told of an attribute trio misses. Nothing is opened."""

    async def use() -> None:
        async with open_engine(paths, [parcel()]):
            raise AssertionError

    with pytest.raises(RuntimeError, match=r"trio\.run.*start_blocking_portal.*embed\.md"):
        await trio.to_thread.run_sync(asyncio.run, use())
    assert not paths.journal.exists()


async def test_what_asyncio_cancels_is_left_resumable(paths: CloudPaths) -> None:
    """When the portal's block is left no process drives the flow any more, and the next one goes on with it."""

    async def drive(started: Callable[[], object]) -> None:
        async with open_engine(paths, [parcel()]) as engine:
            flow = await engine.start(PARCEL, Parcel(), key="k")
            await flow.send(Stamped())
            started()
            await flow.wait()

    async def program() -> None:
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())
        with start_blocking_portal("trio") as portal:
            await asyncio.wrap_future(portal.start_task_soon(drive, lambda: loop.call_soon_threadsafe(task.cancel)))

    with pytest.raises(asyncio.CancelledError), trio.fail_after(10):
        await trio.to_thread.run_sync(asyncio.run, program())
    async with open_engine(paths, [parcel()]) as engine:
        assert (await engine.start(PARCEL, Parcel(), key="k")).context == Parcel(stamps=1)


async def test_an_engine_needs_its_directory(paths: CloudPaths) -> None:
    """What stands in the way is named, and nothing was started."""
    paths.directory.write_text("not a directory")
    with pytest.raises(Io, match="systemprompt"):
        async with open_engine(paths, [parcel()]):
            raise AssertionError
