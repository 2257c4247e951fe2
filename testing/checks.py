"""Finds what a table must not do and no type says: change a context in place, answer the same question twice
differently, or make what cannot be stored.

An engine reads every context back before the next step, and may ask a guard again after a restart. So a guard or an
update must depend on nothing but its arguments, and must leave them as they are. What can be seen without calling it
(a coroutine function, a wrong number of parameters) is refused when the table is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from ..base.errors import CloudError
from ..engine.machine.functions import name_of
from ..engine.machine.machine import Machine
from ..engine.machine.parts import Context, Event
from .tables import RowCase, row_cases

TIMES = 3
"""How often each function is called with equal arguments."""


def table_faults(machine: Machine[Any], cases: Iterable[RowCase] | None = None) -> list[str]:
    """Call every guard and update of a table with contexts and events that were read back, several times.

    Args:
        machine: The table.
        cases: The situations; one for each row (`row_cases`) when not given.

    Returns:
        A description of every fault; empty when there is none.

    Raises:
        ValueError: No case was found for a row.
    """
    found: dict[str, None] = {}
    for case in row_cases(machine) if cases is None else cases:
        found.update(dict.fromkeys(_faults(machine, case)))
    return list(found)


def _faults(machine: Machine[Any], case: RowCase) -> Iterator[str]:
    where = f"{case.state}, {case.row.event.__name__}"
    for what, function, read in (
        ("the guard", case.row.guard, _answer),
        ("the update", case.row.update, _updated),
    ):
        if function is not None:
            name = f"{where}: {what} {name_of(function)}"
            yield from (f"{name} {fault}" for fault in _calls(machine, case, function, read))


def _calls(
    machine: Machine[Any],
    case: RowCase,
    function: Callable[[Any, Any], Any],
    read: Callable[[Machine[Any], object], object],
) -> Iterator[str]:
    before = machine.encode_context(case.context)[0], machine.encode_event(case.event)[0]
    answers: list[object] = []
    for _ in range(TIMES):
        # Read back each time: nothing that an earlier call changed, or remembers by identity, is in them.
        context: Context = machine.decode_context(before[0])
        event: Event = machine.decode_event(before[1])
        try:
            answer = function(context, event)
        except Exception as exc:  # noqa: BLE001 it is the user's
            yield f"raises {type(exc).__name__}: {exc}"
            return
        if _text(machine.encode_context, context) != before[0]:
            yield "changes the context in place: return a new one (`msgspec.structs.replace`)"
        if _text(machine.encode_event, event) != before[1]:
            yield "changes the event in place"
        try:
            answers.append(read(machine, answer))
        except CloudError as exc:
            yield f"returns what cannot be stored: {exc.user_message}"
            return
        except TypeError as exc:
            yield str(exc)
            return
    if any(each != answers[0] for each in answers):
        yield (
            "gives another answer to the same arguments: a time, a random number or a counter belongs in an event or "
            "the context"
        )


def _answer(_machine: Machine[Any], answer: object) -> object:
    if not isinstance(answer, bool):
        raise TypeError(f"returns {type(answer).__name__}, not True or False")
    return answer


def _updated(machine: Machine[Any], answer: object) -> object:
    if type(answer) is not machine.context_type:
        raise TypeError(f"returns {type(answer).__name__}, not {machine.context_type.__name__}")
    return machine.encode_context(cast("Context", answer))[0]


def _text(encode: Callable[[Any], tuple[str, Any]], value: object) -> str:
    try:
        return encode(value)[0]
    except CloudError as exc:
        return exc.user_message
