"""What a shared file holds beyond our types: kept when a record is read, to be written back.

A file shared with another program holds what only that program understands: fields of a newer version, and moments to
the nanosecond where ours end at the microsecond. Dropping them on the next write would be a loss nobody notices until
they need it; refusing the file would lock the older program out. So a record of such a file has a field
`unknown_fields`, which is no field of the file: it is all the rest.

A null is the same as nothing. Words of enumerations are plain strings (see `wire.py`), so a new one stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec

from ...base.misfit import misfit

UNKNOWN: Final = "unknown_fields"
"""The name of the field that holds the rest."""


Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment as these files hold it: RFC 3339, with its offset."""

_T = TypeVar("_T", bound=msgspec.Struct)

# RFC 3339 section 5.6, with digits after the microsecond that are not all zero.
_FINE: Final = re.compile(r"(.+\.\d{6})(\d*[1-9]\d*)([Zz]|[+-]\d\d:\d\d)")


def read_record(raw: dict[str, Any], kind: type[_T], *, ours: Collection[str] = ()) -> _T:
    """Build a record from the fields it knows, and hand it the rest to keep.

    Args:
        raw: The decoded object; left as it is.
        kind: A struct with a field `unknown_fields`.
        ours: Names of other fields of the struct that are no fields of the file either; they are left at their default.

    Raises:
        msgspec.ValidationError: A field is missing or breaks its rule; the message names it.
    """
    fields = frozenset(kind.__struct_fields__) - {UNKNOWN, *ours}
    known = {name: value for name, value in raw.items() if name in fields and value is not None}
    rest = {name: value for name, value in raw.items() if name not in fields}
    try:
        record = msgspec.convert(known, kind, dec_hook=_read_path)
    except msgspec.ValidationError as exc:
        raise msgspec.ValidationError(misfit(known, kind, exc, _read_path)) from exc
    for name, value in known.items():
        moment = getattr(record, name)
        if not isinstance(moment, datetime):
            continue
        try:
            moment.astimezone(UTC)
        except OverflowError as exc:
            raise msgspec.ValidationError(f"{name} is not a moment that UTC has a date for") from exc
        if fine := _FINE.fullmatch(value):
            whole = msgspec.convert(fine[1] + fine[3], datetime).astimezone(UTC).replace(tzinfo=None)
            rest[name] = f"{whole.isoformat(timespec='microseconds')}{fine[2]}Z"
    return msgspec.structs.replace(record, unknown_fields=rest)


def _read_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise ValueError(f"expected a path, got {type(value).__name__}")


def plain_record(record: msgspec.Struct, *, ours: Collection[str] = ()) -> dict[str, Any]:
    """What the file holds of a record: absent optionals left out, moments in UTC, and the rest as it was read.

    Args:
        record: A struct with a field `unknown_fields`, and no records inside it.
        ours: As for `read_record`.
    """
    known = {name: value for name, value in msgspec.structs.asdict(record).items() if name not in ours}
    rest: dict[str, Any] = known.pop(UNKNOWN)
    shown = {name: _plain(value, rest.get(name)) for name, value in known.items() if value is not None}
    return {**rest, **shown}


def _plain(value: Any, fine: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, datetime):
        return value
    # The finer text is kept as long as it says the same moment: somebody may have set another since.
    if isinstance(fine, str) and msgspec.convert(fine, datetime) == value:
        return fine
    return value.astimezone(UTC)
