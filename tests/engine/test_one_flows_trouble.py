"""Whatever an activity raises pauses its flow and no other; Ctrl-C stops the engine in order and reaches the host."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowParked, JournalError
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.errors import Network
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

from tests.faults.storage import fill
from tests.support.commits import WatchedCommits
from tests.support.journey import JOURNEY, Boarded, Journey, Left, events, journey, until


class Own(BaseException):
    """An exception of somebody's own."""


class Raises:
    """An activity that raises in flows that are told to, until it is fixed."""

    def __init__(self, make: Callable[[], BaseException]) -> None:
        self.make: Callable[[], BaseException] | None = make

    async def __call__(self, visit: Visit[Journey]) -> Event:
        """Raise, or go on."""
        await trio.lowlevel.checkpoint()
        if self.make is not None and "fails" in visit.context.notes:
            raise self.make()
        return Left()


FAILS = Journey(notes=("fails",))
TROUBLES: dict[str, tuple[Callable[[], BaseException], str]] = {
    "exit": (lambda: SystemExit(3), "SystemExit: 3"),
    "generator exit": (GeneratorExit, "GeneratorExit"),
    "own": (lambda: Own("mine"), "Own: mine"),
    "error": (lambda: ValueError("bad"), "ValueError: bad"),
    "stop": (lambda: StopAsyncIteration("x"), "x"),
    "group": (lambda: ExceptionGroup("two", [ValueError("a"), Network("no network", sent=False)]), "no network"),
    "exit in a group": (lambda: BaseExceptionGroup("one", [SystemExit(3)]), "SystemExit: 3"),
    "deep": (lambda: BaseExceptionGroup("a", [ExceptionGroup("b", [Io("no disk")])]), "no disk"),
}


@pytest.mark.parametrize("what", TROUBLES)
@pytest.mark.parametrize("alone", [True, False])
async def test_whatever_an_activity_raises_pauses_that_flow_only(
    paths: CloudPaths, what: str, alone: bool, logged: list[str]
) -> None:
    """The message says what it was, so does the log; its neighbour goes on, and it does once it is fixed."""
    make, message = TROUBLES[what]
    raises = Raises(make)
    home = [raises] if alone else [raises, await_signal]
    program = Program(JOURNEY, {"home": home, "station": [await_signal], "train": [await_signal]})
    async with open_engine(paths, [program]) as engine:
        flow, neighbour = await engine.start(JOURNEY, FAILS), await engine.start(JOURNEY, Journey())
        with pytest.raises(FlowParked, match=message), trio.fail_after(10):
            await flow.wait()
        assert (flow.row.status, flow.row.owner) == ("paused", None)
        await until(lambda: neighbour.state == "station")
        assert any(f"{flow.id} failed in home" in line for line in logged) == (what not in {"group", "deep"})
        raises.make = None
        await engine.resume(flow.id)
        await until(lambda: flow.state == "station")
        assert await neighbour.send(Boarded()) is True


@pytest.mark.parametrize("others", [0, 1])
async def test_ctrl_c_in_a_group_is_ctrl_c(paths: CloudPaths, others: int) -> None:
    """An activity with a nursery of its own raises it in a group, perhaps beside an error: the host gets it alone."""

    async def interrupted(_visit: Visit[Journey]) -> Event | None:
        await trio.lowlevel.checkpoint()
        raise BaseExceptionGroup("tasks", [KeyboardInterrupt(), *[ValueError()] * others])

    async def host() -> None:
        async with open_engine(paths, [journey(home=interrupted)]) as engine:
            await (await engine.start(JOURNEY, Journey())).wait()

    with pytest.raises(KeyboardInterrupt):
        await host()
    async with open_engine(paths, [journey()]) as engine:
        (row,) = engine.journal.flows()
        assert await (await engine.resume(row.id)).send(Left()) is True


HOST = """
import sys
from pathlib import Path

import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.io.local.paths import CloudPaths

sys.path.insert(0, sys.argv[2])
from tests.support.journey import *


async def main():
    directory = Path(sys.argv[1])
    paths = CloudPaths(directory=directory, state_directory=directory, origin="explicit")
    async with open_engine(paths, [journey()]) as engine:
        flows = [await engine.start(JOURNEY, Journey()) for _ in range(20)]
        for flow in flows[::2]:
            await flow.send(Left())
        print("ready", flush=True)
        await trio.sleep_forever()


try:
    trio.run(main)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def interrupted_host(paths: CloudPaths) -> None:
    """A process that drives flows, sent SIGINT; it says that it was interrupted."""
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(paths.directory), str(Path(__file__).parents[2])],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
        host.send_signal(signal.SIGINT)
        assert host.communicate(timeout=30)[0] == "interrupted\n"
        assert host.returncode == 0
    finally:
        host.kill()
        host.communicate()


async def test_ctrl_c_stops_the_engine_and_reaches_the_host(paths: CloudPaths) -> None:
    """As `KeyboardInterrupt`, after everything was stopped in order: every flow can be resumed at once."""
    await trio.to_thread.run_sync(interrupted_host, paths)
    async with open_engine(paths, [journey()]) as engine:
        rows = engine.journal.flows()
        assert len(rows) == 20
        for row in rows:
            flow = await engine.resume(row.id)
            assert await flow.send(Left() if row.state == "home" else Boarded()) is True


# --- what cannot be written -----------------------------------------------------------------------------------------


async def test_a_pause_that_cannot_be_written_is_written_later(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Whoever waits is told at once; the engine tries again until it can, and then any process can resume the flow."""
    raises = Raises(lambda: OSError("broken"))
    begin = trio.Event()

    async def home(visit: Visit[Journey]) -> Event:
        await begin.wait()
        return await raises(visit)

    async with (
        open_engine(paths, [journey(home=home)], clock=clock, inline=True) as engine,
        open_engine(paths, [journey()], clock=clock, inline=True) as other,
    ):
        flow = await engine.start(JOURNEY, FAILS)
        commits = WatchedCommits(engine)
        commits.refused = 20
        begin.set()
        with pytest.raises(JournalError, match="the disk is full"):
            await flow.wait()
        assert engine.journal.flow(flow.id) is not None
        assert events(flow) == ["started"]
        await trio.sleep(60)
        assert commits.refused == 0
        assert (other.row(flow.id).status, other.row(flow.id).owner) == ("paused", None)
        assert [change.message for change in flow.history][1:] == ["OSError: broken"]
        again = await other.resume(flow.id)
        assert await again.send(Left()) is True


async def test_a_flow_whose_pause_waits_for_the_disk_can_be_resumed_before(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """The person was quicker: the flow goes on, and is not paused behind its back."""
    raises = Raises(lambda: OSError("broken"))
    async with open_engine(paths, [journey(home=raises)], clock=clock, inline=True) as engine:
        flow = await engine.start(JOURNEY, FAILS)
        commits = WatchedCommits(engine)
        commits.refused = 1
        with pytest.raises(JournalError, match="the disk is full"):
            await flow.wait()
        raises.make = None
        await engine.resume(flow.id)
        await trio.sleep(60)
        assert (flow.state, flow.row.status) == ("station", "running")
        assert events(flow) == ["started", "resumed", "Left"]


async def test_a_disk_that_is_full_while_a_flow_is_being_paused(mounted: Callable[[str], Path]) -> None:
    """A real one: when there is space again the flow is paused without anybody's doing, and free for others."""
    directory = mounted("4m") / ".systemprompt"
    small = CloudPaths(directory=directory, state_directory=directory, origin="explicit")
    begin = trio.Event()

    async def home(_visit: Visit[Journey]) -> Event | None:
        await begin.wait()
        raise OSError("x" * 300_000)

    async with open_engine(small, [journey(home=home)]) as engine, open_engine(small, [journey()]) as other:
        flow = await engine.start(JOURNEY, Journey())
        filler = fill(directory.parent)
        begin.set()
        with pytest.raises((JournalError, FlowParked)), trio.fail_after(30):
            await flow.wait()
        filler.unlink()
        await until(lambda: other.row(flow.id).owner is None)
        assert other.row(flow.id).status == "paused"
        assert await (await other.resume(flow.id)).send(Left()) is True
