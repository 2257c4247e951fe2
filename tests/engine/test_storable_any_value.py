"""Whatever is in a context: what is accepted is read back as it was, and what is refused is named."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast, get_args, get_origin

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.engine.errors import NotStorable
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    Context,
)
from systemprompt_cloud.engine.machine.storable import Codec

from tests.support.orders import Colour, GiftItem, Item, Loose, Order, Size, inside, kinds_of, machine, plainly_equal

ORDER = machine()


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
