"""Fields we do not know, in files that other versions write too: kept when a record is read, to be written back.

A file shared with a newer program holds fields of that program. Dropping them on the next write would be a loss nobody
notices until they need the field; refusing the file would lock the older program out. So a record of such a file has a
field `unknown_fields`, which is no field of the file: it is all the rest.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec

UNKNOWN: Final = "unknown_fields"
"""The name of the field that holds the rest."""

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment as these files hold it: RFC 3339, with its offset."""

_T = TypeVar("_T", bound=msgspec.Struct)


def read_record(raw: dict[str, Any], kind: type[_T]) -> _T:
    """Build a record from the fields it knows, and hand it the rest to keep.

    Args:
        raw: The decoded object; left as it is.
        kind: A struct with a field `unknown_fields`.

    Raises:
        msgspec.ValidationError: A field is missing or breaks its rule; the message names it.
    """
    rest = dict(raw)
    known = {name: rest.pop(name) for name in kind.__struct_fields__ if name in rest and name != UNKNOWN}
    return msgspec.structs.replace(msgspec.convert(known, kind), unknown_fields=rest)
