"""A machine with what is done in each of its states.

An activity is an async function of the visit; it returns an event, or None when it had only something to do. Or it is
an async generator that yields several. What it may do is in `visit.py`. One that is tried again when it fails is listed
with `activity(function, retry=Retry(...))` (`retries.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

import trio

from .errors import MachineInvalid
from .given import check_is, kind_of
from .limits import Limit
from .machine.functions import name_of, plain_function, takes
from .machine.machine import Machine
from .machine.parts import Context, Event
from .retries import RetriedActivity

C = TypeVar("C", bound=Context)

Activity: TypeAlias = Callable[[Any], Awaitable[Event | None] | AsyncGenerator[Event, None]]
"""What is done in a state, given a `Visit`: a coroutine function, or an async generator function."""


async def await_signal(_visit: object) -> None:
    """The activity of a state that only waits for an event to be sent to it."""
    await trio.sleep_forever()


class Program(Generic[C]):
    """A machine and the activities that run in each of its states.

    Args:
        machine: The table.
        activities: For every state that is not final, what runs while the flow is in it.
        limit: How many of its flows may run at once, and how fast they begin; the others are queued. Programs that are
            given the same one share it.

    Raises:
        MachineInvalid: A state has no activities, or activities are given for an unknown or final state; or what is
            given is no list of coroutine functions or async generator functions of one parameter.
        TypeError: The machine is no `Machine`.
    """

    def __init__(
        self, machine: Machine[C], activities: Mapping[str, Sequence[Activity]], *, limit: Limit | None = None
    ) -> None:
        check_is(machine, Machine, "Program")
        if not isinstance(activities, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MachineInvalid(
                f"machine {machine.name}: activities are a mapping of states to lists, not {kind_of(activities)}",
                hint="Write {STATE: [ACTIVITY, ...]}.",
            )
        wanted = {name for name, state in machine.states.items() if not state.final}
        for name, listed in activities.items():
            if name in wanted:
                _check_activities(f"machine {machine.name}: the state {name}", name, listed)
        if missing := sorted(name for name in wanted if not activities.get(name)):
            raise MachineInvalid(
                f"machine {machine.name}: nothing is done in {', '.join(missing)}",
                hint="Give each an activity; `await_signal` for one that only waits to be sent an event.",
            )
        if extra := sorted(set(activities) - wanted):
            raise MachineInvalid(f"machine {machine.name}: activities for {', '.join(extra)}, which can do nothing")
        if not isinstance(limit, (Limit, type(None))):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MachineInvalid(f"machine {machine.name}: {limit!r} is no limit", hint="Write Limit(concurrent=10).")
        self.machine = machine
        self.limit = limit
        self.activities = {name: tuple(listed) for name, listed in activities.items()}
        self.retrying = frozenset(name for name, listed in self.activities.items() if any(map(_is_retried, listed)))
        """The states that have an activity that is tried again when it fails."""
        self.waiting = frozenset(name for name, listed in self.activities.items() if set(listed) == {await_signal})
        """The states in which nothing is done but to wait."""


def listed_programs(programs: Iterable[Program[Any]]) -> list[Program[Any]]:
    """The programs an engine is given. Raises `TypeError` when it is something else."""
    if not isinstance(programs, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"an engine takes a list of programs, not {kind_of(programs)}")
    listed = list(programs)
    for each in listed:
        check_is(each, Program, "an engine's list of programs")
    return listed


def by_name(programs: Iterable[Program[Any]]) -> dict[str, Program[Any]]:
    """Programs by the names of their machines, today's and former ones.

    Raises:
        MachineInvalid: Two programs have machines of one name, or one's former name is another's.
        TypeError: They are no programs.
    """
    listed = listed_programs(programs)
    named: dict[str, Program[Any]] = {}
    for program in listed:
        name = program.machine.name
        if named.setdefault(name, program) is not program:
            raise MachineInvalid(
                f"machine {name}: two programs have a machine of this name",
                hint="Give one of the machines another name, and with formerly=(...) the flows of the old one.",
            )
    for program in listed:
        for name in program.machine.names[1:]:
            if (other := named.setdefault(name, program)) is not program:
                raise MachineInvalid(
                    f"machine {program.machine.name}: its former name {name!r} is one of machine {other.machine.name}",
                    hint="Flows that are stored under a name can continue in one machine only.",
                )
    return named


def _check_activities(where: str, state: str, listed: object) -> None:
    if isinstance(listed, str):
        raise MachineInvalid(
            f"{where} is given the string {listed!r}, not a list of activities",
            hint=f'Write the function itself in a list: {{"{state}": [{listed}]}}.',
        )
    if not isinstance(listed, (list, tuple)):
        name = name_of(listed) if callable(listed) else kind_of(listed)
        raise MachineInvalid(
            f"{where} is given {name}, not a list of activities",
            hint=f'Put it in a list: {{"{state}": [{name}]}}.' if callable(listed) else "Write a list of activities.",
        )
    names: set[str] = set()
    for activity in cast("Sequence[object]", listed):
        _check_activity(where, activity)
        if isinstance(activity, RetriedActivity):
            if activity.__name__ in names:
                raise MachineInvalid(
                    f"{where} has two retried activities with the name {activity.__name__}",
                    hint="Their failures are counted by name: give one another with activity(..., name=...).",
                )
            names.add(activity.__name__)


def _is_retried(activity: object) -> bool:
    return isinstance(activity, RetriedActivity)


def _check_activity(where: str, activity: object) -> None:
    if isinstance(activity, RetriedActivity):
        activity = activity.function
    if isinstance(activity, str) or not callable(activity):
        raise MachineInvalid(
            f"{where} has {activity!r} among its activities, which is no function",
            hint="Write the coroutine function itself, without quotes and without calling it.",
        )
    name = name_of(activity)
    if not _is_activity(activity):
        raise MachineInvalid(
            f"{where} has the activity {name}, which is no coroutine function and no async generator function",
            hint=f"Write it as `async def {name if name.isidentifier() else 'activity'}(visit)`.",
        )
    if not takes(activity, 1):
        raise MachineInvalid(
            f"{where} has the activity {name}, which cannot be called with the visit alone",
            hint="An activity takes one parameter, the visit; bind others with functools.partial.",
        )


def _is_activity(function: Callable[..., object]) -> bool:
    """Whether a call makes a coroutine or an async generator; what `functools.wraps` keeps is looked at, too."""
    plain = plain_function(function)
    while True:
        if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
            return True
        behind = getattr(plain, "__wrapped__", None)
        if behind is None:
            return False
        plain = plain_function(cast("Callable[..., object]", behind))
