"""Observers are told what an engine writes, after it is durable; and whoever asks why a flow is paused finds out."""

from __future__ import annotations

import traceback
from typing import Any

import msgspec
import pytest
import trio
from systemprompt_cloud.engine.driven import MOST_CAUSES
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import FlowParked, JournalError
from systemprompt_cloud.engine.history import Change, Outcome
from systemprompt_cloud.engine.journal.records import FlowRow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.observers import Observer
from systemprompt_cloud.engine.retries import Retry, activity
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.errors import NotAuthenticated
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock
from typing_extensions import override

from tests.support.parcel import PARCEL, Delivered, Fails, Oops, Packed, Parcel, Stamped, deliver, pack, parcel


class Notes(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, Any]] = []
        self.errors: list[FlowParked] = []
        self.rows: list[FlowRow] = []

    @override
    def started(self, flow: FlowRow) -> None:
        self.told.append(("started", flow.id, flow.parent))

    @override
    def committed(self, flow: FlowRow, change: Change) -> None:
        self.rows.append(flow)
        self.told.append(("committed", flow.id, change.event))

    @override
    def retried(self, flow: FlowRow, change: Change) -> None:
        self.told.append(("retried", flow.id, change.event))

    @override
    def paused(self, flow: FlowRow, error: FlowParked) -> None:
        self.errors.append(error)
        self.told.append(("paused", flow.id, error.activity))

    @override
    def ended(self, flow: FlowRow, outcome: Outcome | None) -> None:
        self.told.append(("ended", flow.id, outcome and outcome.verdict))

    def of(self, flow: str) -> list[tuple[str, Any]]:
        """What it was told of one flow."""
        return [(what, detail) for what, of, detail in self.told if of == flow]


class Sent(Event, frozen=True):
    """The parcel was delivered."""


ORDER = Machine(
    "order",
    version=1,
    initial="sending",
    context=Context,
    states=[
        State("sending", "a parcel is on its way", child="parcel"),
        State("sent", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Sent, "sending", "sent"), on(CancelRequested, ANY, "cancelled")],
)


def order(child: Program[Parcel]) -> Program[Context]:
    """An order whose parcel does this."""

    async def send(visit: Visit[Context]) -> Event:
        await visit.run_child(child, Parcel())
        return Sent()

    return Program(ORDER, {"sending": [send]})


# --- observers --------------------------------------------------------------------------------------------------------


async def test_an_observer_is_told_everything_once_and_in_order(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Starts, retries, pauses, resumes and ends of a flow and of the flow inside it."""
    fails = Fails(Oops("no tape"))
    child = parcel(activity(fails, retry=Retry(times=1)), travelling=deliver)
    async with open_engine(paths, [child, order(child)], clock=clock, inline=True) as engine:
        notes = Notes()
        stop = engine.observe(notes)
        flow = await engine.start(ORDER, Context())
        with pytest.raises(FlowParked):
            await flow.wait()
        (inner,) = await engine.flows(parent=flow.id)
        fails.failure = None
        await engine.resume(flow.id)
        await flow.wait()
        assert notes.of(inner.id) == [
            ("committed", "started"),
            ("started", flow.id),
            ("committed", "fails"),
            ("retried", "fails"),
            ("committed", "UnexpectedFailure"),
            ("paused", "fails"),
            ("committed", "resumed"),
            ("committed", "Packed"),
            ("committed", "Delivered"),
            ("ended", "success"),
        ]
        assert notes.of(flow.id) == [
            ("committed", "started"),
            ("started", None),
            ("committed", "UnexpectedFailure"),
            ("paused", "send"),
            ("committed", "resumed"),
            ("committed", "Sent"),
            ("ended", "success"),
        ]
        of_child, of_parent = notes.errors
        assert isinstance(of_child.__cause__, Oops)
        assert isinstance(of_parent.__cause__, FlowParked)
        assert isinstance(of_parent.__cause__.__cause__, Oops)
        told = len(notes.told)
        stop()
        await (await engine.start(PARCEL, Parcel())).wait()
        assert len(notes.told) == told


async def test_an_observer_is_told_after_the_commit(paths: CloudPaths) -> None:
    """What it is told is on disk, as another reader sees it; what could not be written it is never told."""
    async with open_engine(paths, [parcel()]) as engine, open_engine(paths, [parcel()]) as reader:

        class Reads(Observer):
            def __init__(self) -> None:
                self.seen: list[bool] = []

            @override
            def committed(self, flow: FlowRow, change: Change) -> None:
                self.seen.append(reader.row(flow.id).seq >= change.seq)

        reads, notes = Reads(), Notes()
        engine.observe(reads)
        engine.observe(notes)
        flow = await engine.start(PARCEL, Parcel())
        await flow.send(Stamped())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine.journal, "write", _fail)
            with pytest.raises(JournalError):
                await flow.send(Stamped())
        assert reads.seen == [True, True]
        assert [detail for _, detail in notes.of(flow.id)] == ["started", None, "Stamped"]


def _fail(*_: object, **__: object) -> None:
    raise JournalError("the disk is full")


class Clumsy(Observer):
    """Raises whatever it is told."""

    @override
    def started(self, flow: FlowRow) -> None:
        raise Oops

    @override
    def committed(self, flow: FlowRow, change: Change) -> None:
        raise Oops

    @override
    def paused(self, flow: FlowRow, error: FlowParked) -> None:
        raise ExceptionGroup("several", [Oops()])

    @override
    def ended(self, flow: FlowRow, outcome: Outcome | None) -> None:
        raise Oops


async def test_an_observer_that_raises_disturbs_no_flow(paths: CloudPaths, logged: list[str]) -> None:
    """It is logged with its traceback; the flow and the other observers go on."""
    async with open_engine(paths, [parcel(pack, travelling=deliver)]) as engine:
        notes = Notes()
        engine.observe(Clumsy())
        engine.observe(notes)
        flow = await engine.start(PARCEL, Parcel())
        assert (await flow.wait()).succeeded
        assert [what for what, _ in notes.of(flow.id)] == ["committed", "started", "committed", "committed", "ended"]
    assert [line for line in logged if "the observer Clumsy failed" in line and "Oops" in line]


async def test_what_is_no_observer_is_refused(paths: CloudPaths) -> None:
    """An object without the methods, and one whose method would never be awaited."""

    class Late(Observer):
        @override
        async def ended(self, flow: FlowRow, outcome: Outcome | None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            pass

    nothing: Any = object()
    async with open_engine(paths, [parcel()]) as engine:
        with pytest.raises(TypeError, match="object has no method started"):
            engine.observe(nothing)
        with pytest.raises(TypeError, match="Late has a coroutine function as its method ended"):
            engine.observe(Late())


async def test_the_end_of_a_flow_without_its_machine_is_told(paths: CloudPaths) -> None:
    """It is abandoned: there is no outcome, and the row says how it ended."""
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel())
    async with open_engine(paths, [order(parcel())]) as engine:
        notes = Notes()
        engine.observe(notes)
        await engine.cancel(flow.id)
        assert notes.of(flow.id) == [("committed", "abandoned"), ("ended", None)]
        assert notes.rows[-1].verdict == "cancelled"


# --- why a flow is paused ---------------------------------------------------------------------------------------------


async def paused(engine: Engine, flow: str) -> FlowParked:
    """The error of waiting for it."""
    with pytest.raises(FlowParked) as caught:
        await engine.wait(flow)
    return caught.value


async def test_what_pauses_a_flow_is_named_and_caught(paths: CloudPaths, logged: list[str]) -> None:
    """The activity by its name, what it raised as the cause with its traceback; in the log, too, and in the journal."""
    oops = Oops("no tape")
    async with open_engine(paths, [parcel(await_signal, Fails(oops))]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        for _ in range(2):  # whoever waits, and whoever comes later
            error = await paused(engine, flow.id)
            assert error.activity == "fails"
            assert error.__cause__ is oops
            assert traceback.extract_tb(oops.__traceback__)[-1].name == "__call__"
            await trio.testing.wait_all_tasks_blocked()
        (line,) = [line for line in logged if "Oops: no tape" in line and "Traceback" in line]
        assert f"{flow.id} failed in packing with an unexpected error, in activity fails" in line
        assert msgspec.json.decode(flow.row.trouble or "")["activity"] == "fails"
    async with open_engine(paths, [parcel()]) as engine:  # another process knows no more than the journal
        error = await paused(engine, flow.id)
        assert (error.activity, error.__cause__) == ("fails", None)


async def test_an_error_that_was_planned_for_leaves_its_traceback_too(paths: CloudPaths, logged: list[str]) -> None:
    """At the level of information: nobody has to look at it."""
    async with open_engine(paths, [parcel(Fails(NotAuthenticated("log in first")))]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        error = await paused(engine, flow.id)
        assert isinstance(error.__cause__, NotAuthenticated)
    assert [line for line in logged if "log in first" in line and "Traceback" in line and "activity fails" in line]


async def test_a_cause_is_that_of_the_last_pause(paths: CloudPaths) -> None:
    """A flow that was resumed and paused again has another one; no more are kept than a fixed number."""
    fails = Fails(Oops("first"))
    async with open_engine(paths, [parcel(fails)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        assert str((await paused(engine, flow.id)).__cause__) == "first"
        fails.failure = Oops("second")
        await engine.resume(flow.id)
        assert str((await paused(engine, flow.id)).__cause__) == "second"
        for _ in range(MOST_CAUSES):
            await paused(engine, (await engine.start(PARCEL, Parcel())).id)
        assert (await paused(engine, flow.id)).__cause__ is None


async def test_the_activity_of_a_group_is_named(paths: CloudPaths) -> None:
    """An activity with a nursery of its own: the cause is the error inside."""

    async def fetch(_visit: Visit[Parcel]) -> Event:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise Oops

    async with open_engine(paths, [parcel(fetch)]) as engine:
        error = await paused(engine, (await engine.start(PARCEL, Parcel())).id)
        assert (error.activity, type(error.__cause__)) == ("fetch", Oops)


async def test_what_no_activity_raised_names_none(
    paths: CloudPaths, clock: VirtualClock, autojump_clock: MockClock
) -> None:
    """Activities that ran dry are all named in the message."""

    async def idle(_visit: Visit[Parcel]) -> None:
        await trio.lowlevel.checkpoint()

    async with open_engine(paths, [parcel(idle)], clock=clock, inline=True) as engine:
        error = await paused(engine, (await engine.start(PARCEL, Parcel())).id)
        assert error.activity == ""
        assert "idle" in error.user_message
        assert {Packed, Delivered} <= set(PARCEL.events.values())
