"""Texts that can be written anywhere, of anything: names of files that are no text, errors that anybody made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from .redaction import redact


def storable_text(text: str) -> str:
    """The text with what UTF-8 cannot hold (bytes of file names) as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def path_text(path: str | os.PathLike[str]) -> str:
    r"""A path as text that can be stored and shown: bytes that are not UTF-8 as escapes (`/home/J\xf6rg`)."""
    try:
        return os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character that no byte of a file name became
        return storable_text(os.fspath(path))


def storable(value: object) -> object:
    """Plain data, of which every text is storable: names of files that are not UTF-8 as `path_text` writes them."""
    if isinstance(value, str):
        return path_text(value)
    if isinstance(value, Mapping):
        return {path_text(str(name)): storable(each) for name, each in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [storable(each) for each in cast("list[Any]", value)]
    return value


def shown_text(text: str) -> str:
    """The text as it may be logged or kept: redacted, and storable."""
    return redact(storable_text(text))


def text_of(exc: BaseException) -> str:
    """What an error says, as it may be logged or kept; also where making its text raises."""
    try:
        return shown_text(str(exc))
    except Exception:  # noqa: BLE001 the code of whoever made the error
        return "(its text cannot be made)"


def with_cause(what: str, cause: str) -> str:
    """What happened, and why where that is known: `Stream lost, polling (connection reset by peer)`."""
    return f"{what} ({cause})" if what and cause else what or cause
