"""The engine's promises: what was acknowledged is durable, what is left is gone, what stops can go on."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, closing

import loguru
import msgspec
import pytest
import trio
from systemprompt_cloud.errors import (
    ActivitiesRanDry,
    EngineClosed,
    EventNotAccepted,
    FlowBusy,
    FlowNotFound,
    FlowParked,
    IncompatibleFlow,
    Io,
    Network,
    NotAuthenticated,
)
from systemprompt_cloud.flows.engine import Engine, open_engine
from systemprompt_cloud.flows.flow import Change, Flow
from systemprompt_cloud.flows.visit import Activity, Program, Visit, await_signal
from systemprompt_cloud.io.paths import CloudPaths
from systemprompt_cloud.machines.machine import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    Event,
    Machine,
    State,
    Verdict,
    on,
)


class Parcel(Context, frozen=True, kw_only=True):
    """What a delivery knows."""

    stamps: int = 0
    label: str = ""


class Stamped(Event, frozen=True):
    """Progress."""


class Labelled(Event, frozen=True):
    """A reference to a secret came."""

    label: str


class Packed(Event, frozen=True):
    """The parcel is closed."""


class Delivered(Event, frozen=True):
    """It arrived."""


class Refused(Event, frozen=True):
    """A row whose update has a bug."""


class Oops(Exception):
    """A bug."""


def stamp(context: Parcel, _event: Stamped) -> Parcel:
    return msgspec.structs.replace(context, stamps=context.stamps + 1)


def label(context: Parcel, event: Labelled) -> Parcel:
    return msgspec.structs.replace(context, label=event.label)


def bug(_context: Parcel, _event: Refused) -> Parcel:
    raise Oops


def cancelled(context: Parcel, event: CancelRequested) -> Parcel:
    return msgspec.structs.replace(context, problem=event.reason)


PARCEL = Machine(
    "parcel",
    version=1,
    initial="packing",
    context=Parcel,
    states=[
        State("packing", "being packed"),
        State("travelling", "on its way"),
        State("delivered", "there", verdict=Verdict.SUCCESS),
        State("cancelled", "called back", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Stamped, "packing", STAY, update=stamp),
        on(Labelled, "packing", STAY, update=label),
        on(Refused, "packing", STAY, update=bug),
        on(Packed, "packing", "travelling"),
        on(Stamped, "travelling", "travelling", update=stamp),
        on(Delivered, "travelling", "delivered"),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)


def parcel(packing: Activity = await_signal, *more: Activity, travelling: Activity = await_signal) -> Program[Parcel]:
    """The machine with these activities."""
    return Program(PARCEL, {"packing": [packing, *more], "travelling": [travelling]})


async def pack(_visit: Visit[Parcel]) -> Event:
    return Packed()


async def deliver(_visit: Visit[Parcel]) -> Event:
    return Delivered()


def rows(engine: Engine, flow: Flow) -> list[tuple[str, str, int]]:
    """What another process would read of the flow."""
    with closing(sqlite3.connect(engine.journal.path)) as plain:
        found = plain.execute("SELECT state, status, seq FROM flows WHERE id = ?", (flow.id,)).fetchall()
        events = plain.execute("SELECT count(*) FROM events WHERE flow = ?", (flow.id,)).fetchone()
    assert found[0][2] == events[0]
    return found


async def parked(flow: Flow) -> FlowParked:
    """What parked it."""
    with pytest.raises(FlowParked) as caught, trio.fail_after(10):
        await flow.wait()
    return caught.value


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Every line of the log, tracebacks too."""
    lines: list[str] = []
    sink = loguru.logger.add(lines.append, level="DEBUG", format="{message}\n{exception}")
    yield lines
    loguru.logger.remove(sink)


# --- an event counts only when it is durable -----------------------------------------------------------


async def test_a_flow_runs_to_its_end(paths: CloudPaths) -> None:
    """Its outcome says how, its history every step."""
    async with open_engine(paths, [parcel(pack, travelling=deliver)]) as engine:
        flow = await engine.start(PARCEL, Parcel(stamps=2))
        with trio.fail_after(10):
            outcome = await flow.wait()
        assert (outcome.state, outcome.verdict, outcome.problem) == ("delivered", "success", "")
        assert outcome.succeeded
        assert outcome.result == {"problem": "", "stamps": 2, "label": ""}
        assert [(change.seq, change.event, change.to_state) for change in flow.history] == [
            (1, "started", "packing"),
            (2, "Packed", "travelling"),
            (3, "Delivered", "delivered"),
        ]
        assert flow.row.owner is None


async def test_send_returns_when_the_event_is_on_disk(paths: CloudPaths) -> None:
    """Another process reads it at once; so does whoever follows the flow, and not before."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        for number in range(1, 6):
            await flow.send(Stamped())
            assert rows(engine, flow) == [("packing", "running", 1 + number)]
            assert flow.context == Parcel(stamps=number)
        await flow.send(Packed())
        assert rows(engine, flow) == [("travelling", "running", 7)]


async def test_nobody_sees_an_event_before_its_commit(paths: CloudPaths) -> None:
    """Every change a follower is given stands in the file already."""
    seen: list[bool] = []
    async with open_engine(paths, [parcel(pack, travelling=deliver)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        with trio.fail_after(10):
            async for change in flow.changes():
                with closing(sqlite3.connect(engine.journal.path)) as plain:
                    where = (change.flow, change.seq)
                    found = plain.execute("SELECT name FROM events WHERE flow = ? AND seq = ?", where).fetchone()
                seen.append(found == (change.event,))
    assert seen == [True, True, True]


async def test_an_event_that_is_not_accepted_changes_nothing(paths: CloudPaths) -> None:
    """Neither does an update with a bug; the flow goes on."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel(stamps=1))
        with pytest.raises(EventNotAccepted, match="parcel in state packing does not accept Delivered"):
            await flow.send(Delivered())
        with pytest.raises(Oops):
            await flow.send(Refused())
        assert rows(engine, flow) == [("packing", "running", 1)]
        await flow.send(Stamped())
        assert flow.context == Parcel(stamps=2)


async def test_events_of_many_senders_are_taken_one_at_a_time(paths: CloudPaths) -> None:
    """None is lost, none counts twice, and the history has no gap."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(flow.send, Stamped())
        assert flow.context == Parcel(stamps=50)
        assert [change.seq for change in flow.history] == list(range(1, 52))


async def test_cancelling_the_sender_does_not_tear_the_event(paths: CloudPaths) -> None:
    """It happened on disk and in memory, or in neither."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        for _ in range(30):
            before = flow.row.seq
            with trio.move_on_after(0.0005):
                await flow.send(Stamped())
            assert rows(engine, flow) == [("packing", "running", flow.row.seq)]
            assert flow.row.seq in (before, before + 1)
        await flow.send(Packed())


# --- leaving a state -----------------------------------------------------------------------------------


async def test_the_next_state_begins_when_the_last_one_is_empty(paths: CloudPaths) -> None:
    """Leaving cancels what ran there and waits for it, shielded cleaning up included."""
    order: list[str] = []

    async def beside(_visit: Visit[Parcel]) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.05)
            order.append("packing is empty")

    async def travel(_visit: Visit[Parcel]) -> Event:
        order.append("travelling begins")
        return Delivered()

    async with open_engine(paths, [parcel(beside, travelling=travel)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        await trio.testing.wait_all_tasks_blocked()
        await flow.send(Packed())
        order.append("the event is durable")
        with trio.fail_after(10):
            await flow.wait()
    assert order == ["the event is durable", "packing is empty", "travelling begins"]


async def test_progress_does_not_disturb_what_runs(paths: CloudPaths) -> None:
    """A row that stays leaves the nursery alone; one that re-enters starts it anew, with a new number."""
    visits: list[int] = []

    async def travel(visit: Visit[Parcel]) -> None:
        visits.append(visit.incarnation)
        await trio.sleep_forever()

    async def stamps(visit: Visit[Parcel]) -> AsyncGenerator[Event]:
        visits.append(visit.incarnation)
        yield Stamped()
        yield Stamped()
        yield Packed()

    async with open_engine(paths, [parcel(stamps, travelling=travel)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        async with aclosing(flow.changes()) as changes:
            async for change in changes:
                if change.event == "Packed":
                    break
        await trio.testing.wait_all_tasks_blocked(0.01)
        await flow.send(Stamped())
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert visits == [1, 2, 3]
        assert flow.context == Parcel(stamps=3)


async def test_an_event_of_an_older_visit_is_dropped_and_logged(paths: CloudPaths, logged: list[str]) -> None:
    """Whatever an activity of a visit that is over still sends changes nothing, even where the table would take it."""
    old: list[Visit[Parcel]] = []

    async def travel(visit: Visit[Parcel]) -> None:
        old.append(visit)
        await trio.sleep_forever()

    async with open_engine(paths, [parcel(pack, travelling=travel)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        with trio.fail_after(10):
            while not old:
                await trio.testing.wait_all_tasks_blocked(0.01)
        await flow.send(Stamped())
        before = flow.row
        assert await old[0].send(Stamped()) is False
        live_door = old[0]._host  # pyright: ignore[reportPrivateUsage] a sender that was already on its way
        assert await live_door.deliver(Stamped(), old[0].incarnation) is False
        assert flow.row == before
    assert sum("dropped Stamped" in line for line in logged) == 2


# --- parking -------------------------------------------------------------------------------------------


class Fails:
    """An activity that fails until it is mended."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure
        self.__name__ = "fails"

    async def __call__(self, _visit: Visit[Parcel]) -> Event | None:
        """Fail, or pack."""
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        return Packed()


@pytest.mark.parametrize(
    ("failure", "kind", "code", "hint"),
    [
        pytest.param(
            NotAuthenticated("the API refused it"), "NotAuthenticated", 4, "systemprompt-cloud login", id="login"
        ),
        pytest.param(Network("no route", hint="plug it in"), "Network", 8, "plug it in", id="network"),
        pytest.param(Oops("what?"), "UnexpectedFailure", 8, "flows resume", id="bug"),
        pytest.param(ActivitiesRanDry("dry"), "ActivitiesRanDry", 8, "bug", id="dry"),
    ],
)
async def test_what_stops_a_flow_parks_it_and_resume_goes_on(
    paths: CloudPaths, failure: Exception, kind: str, code: int, hint: str
) -> None:
    """It keeps its state and says why, with the mend and the exit code; once mended it goes on from there."""
    fails = Fails(failure)
    async with open_engine(paths, [parcel(fails, travelling=deliver)]) as engine:
        flow = await engine.start(PARCEL, Parcel(stamps=7))
        error = await parked(flow)
        assert (error.flow, error.state, error.kind, error.code) == (flow.id, "packing", kind, code)
        assert hint in error.recovery_hint
        assert rows(engine, flow) == [("packing", "parked", 2)]
        assert flow.row.owner is None
        assert (await parked(flow)).user_message == error.user_message
    async with open_engine(paths, [parcel(fails, travelling=deliver)]) as engine:
        again = await parked(await engine.resume(flow.id))
        assert again.kind == kind
        fails.failure = None
        flow = await engine.resume(flow.id)
        with trio.fail_after(10):
            assert (await flow.wait()).state == "delivered"
        assert flow.context == Parcel(stamps=7)
        assert [change.kind for change in flow.history][:4] == ["started", "parked", "resumed", "parked"]
        assert flow.row.trouble is None


async def test_activities_that_run_dry_park_the_flow_by_name(paths: CloudPaths) -> None:
    """The message has the state and the activities, so that the bug can be found."""

    async def looks(_visit: Visit[Parcel]) -> None:
        await trio.lowlevel.checkpoint()

    async def shrugs(_visit: Visit[Parcel]) -> Event:
        return Stamped()

    async with open_engine(paths, [parcel(looks, shrugs)]) as engine:
        error = await parked(await engine.start(PARCEL, Parcel()))
        assert error.kind == "ActivitiesRanDry"
        assert "packing" in error.user_message
        assert "looks, shrugs" in error.user_message


async def test_a_failure_nobody_planned_for_is_in_the_log(paths: CloudPaths, logged: list[str]) -> None:
    """With its traceback; the person sees one sentence, without secrets."""
    secret = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlc2lnbmF0dXJl"
    async with open_engine(paths, [parcel(Fails(Oops(f"no: {secret}")))]) as engine:
        error = await parked(await engine.start(PARCEL, Parcel()))
        assert error.user_message.startswith("Oops: no:")
        assert "eyJ" not in error.user_message
        assert b"c2lnbmF0dXJl" not in engine.journal.path.read_bytes()
    assert any("nobody planned for in packing" in line and "Traceback" in line for line in logged)


async def test_one_flow_parked_is_one_flow_parked(paths: CloudPaths) -> None:
    """The others of the same engine go on."""
    fails = Fails(Oops())
    async with open_engine(paths, [parcel(fails, travelling=deliver)]) as engine:
        broken = await engine.start(PARCEL, Parcel())
        await parked(broken)
        fails.failure = None
        with trio.fail_after(10):
            assert (await (await engine.start(PARCEL, Parcel())).wait()).succeeded
        assert broken.row.status == "parked"


async def test_a_parked_flow_can_be_cancelled_and_takes_no_events(paths: CloudPaths) -> None:
    """It is driven by nobody: events are left in its inbox for whoever resumes it."""
    async with open_engine(paths, [parcel(Fails(Oops()))]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        await parked(flow)
        before = flow.row
        assert await flow.send(Stamped()) is False
        assert flow.row == before
        await flow.cancel("enough")
        outcome = await flow.wait()
        assert (outcome.state, outcome.verdict, outcome.problem) == ("cancelled", "cancelled", "enough")


# --- starting, ending, following -----------------------------------------------------------------------


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
    """`FlowBusy` names the process; nothing is disturbed; when the first lets go, the second may go on."""
    async with open_engine(paths, [parcel()]) as second:
        async with open_engine(paths, [parcel()]) as first:
            flow = await first.start(PARCEL, Parcel(), key="k")
            for attempt in (second.start(PARCEL, Parcel(), key="k"), second.resume(flow.id)):
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
        await trio.testing.wait_all_tasks_blocked()
    assert flow.id in told[0]
    async with open_engine(paths, [parcel()]) as engine:
        with pytest.raises(EngineClosed, match="nobody drives"):
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
                await trio.testing.wait_all_tasks_blocked()
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
        assert kinds == ["started", "parked"]


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


async def test_an_error_in_the_block_comes_out_as_it_is(paths: CloudPaths) -> None:
    """Not wrapped in a group by the engine's nursery."""

    async def use() -> None:
        async with open_engine(paths, [parcel()]) as engine:
            await engine.start(PARCEL, Parcel())
            raise Oops

    with pytest.raises(Oops):
        await use()


async def test_an_event_that_comes_while_a_flow_is_being_parked_wins(paths: CloudPaths) -> None:
    """A flow that somebody led out of the state meanwhile is not parked in the next one."""

    async def fails(_visit: Visit[Parcel]) -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            raise Oops

    async def breaks(_visit: Visit[Parcel]) -> None:
        await go.wait()
        raise Oops

    for _ in range(10):
        started, go = trio.Event(), trio.Event()
        async with open_engine(paths, [parcel(fails, breaks, travelling=deliver)]) as engine:
            flow = await engine.start(PARCEL, Parcel())
            await started.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flow.send, Packed())
                go.set()
            with trio.fail_after(10):
                assert (await flow.wait()).state == "delivered"


# --- secrets -------------------------------------------------------------------------------------------


async def test_secrets_live_as_long_as_their_flow(paths: CloudPaths) -> None:
    """Kept while it runs, is parked or waits for another process; gone when it has ended; never in the journal."""
    secret = "correct horse battery staple"
    fails = Fails(Network("away"))

    async def keeps(visit: Visit[Parcel]) -> Event | None:
        await visit.send(Labelled(await visit.keep("label", secret)))
        return await fails(visit)

    async def reads(visit: Visit[Parcel]) -> Event:
        assert await visit.reveal(visit.context.label) == secret
        assert await visit.reveal("vault:given") == "handed in"
        return Delivered()

    async with open_engine(paths, [parcel(keeps, travelling=reads)]) as engine:
        flow = await engine.start(PARCEL, Parcel(), secrets={"given": "handed in"})
        await parked(flow)
        assert engine.vault.has(flow.id, "vault:given")
        fails.failure = None
    async with open_engine(paths, [parcel(keeps, travelling=reads)]) as engine:
        assert engine.vault.has(flow.id, "vault:given")
        flow = await engine.resume(flow.id)
        with trio.fail_after(10):
            assert (await flow.wait()).succeeded
        assert list(paths.vault_directory.iterdir()) == []
    for file in paths.state_directory.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()


async def test_secrets_of_a_flow_that_could_not_start_are_gone(paths: CloudPaths) -> None:
    """No flow, no secrets: also when the start was cancelled between the two."""
    async with open_engine(paths, [parcel()]) as engine:
        with trio.CancelScope() as scope:
            scope.cancel()
            await engine.start(PARCEL, Parcel(), secrets={"one": "1" * 10, "two": "2" * 10})
        assert engine.journal.flows() == []
        assert list(paths.vault_directory.glob("*")) == []


async def test_secrets_a_killed_process_left_behind_are_removed(paths: CloudPaths) -> None:
    """Killed between the last commit and the removal: the next engine removes them, and only those."""
    async with open_engine(paths, [parcel()]) as engine:
        ended = await engine.start(PARCEL, Parcel())
        await ended.cancel()
        running = await engine.start(PARCEL, Parcel(), secrets={"token": "a token"})
        engine.vault.put(ended.id, "token", "left behind")
    async with open_engine(paths, [parcel()]) as engine:
        assert not engine.vault.has(ended.id, "vault:token")
        assert engine.vault.has(running.id, "vault:token")


async def test_secrets_that_cannot_be_removed_do_not_stop_the_flow(paths: CloudPaths, logged: list[str]) -> None:
    """The flow has ended; that its secrets are still there is logged."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel(), secrets={"token": "a token"})
        file = paths.vault_directory / f"{flow.id}.json"
        file.unlink()
        file.mkdir()
        await flow.send(Packed())
        await flow.cancel()
        with trio.fail_after(10):
            assert (await flow.wait()).state == "cancelled"
    assert any("still on disk" in line for line in logged)


async def test_an_engine_needs_its_directory(paths: CloudPaths) -> None:
    """What stands in the way is named, and nothing was started."""
    paths.directory.write_text("not a directory")
    with pytest.raises(Io, match="systemprompt"):
        async with open_engine(paths, [parcel()]):
            raise AssertionError
