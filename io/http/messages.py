"""The base of all that travels to and from the API, and the one body every API call may answer with: an error."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from typing_extensions import override


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every message, and of what one is made of: immutable, built by keyword, unknown fields ignored."""

    hidden: ClassVar[frozenset[str]] = frozenset()
    """Names of the fields whose values stay out of `repr`."""

    @override
    def __repr__(self) -> str:
        shown = (
            f"{name}={'<hidden>' if name in self.hidden and getattr(self, name) else repr(getattr(self, name))}"
            for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class ErrorDetail(Message, frozen=True, kw_only=True):
    """What the API says went wrong: a code for programs and a sentence for people."""

    code: str
    message: str


class ErrorBody(Message, frozen=True, kw_only=True):
    """The body of every answer that is not 2xx, when the API itself made it."""

    error: ErrorDetail
