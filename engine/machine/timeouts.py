"""What a timeout may be: a state's own, or what a field of the context says."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, cast

import msgspec
import msgspec.inspect as info

from .parts import State

LONGEST: Final = 100 * 366 * 24 * 3600
"""A hundred years in seconds: what is longer cannot be added to a date, and is meant to be no timeout."""
TIMEOUT_RULE: Final = "a timeout is a finite, positive number of seconds up to a hundred years"


def is_timeout(seconds: Any) -> bool:
    """Whether a value is a number of seconds that a flow can wait."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float, Decimal)):
        return False
    if isinstance(seconds, Decimal) and not seconds.is_finite():  # comparing one of those raises
        return False
    return 0 < seconds <= LONGEST


def context_timeouts(states: Mapping[str, State], context: type[msgspec.Struct]) -> tuple[tuple[str, bool], ...]:
    """The context's fields that are timeouts, each with whether it may be None, for no limit."""
    wanted = {state.timeout for state in states.values() if isinstance(state.timeout, str)}
    return tuple((name, _may_be_none(known)) for name, known in _types(context).items() if name in wanted)


def _may_be_none(known: info.Type) -> bool:
    if isinstance(known, info.Metadata):
        return _may_be_none(known.type)
    if isinstance(known, info.UnionType):
        return any(map(_may_be_none, known.types))
    return isinstance(known, (info.NoneType, info.AnyType))


def may_be_timeout(context: type[msgspec.Struct], field: str) -> bool:
    """Whether a field of the context can hold a number."""
    return _may_be_number(_types(context)[field])


@lru_cache(maxsize=8)  # the fields of one context are asked for one after the other
def _types(context: type[msgspec.Struct]) -> dict[str, info.Type]:
    return {each.name: each.type for each in cast("info.StructType", info.type_info(context)).fields}


def _may_be_number(known: info.Type) -> bool:
    match known:
        case info.Metadata(type=inner):
            return _may_be_number(inner)
        case info.UnionType(types=types):
            return any(map(_may_be_number, types))
        case info.LiteralType(values=values):
            return any(map(is_timeout, values))
        case info.EnumType(cls=cls):
            return any(is_timeout(each) for each in cls)
        case _:
            return isinstance(known, (info.IntType, info.FloatType, info.DecimalType, info.AnyType, info.CustomType))
