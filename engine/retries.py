"""Activities that are tried again when they fail: `activity(function, retry=Retry(...))` in a program's list.

A failure that is retried is a record of the flow (`retried`), with its number and the moment of the next attempt. So
the count survives a crash: it continues in the next process, for as long as the visit lasts. It begins anew when the
flow is paused and resumed, because somebody has looked at it then.

To an activity an attempt is what a resume is: an effect that an earlier attempt announced and did not withdraw is
uncertain. The state's deadline runs on; when the state is left, nothing is retried any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from ..base.moments import parse_moment
from .errors import (
    EffectUncertain,
    EventNotAccepted,
    FlowBusy,
    FlowParked,
    JournalError,
    MachineInvalid,
    NotStorable,
    UsedTwice,
)
from .journal.records import Record
from .machine.functions import is_async, name_of, takes
from .machine.stored import decoded

A = TypeVar("A", bound=Callable[..., Any])

On: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Which failures are retried: those of these classes, or those that a function says yes to."""

NEVER: Final = (
    FlowParked,
    EffectUncertain,
    FlowBusy,
    JournalError,
    EventNotAccepted,
    NotStorable,
    UsedTwice,
    MachineInvalid,
)
"""What no retry covers: a person has to decide, the journal cannot be written, or the program has a bug."""

_HUNDRED_YEARS: Final = 100 * 365.25 * 86_400


class Retry:
    """How often an activity is tried again, and when.

    Args:
        times: How many failures are followed by another attempt. The next one pauses the flow.
        backoff: Seconds from the first failure to the second attempt.
        on: Which failures are retried. Never retried is what pauses a flow for a person (`FlowParked`,
            `EffectUncertain`), and what another attempt cannot change: `JournalError`, an event that is refused.
        factor: Each wait is so many times the one before.
        longest: Seconds of the longest wait; a minute when not given, or `backoff` where that is longer.
        jitter: Each wait is up to this share longer or shorter, so that flows that failed together do not all come
            back together. An engine that is opened with `inline=True` leaves it out.

    Raises:
        MachineInvalid: A value is none that this can work with.
    """

    __slots__ = ("_chooses", "backoff", "factor", "jitter", "longest", "times")

    def __init__(
        self,
        times: int,
        backoff: float = 1.0,
        *,
        on: On = Exception,
        factor: float = 2.0,
        longest: float | None = None,
        jitter: float = 0.1,
    ) -> None:
        _check("times", times, type(times) is int and times > 0, "a whole number from 1 on")
        _check("backoff", backoff, _is_number(backoff, 0.0, _HUNDRED_YEARS), "a number of seconds from 0 on")
        _check("factor", factor, _is_number(factor, 1.0, math.inf), "a number from 1 on")
        longest = max(60.0, backoff) if longest is None else longest
        _check("longest", longest, _is_number(longest, 0.0, _HUNDRED_YEARS), "a number of seconds from 0 on")
        _check("jitter", jitter, _is_number(jitter, 0.0, 1.0), "a number from 0 to 1")
        _check("on", on, _is_choice(on), "an exception class, a tuple of them, or a function of the exception")
        self.times, self.backoff = times, backoff
        self._chooses = _chooser(on)
        self.factor, self.longest, self.jitter = factor, longest, jitter

    def covers(self, exc: BaseException) -> bool:
        """Whether this failure is retried, as long as there are attempts left.

        Of a group that holds more than one kind of failure, every one must be.
        """
        if isinstance(exc, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", exc)
            return all(map(self.covers, group.exceptions))
        if not isinstance(exc, Exception) or isinstance(exc, NEVER):
            return False
        return self._chooses(exc)

    def seconds(self, failures: int, chance: float) -> float:
        """How long to wait after so many failures.

        Args:
            failures: How many there have been, this one included.
            chance: From 0 to 1: where in the range of the jitter; 0.5 is its middle.
        """
        try:
            wait = min(self.backoff * self.factor ** (failures - 1), self.longest)
        except OverflowError:
            wait = self.longest
        return wait * (1.0 + self.jitter * (2.0 * chance - 1.0))


class RetriedActivity:
    """An activity with what is done when it fails. Made by `activity`."""

    def __init__(self, function: Callable[..., Any], retry: Retry, name: str) -> None:
        self.function, self.retry = function, retry
        self.__name__ = name

    def __call__(self, visit: Any) -> Any:
        """One attempt."""
        return self.function(visit)


def activity(function: A, *, retry: Retry, name: str | None = None) -> A:
    """An activity that is tried again when it fails; list it where the plain function would be.

    Args:
        function: The activity.
        retry: How often and when.
        name: What it is called in the history, where its failures are counted; the function's name when not given.

    Raises:
        MachineInvalid: `retry` is no `Retry`, or the name is empty.
    """
    if not isinstance(retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MachineInvalid(f"an activity is given {retry!r} as its retry", hint="Write Retry(times=3).")
    if name is not None and not (isinstance(name, str) and name.strip()):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MachineInvalid(f"an activity is given {name!r} as its name, which is no text")
    called = name or (name_of(function) if callable(function) else repr(function))
    return cast("A", RetriedActivity(function, retry, called))


class Failed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of a `retried` record.

    Attributes:
        kind: The kind of error.
        message: What happened, redacted.
        attempt: The number of the attempt that failed, from 1 on.
        times: How many failures are retried.
        seconds: How long the activity waits.
        again: When it is tried again (RFC 3339).
        withdrawn: The keys of announced intents whose effect did not happen.
    """

    kind: str
    message: str
    attempt: int
    times: int
    seconds: float
    again: str
    withdrawn: frozenset[str] = frozenset()


_FAILED: Final = msgspec.json.Decoder(Failed)


def failed_in(body: str) -> Failed | None:
    """The body of a `retried` record; None when it is damaged."""
    try:
        return decoded(_FAILED, body)
    except msgspec.DecodeError:
        return None


class Attempts(NamedTuple):
    """What a visit has behind it of one activity.

    Attributes:
        failures: How many of its failures were retried.
        again: When the next attempt begins; None for at once.
    """

    failures: int = 0
    again: datetime | None = None


def attempts_in(records: Iterable[Record]) -> Mapping[str, Attempts]:
    """The attempts of each activity, by its name, from the records of one visit: since it was last paused."""
    found: dict[str, Attempts] = {}
    for record in records:
        if record.kind == "paused":
            found.clear()
        elif record.kind == "retried":
            failures = found.get(record.name, Attempts()).failures + 1
            found[record.name] = Attempts(failures, _again(failed_in(record.body)))
    return found


def _again(failed: Failed | None) -> datetime | None:
    try:
        return None if failed is None else parse_moment(failed.again)
    except ValueError:
        return None


def _check(name: str, value: object, good: bool, wanted: str) -> None:
    if not good:
        raise MachineInvalid(f"Retry({name}={value!r}): it must be {wanted}", hint="Correct that value.")


def _is_number(value: object, least: float, most: float) -> bool:
    return type(value) in {int, float} and math.isfinite(cast("float", value)) and least <= cast("float", value) <= most


def _chooser(on: On) -> Callable[[Exception], bool]:
    if isinstance(on, (type, tuple)):
        return lambda exc: isinstance(exc, on)
    return lambda exc: bool(on(exc))


def _is_choice(on: object) -> bool:
    if isinstance(on, tuple):
        classes = cast("tuple[object, ...]", on)
        return bool(classes) and all(isinstance(each, type) and issubclass(each, Exception) for each in classes)
    if isinstance(on, type):
        return issubclass(on, Exception)
    return callable(on) and not is_async(on) and takes(on, 1)
