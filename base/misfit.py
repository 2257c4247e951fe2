"""What is wrong with data that does not fit a record, in words of ours: which field, and what it should be.

A validator's own sentence names types of Python and paths in a notation of its own. It is not read here: the data is
tried once more, field by field, until the one is found that does not fit. Used only once data is refused, so nothing
here has to be fast.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

import msgspec

Hook = Callable[[type, Any], Any]

_WORDS: Final[Mapping[object, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    datetime: "a moment, as 2026-01-31T12:00:00Z",
    list: "a list",
    dict: "an object",
    tuple: "a list",
    Path: "a path",
}
_DEEPEST: Final = 40


def misfit(value: object, kind: object, exc: Exception, hook: Hook | None = None) -> str:
    """What is wrong with a value, in words.

    Args:
        value: Decoded JSON.
        kind: What it should be: a type that msgspec knows.
        exc: What msgspec raised.
        hook: The `dec_hook` it was given.
    """
    found = _look(value, kind, hook, _DEEPEST)
    if found is not None:
        path, words = found
        return f"{path} {words}" if path else f"it {words}"
    return str(exc.__cause__) if exc.__cause__ is not None else "a field has a value that is not allowed"


def misfit_of_json(data: bytes, kind: object, exc: Exception) -> str:
    """The same of JSON that may not be any."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return malformed(data)
    return misfit(value, kind, exc)


def malformed(data: bytes) -> str:
    """Where bytes stop being JSON."""
    try:
        json.loads(data)
    except json.JSONDecodeError as exc:
        return f"it is malformed at line {exc.lineno}, column {exc.colno}"
    except UnicodeDecodeError:
        return "it is not UTF-8"
    except RecursionError:
        return "it is nested too deeply"
    return "it is malformed"


def _look(value: object, kind: object, hook: Hook | None, levels: int) -> tuple[str, str] | None:
    """The path of the first part that does not fit, and what it should be; None where each fits by itself."""
    trouble = _trouble(value, kind, hook)
    if trouble is None or not levels:
        return None
    for step, part, wanted in _parts(value, kind):
        if (found := _look(part, wanted, hook, levels - 1)) is not None:
            path, words = found
            return f"{step}{'' if not path or path.startswith('[') else '.'}{path}", words
    plain = _plain(kind)
    if isinstance(plain, type) and issubclass(plain, msgspec.Struct) and isinstance(value, Mapping):
        for field in msgspec.structs.fields(plain):
            if field.required and field.encode_name not in value:
                return field.encode_name, "is missing"
    if trouble.__cause__ is not None and isinstance(plain, type) and issubclass(plain, msgspec.Struct):
        return None  # a rule of the record itself, which says more
    return "", f"is not {_wanted(cast('Any', plain))}"


def _trouble(value: object, kind: object, hook: Hook | None) -> Exception | None:
    try:
        msgspec.convert(value, cast("Any", kind), dec_hook=hook)
    except (msgspec.ValidationError, RecursionError) as exc:
        return exc
    return None


def _plain(kind: object) -> object:
    """A type without its annotations, and without None where that is one of two."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        others = [each for each in get_args(kind) if each is not NoneType and each is not msgspec.UnsetType]
        return _plain(others[0]) if len(others) == 1 else kind
    return kind


def _parts(value: object, kind: object) -> Iterator[tuple[str, object, object]]:
    """What is inside a value, with what each part should be."""
    plain = _plain(kind)
    inside = get_args(plain)
    if isinstance(value, Mapping):
        known = cast("Mapping[Any, object]", value)
        if isinstance(plain, type) and issubclass(plain, msgspec.Struct):
            for field in msgspec.structs.fields(plain):
                if field.encode_name in known:
                    yield field.encode_name, known[field.encode_name], field.type
        elif get_origin(plain) is dict:
            for name, each in known.items():
                yield str(name), each, inside[1]
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and get_origin(plain) is list:
        for at, each in enumerate(cast("Sequence[object]", value)):
            yield f"[{at}]", each, inside[0]


def _wanted(form: Any) -> str:
    if get_origin(form) is Literal:
        return f"one of {', '.join(map(str, get_args(form)))}"
    kind = cast("object", get_origin(form) or form)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(each.value) for each in kind)}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "an object"
    return _WORDS.get(cast("object", kind), "what is allowed there")
