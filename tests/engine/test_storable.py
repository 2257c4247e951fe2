"""What a table encodes is read back as it was; everything else is refused with the name of its field."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from functools import partial
from typing import Any, cast, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.engine.errors import MachineInvalid, NotStorable
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.machine.storable import LEVELS, Codec, is_mutable


class Size(IntEnum):
    """Comes back from `Any` as a number."""

    SMALL = 1


class Colour(StrEnum):
    """Comes back from `Any` as a text."""

    RED = "red"


class Item(msgspec.Struct, frozen=True):
    """A line of an order."""

    price: float = 0.0
    note: str = ""


class GiftItem(Item, frozen=True):
    """One that has more than `Item` declares."""

    card: str = ""


class Loose(msgspec.Struct, frozen=True, eq=False):
    """One that `==` says nothing about."""

    amount: float | None = None
    more: Any = None


class Order(Context, frozen=True, kw_only=True):
    """A context with fields of many types."""

    amount: float = 0.0
    limit: float | None = None
    note: str = ""
    count: int = 0
    items: tuple[Item, ...] = ()
    prices: dict[str, float] = msgspec.field(default_factory=dict)
    wide: dict[int, list[float]] = msgspec.field(default_factory=dict)
    loose: Loose = Loose()
    due: datetime | None = None
    exact: Decimal = Decimal(0)
    patience: float = 60.0
    grace: int | None = None
    anything: Any = None


class Renamed(Context, frozen=True, kw_only=True, rename="camel"):
    """A context whose fields are called otherwise in JSON."""

    unit_price: float = 0.0


class Priced(Event, frozen=True):
    """An event with a number."""

    amount: float | None


class Unknown(Event, frozen=True):
    """An event no table here names."""


def machine(context: type[Context] = Order) -> Machine[Any]:
    timed = "patience" in context.__struct_fields__
    return Machine(
        "order",
        version=1,
        initial="open",
        context=context,
        states=[
            State("open", "o", timeout="patience" if timed else None),
            State("priced", "p", timeout="grace" if timed else None),
            State("off", "x", verdict=Verdict.CANCELLED),
        ],
        rows=[on(Priced, "open", "priced"), on(DeadlinePassed, ANY, "off"), on(CancelRequested, ANY, "off")],
    )


ORDER = machine()


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


# --- any value -------------------------------------------------------------------------------------------------------

_JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(max_size=3),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([UTC, None])),
    st.decimals(),
    st.sampled_from([Size.SMALL, Colour.RED, Item(), GiftItem(), Loose(), Loose(more=(1,)), object()]),
)
_VALUES = st.recursive(
    _JUNK,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=2), st.integers(), st.just(Colour.RED)), inner, max_size=3),
    ),
    max_leaves=6,
)
_LEAVES = [int, float, str, bool, None, Any, object, bytes, date, datetime, Decimal, Size, Colour, Item, Loose]
_TYPES = st.recursive(
    st.sampled_from(_LEAVES),
    lambda inner: st.one_of(
        inner.map(lambda item: list[item]),
        inner.map(lambda item: tuple[item, ...]),
        inner.map(lambda item: dict[str, item]),
        inner.map(lambda item: dict[int, item]),
        inner.map(lambda item: item | None if item not in (None, Any, object) else item),
    ),
    max_leaves=3,
)


def fitting(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type, as hypothesis has them, and some that are not of it."""
    return st.one_of(_VALUES, _of_type(kind))


def _of_type(kind: Any) -> st.SearchStrategy[Any]:
    inner = get_args(kind)
    if kind is str:
        return st.text(max_size=3)
    if kind in {Any, object, Loose}:
        return _VALUES
    match get_origin(kind):
        case None:
            return st.none() if kind is None else st.from_type(kind)
        case origin if origin is list:
            return st.lists(_of_type(inner[0]), max_size=3)
        case origin if origin is tuple:
            return st.lists(_of_type(inner[0]), max_size=3).map(tuple)
        case origin if origin is dict:
            return st.dictionaries(_of_type(inner[0]), _of_type(inner[1]), max_size=3)
        case _:
            return st.one_of(*(_of_type(each) for each in inner))


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    """A context of a class made for it, with a value in each field."""
    kinds = draw(st.lists(_TYPES, min_size=1, max_size=3))
    fields = [(f"field_{at}", kind) for at, kind in enumerate(kinds)]
    made = msgspec.defstruct("Made", fields, bases=(Context,), frozen=True, kw_only=True)
    return cast("Context", made(**{name: draw(fitting(kind)) for name, kind in fields}))


def inside(value: Any) -> dict[Any, Any] | None:
    """What is directly in a value, by key, index or name; None when there is nothing in such a value."""
    match value:
        case dict():
            return dict(cast("dict[Any, Any]", value))
        case list() | tuple():
            return dict(enumerate(cast("list[Any]", value)))
        case msgspec.Struct():
            return {name: getattr(value, name) for name in value.__struct_fields__}
        case _:
            return None


def kinds_of(value: Any) -> Any:
    """The types in a value, all the way down."""
    kind = cast("type", value.__class__)
    members = inside(value)
    if members is None:
        return kind
    return kind, {(type(key), key): kinds_of(member) for key, member in members.items()}


def plainly_equal(value: Any, back: Any) -> bool:
    """Equality that also looks into `Loose`, and tells a tuple from a list."""
    members, others = inside(value), inside(back)
    if members is None or others is None:
        return bool(value == back)
    same_type = type(value) is type(back)
    return same_type and members.keys() == others.keys() and all(plainly_equal(members[k], others[k]) for k in members)


def exists(value: Any, path: str) -> bool:
    """Whether the path of a message leads to something in the value."""
    for name, key in re.findall(r"""\.(\w+)|\[((?:[^]['"]|'[^']*'|"[^"]*")*)\]""", path):
        members = inside(value) or {}
        if key.endswith("..."):  # a key that JSON does not tell, or a long one
            return bool(members)
        wanted = name or key
        found = [each for each in members if wanted in _ways_to_write(each)]
        if not found:
            return False
        value = members[found[0]]
    return True


def _ways_to_write(key: Any) -> set[str]:
    kind = type(key).__name__
    return {str(key), ascii(key), kind, f"{kind}.{getattr(key, 'name', '')}"}


def encoded(table: Codec[Any] | Machine[Any], context: Context) -> tuple[str, Any] | str:
    """What the table makes of it: the JSON and the value, or the field that was refused."""
    try:
        return table.encode(context) if isinstance(table, Codec) else table.encode_context(context)
    except NotStorable as refused:
        return refused.field


@given(contexts())
def test_what_is_accepted_is_read_back_and_what_is_refused_is_named(context: Context) -> None:
    """Whatever the types and the values: equal and of the same types, or refused with a field that is there."""
    table = Codec(type(context), msgspec.json.Decoder(type(context)))
    got = encoded(table, context)
    if isinstance(got, str):
        assert got.startswith("Made")
        assert exists(context, got.removeprefix("Made"))
        return
    text, back = got
    assert plainly_equal(context, back)
    again = msgspec.json.decode(text, type=type(context))
    assert plainly_equal(again, back)
    assert kinds_of(again) == kinds_of(back)
    assert plainly_equal(table.encode(back)[1], again)


@given(_VALUES)
def test_nothing_in_a_field_of_any_type_changes_its_type(value: object) -> None:
    """In `Any` nothing restores a type; a value that would lose one is refused."""
    context = Order(anything=value)
    got = encoded(ORDER, context)
    if isinstance(got, str):
        assert got.startswith("Order.anything")
    else:
        assert kinds_of(got[1].anything) == kinds_of(value)
        assert plainly_equal(got[1].anything, value)


@given(st.builds(Order, amount=st.floats(allow_nan=False, allow_infinity=False), note=st.text(), count=st.integers()))
def test_what_fits_is_never_refused(context: Order) -> None:
    """Every finite number and every text of a context comes back."""
    assert machine().encode_context(context)[1].amount == context.amount


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
