"""Contexts: refused before anything is written when they cannot be read back; one changed in place is found."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import msgspec
import pytest
import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowParked, IncompatibleFlow, NotStorable
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, STAY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Activity, Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths


class Cart(Context, frozen=True, kw_only=True):
    """What a cart knows; its lists and dictionaries can be changed in place."""

    items: list[str] = msgspec.field(default_factory=list)
    price: float = 1.0
    extra: Any = None


class Better(Cart, frozen=True, kw_only=True):
    """A subclass with one more field."""

    more: str = "more"


class Priced(Event, frozen=True):
    """A price; what it becomes is decided by the update."""

    what: str


class Looked(Event, frozen=True):
    """A guard with a bug looks at the cart."""


class Filled(Event, frozen=True):
    """One more item, by an update with a bug."""

    item: str


class Bought(Event, frozen=True):
    """The end."""


WRONG: dict[str, tuple[Any, str]] = {
    "nan": (Cart(price=math.nan), "price"),
    "inf": (Cart(price=math.inf), "price"),
    "type": (Cart(items=["a", 3]), "items"),  # pyright: ignore[reportArgumentType]
    "tuple": (Cart(extra=(1, 2)), "extra"),
    "keys": (Cart(extra={1: "a"}), "extra"),
    "surrogate": (Cart(items=["\ud800"]), "items"),
    "object": (Cart(extra=object()), "extra"),
    "bytes": (Cart(extra=b"x"), "extra"),
    "subclass": (Better(), "Better"),
}


def priced(context: Cart, event: Priced) -> Cart:
    """Becomes what cannot be stored."""
    return context if event.what == "same" else WRONG[event.what][0]


def look(context: Cart, _event: Looked) -> bool:
    """A bug: a guard only looks."""
    context.items.append("by a guard")
    return True


def fill(context: Cart, event: Filled) -> Cart:
    """A bug: the same list."""
    context.items.append(event.item)
    return msgspec.structs.replace(context, price=context.price + 1)


CART = Machine(
    "cart",
    version=1,
    initial="filling",
    context=Cart,
    states=[
        State("filling", "being filled"),
        State("bought", "bought", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Priced, "filling", STAY, update=priced),
        on(Looked, "filling", STAY, when=look),
        on(Filled, "filling", STAY, update=fill),
        on(Bought, "filling", "bought"),
        on(CancelRequested, ANY, "cancelled"),
    ],
)


class Ran(Context, frozen=True, kw_only=True):
    """The parent of a cart."""


class CartEnded(Event, frozen=True):
    """Its child has ended."""


PARENT = Machine(
    "shopper",
    version=1,
    initial="shopping",
    context=Ran,
    states=[
        State("shopping", "a cart is filled", child="cart"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[on(CartEnded, "shopping", "done"), on(CancelRequested, ANY, "cancelled")],
)


def cart(filling: Activity = await_signal) -> Program[Cart]:
    """The machine with this activity."""
    return Program(CART, {"filling": [filling]})


@pytest.mark.parametrize("what", WRONG)
async def test_a_start_with_what_cannot_be_read_back_starts_nothing(paths: CloudPaths, what: str) -> None:
    """The message has the field; there is no flow, no secret, and the key is free."""
    context, field = WRONG[what]
    async with open_engine(paths, [cart()]) as engine:
        with pytest.raises(NotStorable, match=field) as caught:
            await engine.start(CART, context, key="k", secrets={"code": "s3cret"})
        assert field in caught.value.field
        assert engine.journal.flows() == []
        assert not list(paths.vault.glob("*"))
        assert (await engine.start(CART, Cart(), key="k")).state == "filling"


@pytest.mark.parametrize("what", WRONG)
async def test_an_update_whose_context_cannot_be_read_back_changes_nothing(paths: CloudPaths, what: str) -> None:
    """The sender is told the field; the flow keeps what it knew, on disk and in memory, and goes on."""
    async with open_engine(paths, [cart()]) as engine:
        flow = await engine.start(CART, Cart(items=["a"]))
        before = flow.row
        with pytest.raises(NotStorable, match=WRONG[what][1]):
            await flow.send(Priced(what))
        assert (flow.row, flow.context) == (before, Cart(items=["a"]))
        assert await flow.send(Priced("same")) is True
    async with open_engine(paths, [cart()]) as engine:
        assert engine.context(flow.id) == Cart(items=["a"])
        again = await engine.resume(flow.id)
        await again.send(Bought())
        with trio.fail_after(10):
            assert (await again.wait()).succeeded


@pytest.mark.parametrize("what", WRONG)
async def test_a_child_with_what_cannot_be_read_back_is_not_begun(paths: CloudPaths, what: str) -> None:
    """Its parent is paused and says which field; no child is in the journal."""

    async def shop(visit: Visit[Ran]) -> Event:
        await visit.run_child(cart(), WRONG[what][0])
        return CartEnded()

    async with open_engine(paths, [Program(PARENT, {"shopping": [shop]}), cart()]) as engine:
        flow = await engine.start(PARENT, Ran())
        with pytest.raises(FlowParked, match=WRONG[what][1]), trio.fail_after(10):
            await flow.wait()
        assert [row.id for row in engine.journal.flows()] == [flow.id]


@pytest.mark.parametrize("event", [Looked(), Filled("x")], ids=["guard", "update"])
async def test_a_table_that_changes_the_context_in_place_is_found(paths: CloudPaths, event: Event) -> None:
    """The field is named, the step is not taken, and what the flow knows is what is on disk."""
    async with open_engine(paths, [cart()]) as engine:
        flow = await engine.start(CART, Cart(items=["a"]))
        for _ in range(2):
            with pytest.raises(NotStorable, match=r"Cart\.items was changed in place"):
                await flow.send(event)
            assert flow.context == Cart(items=["a"])
        assert [change.event for change in flow.history] == ["started"]


class Strict(Context, frozen=True, kw_only=True):
    """A context whose class takes less than it did."""

    items: list[str] = msgspec.field(default_factory=list)
    taken: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """At the most so many items."""
        if len(self.items) > self.taken:
            raise ValueError("too many items")


async def test_a_context_that_its_class_takes_no_more_is_named(
    paths: CloudPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next event, as an error of this package; nothing is changed."""
    machine = Machine(
        "strict",
        version=1,
        initial="filling",
        context=Strict,
        states=[CART.states[name] for name in ("filling", "bought", "cancelled")],
        rows=[on(Bought, "filling", "bought"), on(CancelRequested, ANY, "cancelled")],
    )
    async with open_engine(paths, [Program(machine, {"filling": [await_signal]})]) as engine:
        flow = await engine.start(machine, Strict(items=["a"]))
        monkeypatch.setattr(Strict, "taken", 0)
        with pytest.raises(IncompatibleFlow, match=f"flow {flow.id}: its context cannot be read: .*too many items"):
            await flow.send(Bought())
        monkeypatch.undo()
        assert await flow.send(Bought()) is True


async def test_an_activity_that_changes_the_context_in_place_is_found(paths: CloudPaths) -> None:
    """With the next event, whoever sends it: nothing is decided by what no record has."""

    async def spoil(visit: Visit[Cart]) -> Event:
        await trio.lowlevel.checkpoint()
        visit.context.items.append("by an activity")
        return Priced("same")

    async with open_engine(paths, [cart(spoil)]) as engine:
        flow = await engine.start(CART, Cart())
        with pytest.raises(FlowParked, match=r"Cart\.items was changed in place"), trio.fail_after(10):
            await flow.wait()
        assert flow.context == Cart()
    async with open_engine(paths, [cart()]) as engine:
        again = await engine.resume(flow.id)
        assert again.context == Cart()
        await again.send(Bought())
        with trio.fail_after(10):
            assert (await again.wait()).result["items"] == []


async def test_what_the_caller_keeps_is_not_what_the_flow_knows(paths: CloudPaths) -> None:
    """A list that was given to `start` may be changed afterwards; the flow has what was written."""
    items = ["a"]
    async with open_engine(paths, [cart()]) as engine:
        flow = await engine.start(CART, Cart(items=items))
        items.append("later")
        assert await flow.send(Priced("same")) is True
        assert flow.context == Cart(items=["a"])
