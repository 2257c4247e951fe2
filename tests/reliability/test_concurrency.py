"""Many processes, one journal: nobody drives what another drives, and everybody can be reached."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, aclosing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from systemprompt_cloud.base.moments import parse_moment
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted, FlowBusy, FlowNotFound, SignalTaken
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.owners import Owner, OwnerName, owner_is_alive
from systemprompt_cloud.engine.journal.records import KEPT_AT_MOST
from systemprompt_cloud.engine.machine.parts import CancelRequested, Context, DeadlinePassed
from systemprompt_cloud.engine.visit import Program, Visit, await_signal

from tests.faults.chaos import Report, examine, table
from tests.faults.chaos_worker import CONVOY, ERRAND, Ack, Arrived, Errand, Packed, Place, Poked
from tests.support.command import Running, along
from tests.support.length import by_length

WAITING: Program[Any] = Program(ERRAND, {"packing": [await_signal], "resting": [await_signal]})
DRIVER = """
import pathlib, sys
import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.visit import Program, await_signal
from tests.faults.chaos_worker import ERRAND, Errand, Place

async def main():
    program = Program(ERRAND, {"packing": [await_signal], "resting": [await_signal]})
    async with open_engine(Place(pathlib.Path(sys.argv[1])).paths, [program]) as engine:
        flows = [await engine.start(ERRAND, Errand(), key=key) for key in sys.argv[2:]]
        with engine.feed.subscribe() as changes:
            print(*[flow.id for flow in flows], flush=True)
            async for change in changes:
                print(change.flow, change.seq, change.event, flush=True)

trio.run(main)
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where one test's journal is."""
    return Place(tmp_path)


Drive = Callable[..., tuple[Running, list[str]]]


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """Starts a process that drives a flow for each key and says what changes, and gives the flows' ids."""
    with ExitStack() as processes:

        def start(*keys: str) -> tuple[Running, list[str]]:
            driver = processes.enter_context(Running([sys.executable, "-c", DRIVER, str(tmp_path), *keys]))
            return driver, driver.wait_line().split()

        yield start


# --- all of it at once -----------------------------------------------------------------------------------


def test_eight_processes_and_kills_at_random_lose_and_double_nothing() -> None:
    """They start, resume, cancel and signal the same and different flows; each is killed again and again."""
    command = [sys.executable, "-m", "tests.faults.chaos", "--seconds", by_length("6", "60"), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ended.stdout, ended.stderr
    report = msgspec.json.decode(ended.stdout, type=Report)
    assert ended.returncode == 0, table(report)
    assert report.processes == 8
    # The run means something only if there were enough kills, resumes, refusals, inbox events and effects.
    assert min(report.kills, report.taken_up, report.refused, report.posted, report.effects) >= 10, table(report)


@pytest.mark.parametrize("seed", by_length([1], [1, 2, 3, 4, 5]))
def test_three_processes_and_their_impatient_callers_lose_and_double_nothing(seed: int) -> None:
    """Few processes meet at the same few flows more often; each is killed again and again."""
    seconds = by_length("2", "20")
    options = ["--processes", "3", "--seconds", seconds, "--seed", str(seed), "--json"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.chaos", *options], capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.stdout, ended.stderr
    report = msgspec.json.decode(ended.stdout, type=Report)
    assert ended.returncode == 0, table(report)
    assert min(report.kills, report.taken_up, report.posted) >= 5, table(report)


async def test_chaos_sees_two_unfinished_flows_of_one_key(place: Place) -> None:
    """However late a start was written after it was stamped, and never mind the stamp."""
    async with open_engine(place.paths, [WAITING]) as engine:
        first = await engine.start(ERRAND, Errand(), key="k")
        await first.cancel()
        second = await engine.start(ERRAND, Errand(), key="k")
        await second.cancel()
    with sqlite3.connect(place.paths.journal) as connection:  # stamped long before, as by a process that was stopped
        connection.execute("UPDATE flows SET created = '2020' WHERE id = ?", (second.id,))
        connection.execute("UPDATE events SET at = '2020' WHERE flow = ? AND seq = 1", (second.id,))
    assert examine(place).problems == []
    with connection:
        connection.execute("UPDATE flows SET updated = '2999' WHERE id = ?", (first.id,))
        connection.execute("UPDATE events SET at = '2999' WHERE flow = ? AND seq = 2", (first.id,))
    connection.close()
    assert examine(place).problems == [f"flow {second.id} began while {first.id} of the same key was unfinished"]


async def test_what_chaos_looks_for_it_finds(place: Place) -> None:
    """Each promise, broken on purpose in the traces of a good run, is a problem by name."""
    convoy: Program[Any] = Program(CONVOY, {"sending": [await_signal]})
    async with open_engine(place.paths, [WAITING, convoy]) as engine:
        flow = await engine.start(ERRAND, Errand())
        await flow.send(Packed("one"))
        for _ in range(2):
            await flow.send(Poked("twice"))
        await engine.resume(flow.id)
        ended = await engine.start(CONVOY, Context())
        await ended.send(Arrived("done"))
    assert examine(place).problems == [f"flow {flow.id} took the event twice 2 times"]
    with sqlite3.connect(place.paths.journal) as connection:
        connection.execute("UPDATE events SET name = 'gone' WHERE name = 'Poked'")
        connection.execute("UPDATE flows SET state = 'sending' WHERE id = ?", (ended.id,))
    connection.close()
    for ack in (Ack("started", "lost"), Ack("taken", flow.id, "twice"), Ack("cancelled", flow.id)):
        place.note("acks", msgspec.json.encode(ack).decode())
    for _ in range(2):
        place.note("effects", f"{flow.id}:1:pack first")
    place.note("problems", "two at once")
    found = "\n".join(examine(place).problems)
    for words in (
        "two at once",
        "flow lost was started and is not there",
        f"flow {flow.id} acknowledged the event twice and has lost it",
        f"flow {flow.id} was cancelled and has not ended",
        f"the effect {flow.id}:1:pack was done 2 times as if new",
        f"flow {ended.id}: the stored state is sending",
    ):
        assert words in found


async def test_a_second_driver_shows_in_the_records(place: Place) -> None:
    """Work by another process without a record that the flow was taken up again is a problem; with one it is not."""

    async def rest(_visit: Visit[Any]) -> DeadlinePassed:
        return DeadlinePassed()

    program: Program[Any] = Program(ERRAND, {"packing": [await_signal], "resting": [rest]})
    async with open_engine(place.paths, [program]) as engine:
        good, bad = [(await engine.start(ERRAND, Errand())).id for _ in range(2)]
        for flow in (good, bad):
            await engine.send(flow, Packed("one"))
            with trio.fail_after(10):
                while len(engine.history(flow)) < 3:
                    await trio.lowlevel.checkpoint()
        await engine.send(bad, Packed("two"))
    async with open_engine(place.paths, [WAITING]) as engine:
        await engine.resume(good)
        await engine.send(good, Packed("two"))
    assert examine(place).problems == [f"flow {bad}: record 4 is by two, and one still drove it"]


# --- owners ----------------------------------------------------------------------------------------------


def test_of_many_that_look_at_once_nobody_takes_a_dead_owner_for_alive(tmp_path: Path) -> None:
    """Looking takes a lock of its own for a moment; lookers must not take each other for the owner."""
    owners = tmp_path / "owners"
    Owner(owners).release()
    wrong: list[str] = []

    def look(name: str, together: threading.Barrier) -> None:
        together.wait()
        if owner_is_alive(owners, name):
            wrong.append(name)

    for number in range(60):
        name = OwnerName(f"dead{number}", 1, "here")
        (owners / f"{name.token}.lock").touch()
        together = threading.Barrier(8)
        threads = [threading.Thread(target=look, args=(str(name), together)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


async def test_the_death_of_an_owner_frees_all_its_flows_at_once(place: Place, drive: Drive) -> None:
    """The first attempt after SIGKILL succeeds for every one of them, where each was busy just before."""
    driver, flows = drive(*[f"k{number}" for number in range(20)])
    async with open_engine(place.paths, [WAITING]) as engine:
        for flow in flows:
            with pytest.raises(FlowBusy):
                await engine.resume(flow)
        driver.kill()
        for flow in flows:
            await engine.resume(flow)
        assert {OwnerName.parse(engine.row(flow).owner or "").pid for flow in flows} != {driver.process.pid}


# --- the inbox -------------------------------------------------------------------------------------------


async def test_an_event_reaches_a_flow_of_another_process_within_250_ms(place: Place, drive: Drive) -> None:
    """From the moment it is durable in the inbox to the moment it is durable in the flow's history."""
    driver, (flow, *_) = drive("one", *[f"other{number}" for number in range(9)])
    async with open_engine(place.paths, [WAITING]) as engine:
        posted: dict[str, float] = {}
        for number in range(20):
            # The driver has just looked, and taken the one before: it will not look again for as long as it ever waits.
            assert await engine.send(flow, Poked(str(number))) is False
            posted[str(number)] = time.time()
            await along(partial(driver.wait_for, f"{flow} {number + 2} Poked"))
        assert engine.journal.signals() == []
        taken = {
            msgspec.json.decode(record.body, type=Poked).nonce: parse_moment(record.at).timestamp()
            for record in engine.journal.records(flow)
            if record.name == "Poked"
        }
    waits = [taken[nonce] - moment for nonce, moment in posted.items()]
    # One in twenty may meet a machine that is busy with something else.
    assert sorted(waits)[-2] < 0.25, waits


async def test_an_event_for_a_flow_nobody_drives_is_taken_on_resume(place: Place, drive: Drive) -> None:
    """Once, and in order, by whoever takes the flow up after its process was killed."""
    driver, (flow,) = drive("k")
    driver.kill()
    async with open_engine(place.paths, [WAITING]) as engine:
        for nonce in "abc":
            assert await engine.send(flow, Poked(nonce)) is False
        assert engine.row(flow).seq == 1
    async with open_engine(place.paths, [WAITING]) as engine:
        known = await engine.resume(flow)
        with trio.fail_after(10):
            async with aclosing(known.changes()) as changes:
                async for _ in changes:
                    if known.context == Errand(pokes=3):
                        break
        assert engine.journal.signals() == []
        bodies = [json.loads(record.body) for record in engine.journal.records(flow) if record.name == "Poked"]
        assert [body["nonce"] for body in bodies] == list("abc")


async def test_what_no_process_could_take_is_refused_when_it_is_sent(place: Place) -> None:
    """An event for no flow, an ended flow, or of another machine is not left in an inbox."""
    async with open_engine(place.paths, [WAITING]) as engine:
        running, ended = [await engine.start(ERRAND, Errand()) for _ in range(2)]
        await ended.cancel()
    async with open_engine(place.paths, [WAITING]) as engine:
        with pytest.raises(FlowNotFound):
            await engine.send("nothing", Poked("x"))
        with pytest.raises(EventNotAccepted, match="cancelled does not accept Poked"):
            await engine.send(ended.id, Poked("x"))
        with pytest.raises(EventNotAccepted, match="Arrived"):
            await engine.send(running.id, Arrived("x"))
        assert engine.journal.signals() == []


async def test_a_signal_read_before_its_flow_was_taken_over_is_not_taken_again(place: Place) -> None:
    """The story: B had read the inbox, A took the event and died, B took over the flow and reached it on its list."""
    async with open_engine(place.paths, [WAITING]) as engine:
        flow = await engine.start(ERRAND, Errand())
    with Journal(place.paths.journal) as journal:
        row = journal.flow(flow.id)
        assert row is not None
        journal.write([partial(journal.post_signal, flow.id, "", "Poked", '{"event":"Poked","nonce":"x"}')])
        (signal_read,) = journal.signals()
        record = msgspec.structs.replace(journal.records(flow.id)[0], seq=2, kind="event", name="Poked")
        after = msgspec.structs.replace(row, seq=2)
        journal.write([partial(journal.advance, row, after, record, signal_read.id)])
        again = msgspec.structs.replace(after, seq=3)
        with pytest.raises(SignalTaken):
            journal.write(
                [partial(journal.advance, after, again, msgspec.structs.replace(record, seq=3), signal_read.id)]
            )
        assert journal.flow(flow.id) == after
        assert len(journal.records(flow.id)) == 2


def test_signals_nobody_can_take_hide_no_others(place: Place) -> None:
    """However many wait for a flow that nobody drives, an owner is shown those it can take."""
    with Journal(place.paths.journal) as journal:
        rows = _rows(journal)
        post = [partial(journal.post_signal, rows["idle"], "", "Poked", str(n)) for n in range(KEPT_AT_MOST)]
        journal.write([*post, partial(journal.post_signal, rows["mine"], "", "Poked", "")])
        with pytest.raises(EventNotAccepted):
            journal.write([partial(journal.post_signal, rows["over"], "", "Poked", "")])
        assert [signal.flow for signal in journal.signals_for("me:1:here", 0)] == [rows["mine"]]
        assert [signal.flow for signal in journal.signals(rows["mine"])] == [rows["mine"]]
        assert len(journal.signals()) == KEPT_AT_MOST + 1


def _rows(journal: Journal) -> dict[str, str]:
    """A flow nobody drives, one of ours, one that has ended: their ids by these names."""
    from systemprompt_cloud.base.clock import SystemClock
    from systemprompt_cloud.engine.history import first_lines

    for name in ("idle", "mine", "over"):
        row, record = first_lines(
            name, ERRAND, Errand(), now=SystemClock().now(), key=None, parent=None, owner="me:1:here"
        )
        if name == "idle":
            row = msgspec.structs.replace(row, owner=None)
        if name == "over":
            row = msgspec.structs.replace(row, owner=None, status="ended", verdict="success")
        journal.write([partial(journal.begin, row, record)])
    return {name: name for name in ("idle", "mine", "over")}


async def test_cancel_by_two_at_once_ends_the_flow_once(place: Place, drive: Drive) -> None:
    """Both are told it was asked for; there is one such record, and the inbox is empty."""
    driver, (flow,) = drive("k")
    async with open_engine(place.paths, [WAITING]) as one, open_engine(place.paths, [WAITING]) as two:
        for engine in (one, two):
            assert await engine.cancel(flow, "enough") is False
        await along(partial(driver.wait_for, f"{flow} 2 CancelRequested"))
        assert one.row(flow).status == "ended"
        names = [record.name for record in one.journal.records(flow)]
        assert names == ["started", CancelRequested.__name__]
