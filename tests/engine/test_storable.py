"""What a table encodes is read back as it was; everything else is refused with the name of its field."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest
from systemprompt_cloud.engine.errors import MachineInvalid, NotStorable
from systemprompt_cloud.engine.machine.parts import (
    Context,
    Event,
)
from systemprompt_cloud.engine.machine.storable import LEVELS, is_mutable

from tests.support.orders import (
    Colour,
    GiftItem,
    Item,
    Loose,
    Order,
    Priced,
    Renamed,
    Size,
    Unknown,
    machine,
    plainly_equal,
)

# --- single values ---------------------------------------------------------------------------------------------------


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


def circle() -> list[Any]:
    ring: list[Any] = []
    ring.append([ring])
    return ring


@pytest.mark.parametrize(
    ("field", "value", "where", "what"),
    [
        ("amount", math.nan, "Order.amount", "nan would be read back as null"),
        ("amount", -math.inf, "Order.amount", "-inf would be read back as null"),
        ("limit", math.nan, "Order.limit", "nan would be read back as null"),
        ("amount", None, "Order.amount", "Expected `float`, got `null`"),
        ("amount", True, "Order.amount", "Expected `float`, got `bool`"),
        ("note", 42, "Order.note", "Expected `str`, got `int`"),
        ("count", 2.5, "Order.count", "Expected `int`, got `float`"),
        ("note", "\ud800", "Order.note", "surrogate"),
        ("items", (Item(), Item(price=math.inf)), "Order.items[1].price", "inf would be read back as null"),
        ("items", (GiftItem(card="c"),), "Order.items[0]", "a GiftItem would be read back as an Item"),
        ("items", [Item()], "Order.items", "a list would be read back as a tuple"),
        ("prices", {"a": 1.0, "b": math.nan}, "Order.prices[...]", "Expected `float`, got `null`"),
        ("wide", {7: [1.0, None]}, "Order.wide[...][1]", "Expected `float`, got `null`"),
        ("loose", Loose(amount=math.nan), "Order.loose.amount", "nan would be read back as null"),
        ("loose", Loose(more=(1, 2)), "Order.loose.more", "a tuple would be read back as a list"),
        ("exact", 0.1, "Order.exact", "a float would be read back as a Decimal"),
        ("exact", Decimal("sNaN"), "Order.exact", "a Decimal would be read back as another value"),
        ("amount", 2**64 - 1, "Order.amount", "an int would be read back as a float"),
        ("anything", (1, 2), "Order.anything", "a tuple would be read back as a list"),
        ("anything", {"a": [{1: "b"}]}, "Order.anything['a'][0][1]", "not be read back under this key"),
        ("anything", datetime(2026, 1, 1, tzinfo=UTC), "Order.anything", "a datetime would be read back as a str"),
        ("anything", Size.SMALL, "Order.anything", "a member of Size would be read back as an int"),
        ("anything", {Colour.RED: 1}, "Order.anything[Colour.RED]", "not be read back under this key"),
        ("anything", [Colour.RED], "Order.anything[0]", "a member of Colour would be read back as a str"),
        ("anything", Item(), "Order.anything", "an Item would be read back as a dict"),
        ("anything", [0.5, math.nan], "Order.anything[1]", "nan would be read back as null"),
        ("anything", {"a": [object()]}, "Order.anything['a'][0]", "cannot be written as JSON"),
        ("anything", {(1, 2): 3}, "Order.anything", "cannot be written as JSON"),
        ("anything", circle(), "Order.anything[0][0]", "it contains itself"),
        ("anything", nested(5000), "Order.anything" + "[0]" * 39, "nested too deeply"),
        ("anything", [10**5000], "Order.anything[0]", "cannot be written as JSON"),
    ],
)
def test_a_value_that_is_not_read_back_is_refused_with_its_field(
    field: str, value: object, where: str, what: str
) -> None:
    """The message names the field from the class on, and what would become of the value."""
    order = msgspec.structs.replace(Order(), **{field: value})
    with pytest.raises(NotStorable) as refused:
        machine().encode_context(order)
    assert refused.value.field == where
    assert refused.value.user_message.startswith(f"{where}: ")
    assert what in refused.value.user_message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 5),
        ("amount", -0.0),
        ("note", "a \u0000 b \U0001f600"),
        ("count", 2**64 - 1),
        ("count", -(2**70)),
        ("due", datetime(2026, 1, 1, tzinfo=UTC)),
        ("wide", {-1: [0.5]}),
        ("loose", Loose(amount=2, more={"a": [1, 2.5, None, True, "x"]})),
        ("anything", [1, 1.0, "1", True, None, {"a": {"b": 1}}]),
    ],
)
def test_a_value_that_json_holds_is_accepted(field: str, value: object) -> None:
    """What is returned is what will be read: an integer for a float is a float from then on."""
    order = msgspec.structs.replace(Order(), **{field: value})
    _, back = machine().encode_context(order)
    assert plainly_equal(back, order)
    assert type(getattr(back, field)) is (float if field == "amount" else type(value))


class Chain(msgspec.Struct, frozen=True):
    """A type that is exact, and as deep as anybody likes."""

    link: Chain | None = None


class Chained(Context, frozen=True, kw_only=True):
    """A context with one."""

    chain: Chain = Chain()


class Sealed(msgspec.Struct, frozen=True):
    """JSON that nobody has read, inside of another class."""

    text: msgspec.Raw = msgspec.Raw(b"1")


class Bare(Context, frozen=True, kw_only=True):
    """A context that is nothing else."""

    text: msgspec.Raw = msgspec.Raw(b"1")


class Unread(Context, frozen=True, kw_only=True):
    """A context with it."""

    sealed: tuple[Sealed, ...] = ()


def chain(links: int) -> Chain:
    """A chain of so many links below its first one, and nothing below the last."""
    made = Chain()
    for _ in range(links):
        made = Chain(made)
    return made


def below(frames: int, call: Callable[[], object]) -> object:
    """Call something from so many frames deep."""
    return below(frames - 1, call) if frames else call()


@pytest.mark.parametrize("levels", [LEVELS, LEVELS + 1, 300, 600, 900, 2000])
@pytest.mark.parametrize("frames", [0, 300, 700])
def test_nothing_is_nested_deeper_than_the_limit(levels: int, frames: int) -> None:
    """Whoever stores it; where few frames are left, less than that is refused, and nothing else raised."""
    for context in (Order(anything=nested(levels)), Chained(chain=chain(levels - 1))):
        encode = partial(machine(type(context)).encode_context, context)
        if levels <= LEVELS and frames <= 300:
            assert below(frames, encode)
        else:
            with pytest.raises(NotStorable, match=r"nested too deeply"):
                below(frames, encode)
    name = "Order.anything"
    if LEVELS < levels < 900 and not frames:
        with pytest.raises(NotStorable) as refused:
            machine().encode_context(Order(anything=nested(levels)))
        assert refused.value.field == name


def test_what_nobody_has_read_is_not_stored() -> None:
    """A table with such a field is refused; where it is deeper inside, its first context is."""
    with pytest.raises(MachineInvalid, match=r"the context Bare: text: msgspec\.Raw is stored without being read"):
        machine(Bare)
    with pytest.raises(NotStorable, match=r"^Unread\.sealed: msgspec\.Raw is stored without being read"):
        machine(Unread).encode_context(Unread())


def test_a_field_is_called_as_in_the_class() -> None:
    """JSON may call it otherwise; who reads the message looks for it in the code."""
    with pytest.raises(NotStorable, match=r"^Renamed\.unit_price: nan would be read back as null"):
        machine(Renamed).encode_context(Renamed(unit_price=math.nan))


def test_only_the_context_class_itself_is_stored() -> None:
    """A subclass would lose its fields, and another class would come back hollow."""

    class GiftOrder(Order, frozen=True, kw_only=True):
        card: str = ""

    for stranger in (GiftOrder(), Renamed(), Context()):
        with pytest.raises(NotStorable, match=f"^{type(stranger).__name__}: only the class Order itself") as refused:
            machine().encode_context(stranger)
        assert refused.value.recovery_hint == "Give an instance of Order: `Order(...)`."
    given: Any = Order
    with pytest.raises(NotStorable, match=r"^Order: the class itself was given, not an instance of Order"):
        machine().encode_context(given)


def test_only_the_events_of_the_table_are_stored() -> None:
    """Also a class of an event's name is another class."""

    def impostor() -> Event:
        class Priced(Event, frozen=True):
            amount: float | None

        return Priced(1.0)

    table = machine()
    assert table.encode_event(Priced(2)) == ('{"event":"Priced","amount":2}', Priced(2.0))
    for event, why in (
        (Unknown(), "Unknown: it is no event of machine order"),
        (impostor(), "Priced: it is no event of machine order"),
    ):
        with pytest.raises(NotStorable, match=why):
            table.encode_event(event)
    with pytest.raises(NotStorable, match=r"^Priced\.amount: nan would be read back as null"):
        table.encode_event(Priced(math.nan))


# --- contexts that change in place ------------------------------------------------------------------------------------


class Plain(Context, frozen=True, kw_only=True):
    """Nothing in it can be changed."""

    items: tuple[Item, ...] = ()
    tags: frozenset[str] = frozenset()
    size: Size | None = None
    due: datetime | None = None


class Thawed(msgspec.Struct):
    """A struct that can be changed."""

    number: int = 0


@pytest.mark.parametrize(
    "kind",
    [list[int], dict[str, int], set[int], bytearray, Any, object, Thawed, tuple[Thawed, ...], list[int] | None, Loose],
)
def test_a_context_that_can_be_changed_in_place_is_known(kind: Any) -> None:
    """Anywhere inside: the engine has to look at such a context at every step."""
    made = msgspec.defstruct("Made", [("field", kind)], bases=(Context,), frozen=True, kw_only=True)
    assert is_mutable(made)
    assert not machine(Plain).mutable_context
    assert machine().mutable_context


# --- timeouts of a context --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [0.001, 1, 60.0, 100 * 365 * 24 * 3600])
def test_a_positive_number_of_seconds_is_a_timeout(patience: float) -> None:
    """From a moment to a hundred years."""
    table = machine()
    table.check_timeouts(Order(patience=patience))
    assert table.timeout_of("open", Order(patience=patience)) == patience


@pytest.mark.parametrize("patience", [0, -1, math.inf, math.nan, 1e12, True, None, "60", Decimal("sNaN")])
def test_another_value_is_no_timeout(patience: Any) -> None:
    """It is refused with the name of its field, before a state is entered with it."""
    with pytest.raises(NotStorable, match=r"^Order\.patience: ") as refused:
        machine().check_timeouts(Order(patience=patience))
    assert refused.value.field == "Order.patience"


def test_none_is_no_limit_where_the_field_may_be_none() -> None:
    """`grace` may be, `patience` may not."""
    table = machine()
    table.check_timeouts(Order(grace=None))
    assert table.timeout_of("priced", Order(grace=None)) is None
    with pytest.raises(NotStorable, match=r"^Order\.grace: "):
        table.check_timeouts(Order(grace=-5))
