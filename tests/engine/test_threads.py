"""Activities that fill every thread, or send without a pause: commits go on, others get their turn, closing works."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio
import trio.from_thread
import trio.to_thread
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.engine.visit import Visit
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.parcel import PARCEL, Labelled, Packed, Parcel, Stamped, deliver, parcel

THREADS = 60
"""More than trio's own limit of 40."""


class Meeting:
    """A barrier of activities that wait in threads; each of trio's threads is taken while they do."""

    def __init__(self) -> None:
        self.arrived = 0
        self.all = trio.Event()

    async def arrive(self) -> None:
        """Wait until every thread of trio's limit is taken."""
        self.arrived += 1
        if self.arrived == trio.to_thread.current_default_thread_limiter().total_tokens:
            self.all.set()
        await self.all.wait()


async def test_sixty_activities_in_threads_send_and_keep(paths: CloudPaths) -> None:
    """Every thread of trio's is in use and waits for a commit or for the vault; these have threads of their own."""
    meeting = Meeting()

    def in_thread(visit: Visit[Parcel]) -> None:
        trio.from_thread.run(meeting.arrive)
        for number in range(3):
            assert trio.from_thread.run(visit.send, Stamped())
            reference = trio.from_thread.run(visit.keep, f"code-{number}", f"s3cret-{visit.flow}-{number}")
            assert trio.from_thread.run(visit.send, Labelled(reference))
            assert trio.from_thread.run(visit.reveal, reference) == f"s3cret-{visit.flow}-{number}"

    async def pack(visit: Visit[Parcel]) -> Event:
        await trio.to_thread.run_sync(in_thread, visit)
        return Packed()

    async with open_engine(paths, [parcel(pack, travelling=deliver)]) as engine:
        flows = [await engine.start(PARCEL, Parcel()) for _ in range(THREADS)]
        with trio.fail_after(60):
            for flow in flows:
                assert (await flow.wait()).succeeded
        assert all(flow.context == Parcel(stamps=3, label="vault:code-2") for flow in flows)


async def test_threads_of_one_activity_send_at_once(paths: CloudPaths) -> None:
    """None of their events is lost, and each counts once."""
    lock, sent = threading.Lock(), [0]

    def in_thread(visit: Visit[Parcel]) -> None:
        for _ in range(5):
            if trio.from_thread.run(visit.send, Stamped()):
                with lock:
                    sent[0] += 1

    async def pack(visit: Visit[Parcel]) -> Event:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(trio.to_thread.run_sync, in_thread, visit)
        return Packed()

    async with open_engine(paths, [parcel(pack)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        with trio.fail_after(60):
            while flow.state == "packing":
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert flow.context == Parcel(stamps=100)
        assert sent == [100]


# --- checkpoints ----------------------------------------------------------------------------------------------------


async def send_for_ever(visit: Visit[Parcel]) -> Event | None:
    """Send, and do nothing else, without end."""
    while True:
        await visit.send(Stamped())


@pytest.mark.parametrize("inline", [False, True])
async def test_an_activity_that_only_sends_can_be_stopped(paths: CloudPaths, inline: bool) -> None:
    """Cancelling its flow, and closing its engine, is over soon; every event that was written counts."""
    with trio.fail_after(60):
        async with open_engine(paths, [parcel(send_for_ever)], inline=inline) as engine:
            flows = [await engine.start(PARCEL, Parcel()) for _ in range(3)]
            while not all(stamps(flow) for flow in flows):
                await trio.lowlevel.checkpoint()
            await flows[0].cancel()
            assert flows[0].state == "cancelled"
        async with open_engine(paths, [parcel()], inline=inline) as engine:
            for flow in flows[1:]:
                history = engine.history(flow.id)
                assert sum(change.event == "Stamped" for change in history) == stamps(await engine.resume(flow.id))


async def test_an_activity_that_only_sends_lets_others_have_their_turn(paths: CloudPaths) -> None:
    """Other tasks go on while it does; so does another flow."""
    turns = 0
    async with open_engine(paths, [parcel(send_for_ever, travelling=deliver)]) as engine:
        busy = await engine.start(PARCEL, Parcel())
        with trio.fail_after(60):
            while stamps(busy) < 200:
                turns += 1
                await trio.lowlevel.checkpoint()
            other = await engine.start(PARCEL, Parcel())
            assert await other.send(Packed()) is True
            assert (await other.wait()).succeeded
    assert turns >= 10


async def test_a_flow_that_is_sent_to_without_end_lets_others_have_their_turn(paths: CloudPaths) -> None:
    """`Flow.send` in a loop: a host that does nothing else can be cancelled, and its own tasks go on."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    for _ in range(30):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                while True:
                    await flow.send(Stamped())
        assert stamps(flow) == sum(change.event == "Stamped" for change in flow.history) > 0


async def test_a_cancelled_sender_sends_nothing(paths: CloudPaths) -> None:
    """In a scope that is cancelled, neither `visit.send` nor `Flow.send` does anything: both are checkpoints."""
    reached: list[Any] = []

    async def pack(visit: Visit[Parcel]) -> Event | None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await visit.send(Stamped())
            reached.append("sent")
        reached.append(scope.cancelled_caught)
        await trio.sleep_forever()

    async with open_engine(paths, [parcel(pack)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.CancelScope() as scope:
            scope.cancel()
            await flow.send(Stamped())
            reached.append("sent")
        assert scope.cancelled_caught
        assert (reached, flow.context) == ([True], Parcel())


def stamps(flow: Flow) -> int:
    """How often it was stamped."""
    context = flow.context
    assert isinstance(context, Parcel)
    return context.stamps
