"""The same key again: the same flow, another one after its end or the ended one, and never another order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
import pytest
import trio
from systemprompt_cloud.base.clock import SystemClock
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowBusy, KeyInUse, NotStorable
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.migrations import Migration
from systemprompt_cloud.engine.machine.parts import ANY, STAY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Program, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.machines.parts.vocabulary import cancelled
from typing_extensions import override


class Order(Context, frozen=True, kw_only=True):
    """What an order knows."""

    tenant: str = "acme"
    plan: str = "starter"
    note: str = ""


class Upgraded(Event, frozen=True):
    """Another plan, while it runs."""

    plan: str


class Placed(Event, frozen=True):
    """It is done."""


def upgrade(context: Order, event: Upgraded) -> Order:
    """Take the other plan."""
    return msgspec.structs.replace(context, plan=event.plan)


def order_machine(
    name: str = "order", formerly: tuple[str, ...] = (), identity: tuple[str, ...] = ()
) -> Machine[Order]:
    """The table."""
    return Machine(
        name,
        version=1,
        initial="placing",
        context=Order,
        states=[
            State("placing", "being placed"),
            State("placed", "placed", verdict=Verdict.SUCCESS),
            State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Upgraded, "placing", STAY, update=upgrade),
            on(Placed, "placing", "placed"),
            on(CancelRequested, ANY, "cancelled", update=cancelled),
        ],
        identity=identity,
        formerly=formerly,
    )


ORDER = order_machine(identity=("tenant", "plan"))


def program(machine: Machine[Order] = ORDER) -> Program[Order]:
    """An order that waits to be placed."""
    return Program(machine, {"placing": [await_signal]})


async def end(flow: Flow) -> None:
    """Let it end, and see that it has."""
    await flow.send(Placed())
    with trio.fail_after(10):
        await flow.wait()


@pytest.mark.parametrize("again", [False, True])
async def test_other_identity_fields_are_refused_by_name(paths: CloudPaths, again: bool) -> None:
    """Whether the flow is driven here or was left by an earlier process; it is not resumed, and goes on unchanged."""
    async with open_engine(paths, [program()]) as engine:
        flow = await engine.start(ORDER, Order(), key="k")
        if not again:
            with pytest.raises(KeyInUse, match="was started with another tenant, plan") as caught:
                await engine.start(ORDER, Order(tenant="other", plan="pro", note="x"), key="k")
            assert (caught.value.flow, caught.value.fields) == (flow.id, ("tenant", "plan"))
            return
    async with open_engine(paths, [program()]) as engine:
        before = engine.row(flow.id)
        with pytest.raises(KeyInUse, match="was started with another plan"):
            await engine.start(ORDER, Order(plan="pro"), key="k")
        assert engine.row(flow.id) == before


async def test_other_fields_keep_what_is_stored_and_the_log_says_so(paths: CloudPaths, logged: list[str]) -> None:
    """The names of the fields, not their values: what a flow knows is not for a log."""
    async with open_engine(paths, [program()]) as engine:
        flow = await engine.start(ORDER, Order(note="first"), key="k")
        again = await engine.start(ORDER, Order(note="s3cret"), key="k")
        assert (again.id, again.context) == (flow.id, Order(note="first"))
        (line,) = [line for line in logged if "goes on as it was started" in line]
        assert "note" in line
        assert "s3cret" not in "".join(logged)


async def test_identity_is_what_the_flow_was_started_with(paths: CloudPaths) -> None:
    """The same start means the same flow, whatever the flow has learned since."""
    async with open_engine(paths, [program()]) as engine:
        flow = await engine.start(ORDER, Order(), key="k")
        await flow.send(Upgraded("pro"))
        assert (await engine.start(ORDER, Order(), key="k")).id == flow.id
        with pytest.raises(KeyInUse, match="another plan"):
            await engine.start(ORDER, Order(plan="pro"), key="k")


async def test_a_machine_without_identity_asks_for_no_field(paths: CloudPaths) -> None:
    """Its key alone says what is meant."""
    machine = order_machine()
    async with open_engine(paths, [program(machine)]) as engine:
        flow = await engine.start(machine, Order(), key="k")
        assert (await engine.start(machine, Order(tenant="other"), key="k")).id == flow.id


@pytest.mark.parametrize("after_end", ["again", "return"])
async def test_after_the_end_a_key_starts_again_or_gives_back(
    paths: CloudPaths, after_end: Literal["again", "return"]
) -> None:
    """`again` starts a new flow, `return` gives the ended one with its outcome; in this engine and in the next one."""
    async with open_engine(paths, [program()]) as engine:
        flow = await engine.start(ORDER, Order(), key="k")
        await end(flow)
        again = await engine.start(ORDER, Order(), key="k", after_end=after_end)
        assert (again.id == flow.id) == (after_end == "return")
        await end(again) if after_end == "again" else None
    async with open_engine(paths, [program()]) as engine:
        last = await engine.start(ORDER, Order(), key="k", after_end="return")
        assert last.id == again.id
        with trio.fail_after(10):
            assert (await last.wait()).succeeded
        assert len(engine.journal.flows()) == (2 if after_end == "again" else 1)


class SetClock(SystemClock):
    """A clock that can be set."""

    ahead = timedelta(0)

    @override
    def now(self) -> datetime:
        """The time, as it was set."""
        return super().now() + self.ahead


async def test_the_order_that_was_started_last_is_given_back(paths: CloudPaths) -> None:
    """Also when the clock was set back between the two, and its id is the lower one."""
    clock = SetClock()
    async with open_engine(paths, [program()], clock=clock) as engine:
        for note in ("first", "second"):
            flow = await engine.start(ORDER, Order(note=note), key="k")
            await end(flow)
            clock.ahead -= timedelta(hours=1)
        assert (await engine.start(ORDER, Order(), key="k", after_end="return")).id == flow.id


async def test_what_is_given_back_was_the_same_order(paths: CloudPaths) -> None:
    """`return` with other identity fields is refused too: the outcome would be another order's."""
    async with open_engine(paths, [program()]) as engine:
        flow = await engine.start(ORDER, Order(), key="k")
        await end(flow)
        with pytest.raises(KeyInUse, match="another tenant"):
            await engine.start(ORDER, Order(tenant="other"), key="k", after_end="return")
        assert (await engine.start(ORDER, Order(tenant="other"), key="k")).id != flow.id


@pytest.mark.parametrize("ended", [False, True])
async def test_a_key_is_found_under_a_former_name(paths: CloudPaths, ended: bool) -> None:
    """A renamed machine has the keys of its flows: no second order is placed because the table got a better name."""
    old = order_machine("purchase v2".replace(" ", "-"), identity=("tenant",))
    new = order_machine(formerly=(old.name,), identity=("tenant",))
    async with open_engine(paths, [program(old)]) as engine:
        flow = await engine.start(old, Order(), key="k")
        if ended:
            await end(flow)
    async with open_engine(paths, [program(new)]) as engine:
        with pytest.raises(KeyInUse, match="another tenant"):
            await engine.start(new, Order(tenant="other"), key="k", after_end="return")
        again = await engine.start(new, Order(), key="k", after_end="return")
        assert again.id == flow.id
        assert again.row.status == ("ended" if ended else "running")
        if ended:
            assert (await engine.start(new, Order(), key="k")).id != flow.id


async def test_many_starts_at_once_are_one_flow(paths: CloudPaths) -> None:
    """Twenty tasks, one flow, driven once; also when it had been left by an earlier process."""
    begun: list[str] = []

    async def place(visit: Any) -> None:
        begun.append(visit.flow)
        await trio.sleep_forever()

    started: set[str] = set()
    for _ in range(2):
        async with open_engine(paths, [Program(ORDER, {"placing": [place]})]) as engine, trio.open_nursery() as nursery:

            async def start() -> None:
                started.add((await engine.start(ORDER, Order(), key="k")).id)

            for _ in range(20):
                nursery.start_soon(start)
    assert len(started) == 1
    assert begun == [*started] * 2


async def test_two_engines_start_one_flow(paths: CloudPaths) -> None:
    """At once, several times: one of them drives it, the other is told who does."""
    async with open_engine(paths, [program()]) as one, open_engine(paths, [program()]) as two:
        for number in range(10):
            results: list[Flow | FlowBusy] = []

            async def start(engine: Any, key: str) -> None:
                try:
                    results.append(await engine.start(ORDER, Order(), key=key))  # noqa: B023 ends with the nursery
                except FlowBusy as busy:
                    results.append(busy)  # noqa: B023

            async with trio.open_nursery() as nursery:
                for engine in (one, two):
                    nursery.start_soon(start, engine, str(number))
            (flow,) = [each for each in results if isinstance(each, Flow)]
            (busy,) = [each for each in results if isinstance(each, FlowBusy)]
            assert busy.flow == flow.id
        assert len(one.journal.flows()) == 10


@pytest.mark.parametrize("key", ["", "\0", "a\0b", "\ud800", "x" * 1001, b"k", 7, "\udcff" * 3])
async def test_a_key_that_cannot_be_stored_is_refused(paths: CloudPaths, key: Any) -> None:
    """With its beginning in the message; nothing was started."""
    async with open_engine(paths, [program()]) as engine:
        with pytest.raises(NotStorable, match="is no key") as caught:
            await engine.start(ORDER, Order(), key=key)
        assert caught.value.field == "key"
        assert engine.journal.flows() == []


@pytest.mark.parametrize(
    "key", ["k", " ", "'; DROP TABLE flows; --", "\u2028", "\U0001f680" * 500, "x" * 1000, "a/../b", "%00"]
)
async def test_any_other_text_is_a_key(paths: CloudPaths, key: str) -> None:
    """It is found again as it was given."""
    async with open_engine(paths, [program()]) as engine:
        flow = await engine.start(ORDER, Order(), key=key)
        assert (await engine.start(ORDER, Order(), key=key)).id == flow.id
        assert (await engine.start(ORDER, Order(), key=key[:-1] + "~")).id != flow.id


class Renamed(Context, frozen=True, kw_only=True):
    """What an order of the next version knows."""

    customer: str = "acme"
    plan: str = "starter"
    note: str = ""


def next_machine(migration: Migration) -> Machine[Renamed]:
    """The next version of the table."""
    return Machine(
        "order",
        version=2,
        initial="placing",
        context=Renamed,
        states=[ORDER.states[name] for name in ("placing", "placed", "cancelled")],
        rows=[on(Placed, "placing", "placed"), on(CancelRequested, ANY, "cancelled")],
        identity=("customer", "plan"),
        migrations=[migration],
    )


def renamed(old: dict[str, Any]) -> dict[str, Any]:
    """The context of the next version."""
    return {"customer": old["tenant"], "plan": old.get("plan", "starter"), "note": "migrated"}


def renamed_later(old: dict[str, Any]) -> dict[str, Any]:
    """A migration that does not take what an order is started with."""
    if old.get("plan", "starter") == "starter":
        raise ValueError("the plan is to be another one")
    return renamed(old)


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("migrated", [False, True])
@pytest.mark.parametrize("carry", [renamed, renamed_later])
async def test_the_identity_holds_through_migrations(
    paths: CloudPaths, carry: Callable[[dict[str, Any]], dict[str, Any]], migrated: bool, ended: bool
) -> None:
    """Before and after the flow was carried over, before and after its end; what it was started with is carried, too.

    Where a migration does not take that, what the flow knew later counts.
    """
    old = order_machine(identity=("tenant",))
    new = next_machine(Migration(1, context=carry))
    programs = [Program(new, {"placing": [await_signal]})]
    async with open_engine(paths, [program(old)]) as engine:
        flow = await engine.start(old, Order(tenant="home"), key="k")
        await flow.send(Upgraded("large"))
        if ended and not migrated:
            await end(flow)
    if migrated:
        async with open_engine(paths, programs) as engine:
            again = await engine.resume(flow.id)
            assert again.row.version == 2
            if ended:
                await end(again)
    started = Renamed(customer="home", plan="starter" if carry is renamed else "large")
    async with open_engine(paths, programs) as engine:
        for other in ("customer", "plan"):
            given = msgspec.structs.replace(started, **{other: "other"})
            with pytest.raises(KeyInUse, match=f"another {other}"):
                await engine.start(new, given, key="k", after_end="return")
        assert (await engine.start(new, started, key="k", after_end="return")).id == flow.id
