"""Reading stored JSON: whatever is wrong with it is one kind of error.

Bytes that were damaged on the disk can be no UTF-8, nested beyond every limit, or make a class's own checks raise. A
flow must be shown, exported and ended all the same, so callers have to handle one error and not whatever was raised.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from ...base.misfit import misfit_of_json

T = TypeVar("T")

_PLAIN: Final = msgspec.json.Decoder()


def decoded(decoder: msgspec.json.Decoder[T], body: bytes | str) -> T:
    """What the decoder makes of it. Raises `msgspec.DecodeError` in words of ours, and nothing else."""
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as exc:
        data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
        raise msgspec.DecodeError(misfit_of_json(data, decoder.type, exc)) from exc
    except UnicodeError as exc:
        raise msgspec.DecodeError("it is not UTF-8") from exc
    except Exception as exc:  # nested too deeply, or raised by a class's own `__post_init__`
        raise msgspec.DecodeError(f"{type(exc).__name__}: {exc}") from exc


def plain(body: bytes | str) -> Any:
    """The JSON as plain data. Raises `msgspec.DecodeError`, and nothing else."""
    return decoded(_PLAIN, body)


def readable(text: str) -> str:
    """A text that can be written and shown, of one that was read from damaged bytes: what was no UTF-8 is marked."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
