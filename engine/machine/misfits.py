"""Which field of a value cannot be stored, and why: the words of `NotStorable`.

Used only once a value is refused, so nothing here has to be fast; it must never fail, whatever the value is. A value is
described by its type, except where only the value says it (`nan`): a message must not tell what a flow knows.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, Final, cast

import msgspec

_ENCODER: Final = msgspec.json.Encoder()
_DEEPEST: Final = 40
"""Levels that are looked into; a path with more says nothing to anybody."""
_WHERE: Final = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`$")
_PART: Final = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<at>\d+|\.\.\.)\]")


def unencodable(value: object, exc: Exception) -> tuple[str, str]:
    """The field that cannot be written, and why; `exc` is what writing the whole value raised."""
    path, above = type(value).__name__, [value]
    for _ in range(_DEEPEST):
        for step, member in _members(above[-1]):
            trouble = _trouble(member)
            if trouble is not None:
                path, exc = path + step, trouble
                if any(member is each for each in above):
                    return path, "it contains itself"
                above.append(member)
                break
        else:
            break
    match exc:
        case UnicodeEncodeError():
            return path, "a lone surrogate, which UTF-8 cannot hold"
        case RecursionError():
            return path, "it is nested too deeply, or contains itself"
        case _:
            return path, f"{_said(above[-1])} cannot be written as JSON: {_text(exc)}"


def undecodable(value: object, exc: Exception) -> tuple[str, str]:
    """The field whose JSON is refused, and why; `exc` is what reading the whole value back raised."""
    text = _text(exc)
    found = _WHERE.search(text)
    if isinstance(exc, RecursionError):
        return type(value).__name__, "it is nested too deeply to be read back"
    if found is None:
        return type(value).__name__, f"it could not be read back: {text}"
    path, culprit, known = type(value).__name__, value, True
    for part in _PART.finditer(found["path"]):
        step = part[0]
        if known:
            step, culprit, known = _inside(culprit, part)
        path += step
    why = f"it could not be read back: {text[: found.start()]}"
    if known and isinstance(culprit, float) and not math.isfinite(culprit):
        why = f"{culprit} would be read back as null"
    return path, why


def nested(value: object, levels: int) -> tuple[str, str]:
    """The field that is nested deeper than so many levels, or else the whole value."""
    path = type(value).__name__
    deep = next((step for step, member in _members(value) if _is_deeper(member, levels)), "")
    return path + deep, f"it is nested too deeply; {levels} levels are the most"


def _is_deeper(value: object, levels: int) -> bool:
    inside = {id(value): value}
    for _ in range(levels + 1):
        inside = {id(member): member for each in inside.values() for _, member in _members(each)}
    return bool(inside)


def difference(value: object, back: object) -> tuple[str, str]:
    """The first field that is not read back as it is, and what it becomes."""
    path = type(value).__name__
    for _ in range(_DEEPEST):
        if type(value) is not type(back):
            break
        members, others = dict(_members(value)), dict(_members(back))
        lost = next((step for step in members if step not in others), None)
        if lost is not None:
            return path + lost, "it would not be read back under this key or index"
        # An unequal one before one that is equal and of another type: only the first is always a reason to refuse.
        pairs = [(step, member, others[step]) for step, member in members.items()]
        changed = next((each for each in pairs if not _equal(*each[1:])), None)
        changed = changed or next((each for each in pairs if not _alike(*each[1:])), None)
        if changed is None:
            break
        step, value, back = changed
        path += step
    before, after = _said(value), _said(back)
    return path, f"{before} would be read back as {after if after != before else 'another value'}"


def largest(value: object, size: int, most: int) -> tuple[str, str]:
    """The largest field of a value that takes `size` bytes as JSON where `most` are stored, and how large that is."""
    name = type(value).__name__
    sizes = {step: len(_ENCODER.encode(member)) for step, member in _members(value)}
    step = max(sizes, key=lambda step: sizes[step], default="")
    inside = f" {sizes[step]:,} of the" if step else ""
    return name + step, f"{inside} {size:,} bytes that {name} takes as JSON, and at most {most:,} are stored".lstrip()


def fields_of(value: object) -> Sequence[str] | None:
    """The names of what a value of a class with declared fields holds; None for any other value."""
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in dataclasses.fields(value)]
    attributes = getattr(type(value), "__attrs_attrs__", None)  # of a class made with attrs
    return None if attributes is None else [each.name for each in attributes]


def _members(value: object) -> Iterator[tuple[str, Any]]:
    """What is directly inside a value, each with its step in the path."""
    match value:
        case dict():
            for key, member in cast("dict[Any, Any]", value).items():
                yield f"[{_key(key)}]", member
        case list() | tuple():
            for at, member in enumerate(cast("Sequence[Any]", value)):
                yield f"[{at}]", member
        case _:
            for name in fields_of(value) or ():
                yield f".{name}", getattr(value, name, None)


def _inside(value: object, part: re.Match[str]) -> tuple[str, object, bool]:
    """One step of a path as msgspec writes it: as it is called here, and what is there if that can be known."""
    if part["name"] is not None:
        names = value.__struct_encode_fields__ if isinstance(value, msgspec.Struct) else fields_of(value) or ()
        for name, written in zip(fields_of(value) or (), names, strict=False):
            if written == part["name"]:
                return f".{name}", getattr(value, name, None), True
        if isinstance(value, dict) and part["name"] in value:
            return f"[{_key(part['name'])}]", cast("dict[str, object]", value)[part["name"]], True
    elif part["at"] != "..." and isinstance(value, (list, tuple)):
        listed = cast("Sequence[object]", value)
        if int(part["at"]) < len(listed):
            return part[0], listed[int(part["at"])], True
    return part[0], None, False


def _trouble(value: object) -> Exception | None:
    try:
        _ENCODER.encode(value)
    except Exception as exc:  # noqa: BLE001 msgspec raises what it likes
        return exc
    return None


def _container(value: object) -> type | None:
    return next((kind for kind in (dict, list, tuple) if isinstance(value, kind)), None)


def _equal(value: object, back: object) -> bool:
    """Whether two values are equal as far as what is in them: a class may compare otherwise, or not at all."""
    try:
        return _equal_inside(value, back)
    except RecursionError:
        return False


def _equal_inside(value: object, back: object) -> bool:
    if type(value) is type(back) and (fields := fields_of(value)) is not None:
        return all(_equal_inside(getattr(value, name, None), getattr(back, name, None)) for name in fields)
    if (kind := _container(value)) is not None and kind is _container(back):
        members, others = dict(_members(value)), dict(_members(back))
        return members.keys() == others.keys() and all(
            _equal_inside(each, others[step]) for step, each in members.items()
        )
    try:
        return bool(value == back)
    except Exception:  # noqa: BLE001 what cannot be compared is not equal
        return False


def _alike(value: object, back: object) -> bool:
    """Whether two equal values are of the same types, too."""
    if type(value) is not type(back):
        return type(value) is int and type(back) is float
    try:
        pairs = zip(_members(value), _members(back), strict=True)
        return all(_alike(member, other) for (_, member), (_, other) in pairs)
    except (ValueError, RecursionError):
        return False


def _said(value: object) -> str:
    """A value, without telling what it is unless that is the point."""
    match value:
        case None:
            return "null"
        case float() if not math.isfinite(value):
            return str(value)
        case Enum():
            return f"a member of {type(value).__name__}"
        case _:
            name = type(value).__name__
            return f"{'an' if name[:1].lower() in 'aeio' else 'a'} {name}"


def _key(key: object) -> str:
    if isinstance(key, Enum):
        return f"{type(key).__name__}.{key.name}"
    text = ascii(key) if isinstance(key, (str, int, float)) else type(key).__name__
    return text if len(text) <= _DEEPEST else text[:_DEEPEST] + "..."


def _text(exc: Exception) -> str:
    try:
        return str(exc) or type(exc).__name__
    except Exception:  # noqa: BLE001 an exception of somebody's class
        return type(exc).__name__
