"""What is written can be read: a value becomes JSON only if that JSON decodes to the same value.

JSON has no NaN, msgspec checks no type while it encodes, and what is typed as `Any` comes back as what JSON calls it.
So a `Codec` decodes what it has just encoded and compares. Whatever does not come back equal is refused with
`NotStorable`, which names the field, before anything is written.

Where every field has an exact type, `==` decides: a value of another type is refused by the decoder, or is unequal.
Where a type leaves something open (`Any`, `object`, a type with an equality of its own), the types of the values are
compared too. Which of the two is needed is decided once, when the codec is made.

What is nested deeper than `LEVELS` is refused: how deep Python can compare or copy it depends on who calls. And so is
`msgspec.Raw`, whose JSON nobody has read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

import msgspec
import msgspec.inspect as info

from ..errors import NotStorable
from ..sizes import ELSEWHERE, STORED_BYTES
from .misfits import difference, fields_of, largest, nested, undecodable, unencodable

S = TypeVar("S", bound=msgspec.Struct)

LEVELS: Final = 200
"""The deepest nesting of what is stored."""
_ENCODER: Final = msgspec.json.Encoder()
_IMMUTABLE: Final = (
    info.NoneType,
    info.BoolType,
    info.IntType,
    info.FloatType,
    info.StrType,
    info.BytesType,
    info.DateTimeType,
    info.DateType,
    info.TimeType,
    info.TimeDeltaType,
    info.UUIDType,
    info.DecimalType,
    info.EnumType,
    info.LiteralType,
)
"""Types of values that cannot be changed in place, and that JSON gives back with `==` or not at all."""


class Codec(Generic[S]):
    """Values of one struct class as JSON.

    Args:
        cls: The class; nothing else is written, not even a subclass.
        decoder: What reads the JSON when it is needed again.
    """

    __slots__ = ("_cls", "_decode", "_exact", "_open", "_raw")

    def __init__(self, cls: type[S], decoder: msgspec.json.Decoder[Any]) -> None:
        self._cls = cls
        self._decode = decoder.decode
        known = cast("info.StructType", info.type_info(cls))
        self._exact = _compares(known)
        """Whether two values are equal, as far as their exactly typed fields go, when `==` says so."""
        self._open = tuple(field.name for field in known.fields if not _is_exact(field.type))
        self._raw = raw_field(known)

    def encode(self, value: S) -> tuple[str, S]:
        """The value as JSON, and as it is read back from there.

        Raises:
            NotStorable: It cannot be written, is not read back as it is, or is larger than `STORED_BYTES`; the message
                names the field.
        """
        if type(value) is not self._cls:
            name, wanted = type(value).__name__, self._cls.__name__
            hint = f"Give an instance of {wanted}: `{wanted}(...)`."
            if isinstance(value, type):
                name = value.__name__
                raise NotStorable(
                    f"{name}: the class itself was given, not an instance of {wanted}", field=name, hint=hint
                )
            raise NotStorable(
                f"{name}: only the class {wanted} itself is stored here, and this is another", field=name, hint=hint
            )
        if self._raw is not None:
            _refuse((f"{self._cls.__name__}.{self._raw}", RAW_RULE))
        try:
            text = _ENCODER.encode(value)
        except Exception as exc:  # noqa: BLE001 msgspec raises what it likes
            _refuse(unencodable(value, exc), exc)
        if len(text) > STORED_BYTES:
            _refuse(largest(value, len(text), STORED_BYTES), hint=ELSEWHERE)
        try:
            back = self._decode(text)
        except Exception as exc:  # noqa: BLE001 also what `__post_init__` of a struct raises
            _refuse(undecodable(value, exc), exc)
        try:
            equal = self._are_same(value, back) if self._open or not self._exact else back == value
        except RecursionError as exc:
            _refuse(nested(value, LEVELS), exc)
        except Exception as exc:  # noqa: BLE001 also what `__eq__` of a value raises: a signaling NaN does
            _refuse(difference(value, back), exc)
        if not equal:
            _refuse(difference(value, back))
        return text.decode(), back

    def _are_same(self, value: S, back: S) -> bool:
        return all(
            same(getattr(value, name), getattr(back, name))
            if name in self._open
            else getattr(value, name) == getattr(back, name)
            for name in value.__struct_fields__
        )


def _refuse(found: tuple[str, str], cause: Exception | None = None, *, hint: str | None = None) -> NoReturn:
    field, what = found
    raise NotStorable(f"{field}: {what}", field=field, hint=hint) from cause


RAW_RULE: Final = "msgspec.Raw is stored without being read, so what would be read back is not known"


def raw_field(known: info.StructType) -> str | None:
    """The first field that is, or has inside it, JSON that msgspec does not read."""
    raw = (field.name for field in known.fields if any(isinstance(each, info.RawType) for each in _inside(field.type)))
    return next(raw, None)


def is_mutable(types: Any) -> bool:
    """Whether a value of this type can be changed in place, or holds a value that can."""
    return any(_changes(each) for each in _inside(info.type_info(types)))


def _changes(known: info.Type) -> bool:
    match known:
        case info.StructType(cls=cls):
            return not cls.__struct_config__.frozen
        case info.DataclassType(cls=cls):
            return not (dataclasses.is_dataclass(cls) and cast("Any", cls).__dataclass_params__.frozen)
        case info.VarTupleType() | info.TupleType() | info.NamedTupleType() | info.FrozenSetType() | info.UnionType():
            return False
        case _:
            return not isinstance(known, _IMMUTABLE)


def _is_exact(known: info.Type) -> bool:
    """Whether `==` is enough to see that a value of this type came back as it was."""
    return all(_compares(each) for each in _inside(known)) and not _is_recursive(known)


def _is_recursive(known: info.Type) -> bool:
    """Whether values of this type may be nested as deep as anybody likes."""
    return any(each is inside for each in _inside(known) for part in _parts(each) for inside in _inside(part))


def _compares(known: info.Type) -> bool:
    match known:
        case info.StructType(cls=cls):
            return cls.__struct_config__.eq and cls.__eq__ is msgspec.Struct.__eq__
        case (
            info.UnionType()
            | info.ListType()
            | info.TupleType()
            | info.VarTupleType()
            | info.NamedTupleType()
            | info.SetType()
            | info.FrozenSetType()
            | info.DictType()
            | info.TypedDictType()
            | info.ByteArrayType()
        ):
            return True
        case _:
            return isinstance(known, _IMMUTABLE)


def _inside(known: info.Type) -> Iterator[info.Type]:
    """A type and every type inside it, each once."""
    seen: set[int] = set()
    waiting = [known]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting.extend(_parts(each))


def _parts(known: info.Type) -> list[info.Type]:
    match known:
        case info.UnionType(types=types):
            return list(types)
        case info.TupleType(item_types=types):
            return list(types)
        case (
            info.ListType(item_type=item)
            | info.VarTupleType(item_type=item)
            | info.SetType(item_type=item)
            | info.FrozenSetType(item_type=item)
        ):
            return [item]
        case info.DictType(key_type=key, value_type=value):
            return [key, value]
        case (
            info.StructType(fields=fields)
            | info.DataclassType(fields=fields)
            | info.TypedDictType(fields=fields)
            | info.NamedTupleType(fields=fields)
        ):
            return [field.type for field in fields]
        case info.Metadata(type=inner):
            return [inner]
        case _:
            return []


def same(value: Any, back: Any, levels: int = LEVELS) -> bool:
    """Whether two values are equal and of the same types, all the way down; an integer may stand for a float.

    Raises:
        RecursionError: They are nested deeper than this many levels.
    """
    if levels < 0:
        raise RecursionError
    if type(value) is not type(back):
        return type(value) is int and type(back) is float and value == back
    match value:
        case list() | tuple():
            left, right = cast("list[Any]", value), cast("list[Any]", back)
            return len(left) == len(right) and all(map(same, left, right, repeat(levels - 1)))
        case dict():
            members, others = cast("dict[Any, Any]", value), cast("dict[Any, Any]", back)
            return _typed(members) == _typed(others) and all(
                same(members[key], others[key], levels - 1) for key in members
            )
        case set() | frozenset():
            return _typed(cast("set[Any]", value)) == _typed(cast("set[Any]", back))
        case _:
            fields = fields_of(value)
            if fields is None:
                return bool(value == back)
            return all(same(getattr(value, name), getattr(back, name), levels - 1) for name in fields)


def _typed(values: Iterable[Any]) -> set[tuple[type, Any]]:
    # 1, 1.0 and an enumeration's 1 are one key, and not the same.
    return {(type(each), each) for each in values}
