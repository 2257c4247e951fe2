"""Several processes and one journal; processes that are killed; disks that fill up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted, FlowBusy, FlowNotFound, FlowParked, JournalError
from systemprompt_cloud.engine.journal.owners import OwnerName
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    Event,
    ResumePolicy,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.faults.storage import fill

# The same text makes the machine here and in the child process: they must have the same fingerprint.
TABLE = """
class Count(Context, frozen=True, kw_only=True):
    n: int = 0


class Counted(Event, frozen=True):
    words: str = ""


class Finished(Event, frozen=True):
    pass


def more(context, event):
    return Count(n=context.n + 1, problem=context.problem)


def cancelled(context, event):
    return Count(n=context.n, problem=event.reason)


COUNT = Machine(
    "count",
    version=1,
    initial="counting",
    context=Count,
    states=[
        State("counting", "counting", effect="counts", resume=ResumePolicy.RETRY),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Counted, "counting", STAY, update=more),
        on(Finished, "counting", "done"),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)
"""

DRIVER = (
    """
import pathlib, sys
import trio
from systemprompt_cloud.engine.errors import FlowBusy
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.visit import Program
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import *
"""
    + TABLE
    + """
directory, what = pathlib.Path(sys.argv[1]), sys.argv[2]


async def count(visit):
    intent = await visit.announce("count")
    print("visit", visit.flow, intent.uncertain, flush=True)
    while what == "count":
        await visit.send(Counted())
        print("counted", visit.context.n, flush=True)
    await trio.sleep_forever()


async def main():
    paths = CloudPaths(directory=directory, state_directory=directory, origin="explicit")
    print("ready", flush=True)
    if what == "race":
        sys.stdin.readline()
    async with open_engine(paths, [Program(COUNT, {"counting": [count]})]) as engine:
        try:
            flow = await engine.start(COUNT, Count(), key="k")
        except FlowBusy as busy:
            print("busy", busy.pid, flush=True)
            return
        outcome = await flow.wait()
        print("ended", outcome.state, outcome.problem, flush=True)


trio.run(main)
"""
)

_made: dict[str, Any] = {
    "__name__": __name__,
    **{each.__name__: each for each in (Context, Event, Machine, ResumePolicy, State, Verdict, CancelRequested, on)},
    "ANY": ANY,
    "STAY": STAY,
}
exec(TABLE, _made)  # noqa: S102 our own text, a few lines above
COUNT: Machine[Any] = _made["COUNT"]
Count, Counted, Finished = _made["Count"], _made["Counted"], _made["Finished"]
WAITING: Program[Any] = Program(COUNT, {"counting": [await_signal]})


class Driver:
    """Another process with an engine of its own."""

    def __init__(self, paths: CloudPaths, what: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(paths.directory), what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.line() == ["ready"]

    def line(self) -> list[str]:
        """The next line it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self, how: int | None = None) -> str:
        """Kill it with a signal, or let it end; what else it printed."""
        if how is not None:
            self.process.send_signal(how)
        return self.process.communicate(timeout=10)[0]


@pytest.fixture
def drivers() -> Iterator[list[Driver]]:
    """Processes that do not outlive the test."""
    drivers: list[Driver] = []
    yield drivers
    for driver in drivers:
        driver.process.kill()
        if driver.process.stdout is not None and not driver.process.stdout.closed:
            driver.end()


async def test_a_killed_process_loses_nothing_it_acknowledged(paths: CloudPaths, drivers: list[Driver]) -> None:
    """SIGKILL in the middle of its work, several times: every event whose `send` had returned counts, each once."""
    acknowledged, flow = 0, ""
    for times in range(3):
        driver = Driver(paths, "count")
        drivers.append(driver)
        _, flow, uncertain = driver.line()
        assert uncertain == str(times > 0)
        for _ in range(5):
            driver.line()
        rest = driver.end(signal.SIGKILL).split("counted ")
        last = rest[-1].strip()
        async with open_engine(paths, [WAITING]) as engine:
            known: Any = engine.context(flow)
            counted = sum(change.event == "Counted" for change in engine.history(flow))
            assert known.n == counted >= acknowledged + 5
            assert known.n >= (int(last) if last.isdigit() and rest[-1].endswith("\n") else 0)
            acknowledged = known.n
    async with open_engine(paths, [WAITING]) as engine:
        again = await engine.start(COUNT, Count(), key="k")
        assert again.id == flow
        await again.send(Finished())
        with trio.fail_after(10):
            assert (await again.wait()).succeeded


async def test_the_second_process_is_told_who_drives_the_flow(paths: CloudPaths, drivers: list[Driver]) -> None:
    """`FlowBusy` has the first one's process id and host; the first is not disturbed; its death frees the flow."""
    driver = Driver(paths, "wait")
    drivers.append(driver)
    _, flow, _ = driver.line()
    async with open_engine(paths, [WAITING]) as engine:
        before = engine.row(flow)
        with pytest.raises(FlowBusy) as resumed:
            await engine.resume(flow)
        with pytest.raises(FlowBusy) as started:
            await engine.start(COUNT, Count(), key="k")
        for caught in (resumed, started):
            assert caught.value.flow == flow
            assert caught.value.pid == driver.process.pid
            assert caught.value.host == OwnerName.parse(before.owner or "").host
        assert engine.row(flow) == before
        driver.end(signal.SIGKILL)
        again = await engine.resume(flow)
        assert OwnerName.parse(again.row.owner or "").pid == os.getpid()


def test_of_processes_that_start_the_same_at_once_one_drives(paths: CloudPaths, drivers: list[Driver]) -> None:
    """The others are told its process id, also when not even the journal was there before."""
    drivers += [Driver(paths, "race") for _ in range(4)]
    for driver in drivers:
        driver.go()
    said = {driver.process.pid: driver.line() for driver in drivers}
    (first,) = [pid for pid, words in said.items() if words[0] == "visit"]
    assert {tuple(words) for pid, words in said.items() if pid != first} == {("busy", str(first))}


async def test_cancel_reaches_a_flow_of_another_process(paths: CloudPaths, drivers: list[Driver]) -> None:
    """It goes through the inbox: the driver ends the flow, and tells whoever waits there; the inbox is empty again."""
    driver = Driver(paths, "wait")
    drivers.append(driver)
    _, flow, _ = driver.line()
    async with open_engine(paths, [WAITING]) as engine:
        assert await engine.cancel(flow, "from afar") is False
        assert await trio.to_thread.run_sync(driver.line) == ["ended", "cancelled", "from", "afar"]
        driver.end()
        assert engine.row(flow).status == "ended"
        assert engine.journal.signals() == []
        assert await engine.cancel(flow) is True


async def test_signals_nobody_can_take_are_refused(paths: CloudPaths) -> None:
    """For a flow that has ended or never was the sender is told; what no table can read is in the history."""
    async with open_engine(paths, [WAITING]) as engine:
        ended, running = [await engine.start(COUNT, Count()) for _ in range(2)]
        await ended.cancel()
        with pytest.raises(EventNotAccepted):
            await engine.store.post(ended.id, "", "Counted", '{"event":"Counted"}')
        with pytest.raises(FlowNotFound):
            await engine.store.post("nothing", "", "Counted", '{"event":"Counted"}')
        for name in ("Nonsense", "Counted"):
            await engine.store.post(running.id, "", name, f'{{"event":"{name}"}}')
        with trio.fail_after(10):
            async with aclosing(running.changes()) as changes:
                async for _ in changes:
                    if running.context != Count():
                        break
        assert engine.journal.signals() == []
        assert running.context == Count(n=1)
        assert running.row.status == "running"
        (refused,) = [change for change in running.history if change.kind == "refused"]
        assert (refused.event, "Nonsense" in refused.message) == ("Nonsense", True)


# --- disks ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(mounted: Callable[[str], Path]) -> CloudPaths:
    """Directories on a real file system of 1 MiB."""
    directory = mounted("1m") / ".systemprompt"
    return CloudPaths(directory=directory, state_directory=directory, origin="explicit")


BIG = Counted("x" * 50_000)


async def test_a_full_disk_refuses_the_event_and_keeps_the_flow(small_disk: CloudPaths) -> None:
    """The flow stays where it was, in memory too; when there is space, it takes the event, without any resume."""
    async with open_engine(small_disk, [WAITING]) as engine:
        flow = await engine.start(COUNT, Count())
        await flow.send(Counted())
        filler = fill(small_disk.directory.parent)
        with pytest.raises(JournalError, match=r"journal\.sqlite3: .*full") as caught:
            await flow.send(BIG)
        assert "Free some space" in caught.value.recovery_hint
        assert flow.context == Count(n=1)
        assert [change.event for change in flow.history] == ["started", "Counted"]
        filler.unlink()
        await flow.send(BIG)
        assert flow.context == Count(n=2)


async def test_a_flow_whose_disk_filled_up_goes_on_later(small_disk: CloudPaths) -> None:
    """Not even the parking can be written: whoever waits is told, and resume works once there is space."""
    begin = trio.Event()

    async def count(visit: Visit[Any]) -> Event:
        await begin.wait()
        for _ in range(40):  # whatever room the write-ahead log still has, this is more
            await visit.send(BIG)
        return Finished()

    program: Program[Any] = Program(COUNT, {"counting": [count]})
    async with open_engine(small_disk, [program]) as engine:
        flow = await engine.start(COUNT, Count(), key="k")
        filler = fill(small_disk.directory.parent)
        begin.set()
        with pytest.raises((JournalError, FlowParked), match="full"), trio.fail_after(30):
            await flow.wait()
        assert engine.row(flow.id).state == "counting"
        with pytest.raises(CloudError, match=r"full|not driven"):
            await flow.send(BIG)
        with pytest.raises(JournalError, match="full"):
            await engine.start(COUNT, Count(), secrets={})
        filler.unlink()
        small = Program(COUNT, {"counting": [await_signal]})
        assert (await engine.start(COUNT, Count(), key="k")).id == flow.id
    async with open_engine(small_disk, [small]) as engine:
        flow = await engine.resume(flow.id)
        await flow.send(Finished())
        with trio.fail_after(10):
            assert (await flow.wait()).succeeded


async def test_a_failed_resume_leaves_the_flow_to_be_resumed_again(small_disk: CloudPaths) -> None:
    """It must not look driven when nobody drives it: the next resume takes it up and it runs."""
    async with open_engine(small_disk, [WAITING]) as engine:
        flow = await engine.start(COUNT, Count())
    async with open_engine(small_disk, [WAITING]) as engine:
        filler = fill(small_disk.directory.parent)
        failures: list[str] = []
        while True:  # with a page more each time: sometimes there is room for taking it over and not for the rest
            try:
                again = await engine.resume(flow.id)
                break
            except CloudError as exc:
                failures.append(exc.user_message)
                os.truncate(filler, filler.stat().st_size - 4096)
        assert len(failures) > 1
        assert all("full" in failure for failure in failures)
        filler.unlink()
        await again.send(Finished())
        with trio.fail_after(10):
            assert (await again.wait()).succeeded
