"""Words that several tables use: facts that mean the same in each of them, and what those facts change.

Theory
------
Three situations come up in more than one machine. A *browser* is
invited and comes back later, or not at all. An outward effect was asked for and *the answer was lost*: the flow finds
out, or a person decides whether to ask again. The time is up and the server, asked one last time, is *still working*:
nothing is given up. What such a fact leads to is written in each machine's own rows; nothing is decided here.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeVar

import msgspec

from ...engine.machine.parts import CancelRequested, Context, Event

C = TypeVar("C", bound=Context)

NOT_WANTED: Final = "not_wanted"
"""Why no browser was opened: the command or the program asked for none."""


class BrowserOpened(Event, frozen=True):
    """A browser was started with the URL the person should visit."""


class BrowserNotOpened(Event, frozen=True):
    """No browser was started; the person has the printed URL. `code` is `NOT_WANTED` where nobody wanted one."""

    reason: str
    code: str = ""


class OutcomeUnknown(Event, frozen=True):
    """Something was asked for and the answer was lost; the server may or may not have done it."""

    problem: str


class RepeatConfirmed(Event, frozen=True):
    """The person wants it to be asked for again."""


class RepeatDeclined(Event, frozen=True):
    """The person does not want it to be asked for again."""


class StillWorking(Event, frozen=True):
    """Asked one last time, the server is still working."""

    message: str


class _Problem(Protocol):
    @property
    def problem(self) -> str: ...


def explained(context: C, event: _Problem) -> C:
    """Note why the flow ended other than well."""
    code: str = getattr(event, "code", "")
    return msgspec.structs.replace(context, problem=event.problem, problem_code=code)


def cancelled(context: C, event: CancelRequested) -> C:
    """Note why the flow was cancelled."""
    return msgspec.structs.replace(context, problem=event.reason or "cancelled")


def invited(context: Any, _event: BrowserOpened) -> Any:
    """Note that a browser was opened."""
    return msgspec.structs.replace(context, invited=True)
