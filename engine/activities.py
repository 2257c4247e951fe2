"""What is done in a state: how an activity may be written, and the one that does nothing but wait.

An activity is an async function of the visit; it returns an event, or None when it had only something to do. Or it is
an async generator that yields several. What it may do is in `visit.py`. One that is tried again when it fails is listed
with `activity(function, retry=Retry(...))` (`retries.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import trio

from .errors import MachineInvalid
from .given import kind_of
from .machine.functions import name_of, plain_function, takes
from .machine.machine import Machine
from .retries import RetriedActivity


async def await_signal(_visit: object) -> None:
    """The activity of a state that only waits for an event to be sent to it."""
    await trio.sleep_forever()


def check_activities(machine: Machine[Any], activities: object) -> None:
    """Check that what a program is given says what is done in each state.

    Raises:
        MachineInvalid: A state has no activities, or activities are given for an unknown or final state; or what is
            given is no list of coroutine functions or async generator functions of one parameter.
    """
    if not isinstance(activities, Mapping):
        raise MachineInvalid(
            f"machine {machine.name}: activities are a mapping of states to lists, not {kind_of(activities)}",
            hint="Write {STATE: [ACTIVITY, ...]}.",
        )
    given = cast("Mapping[str, object]", activities)
    wanted = {name for name, state in machine.states.items() if not state.final}
    for name, listed in given.items():
        if name in wanted:
            _check_listed(f"machine {machine.name}: the state {name}", name, listed)
    if missing := sorted(name for name in wanted if not given.get(name)):
        raise MachineInvalid(
            f"machine {machine.name}: nothing is done in {', '.join(missing)}",
            hint="Give each an activity; `await_signal` for one that only waits to be sent an event.",
        )
    if extra := sorted(set(given) - wanted):
        raise MachineInvalid(f"machine {machine.name}: activities for {', '.join(extra)}, which can do nothing")


def _check_listed(where: str, state: str, listed: object) -> None:
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


def is_retried(activity: object) -> bool:
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
