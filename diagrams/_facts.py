"""What a table says about a state beside its name and its meaning, in words every picture uses."""

from __future__ import annotations

from typing import Any, Final

from ..engine.machine.machine import Machine
from ..engine.machine.parts import ANY, ResumePolicy, Row, State

ANY_STATE: Final = "any state that is not final"

_ON_RESUME: Final = {
    ResumePolicy.RETRY: "it is done again",
    ResumePolicy.RECONCILE: "the server is asked first",
    ResumePolicy.ASK: "you are asked",
}


def facts(state: State) -> list[str]:
    """The child machine, the timeout, the effect and the verdict of a state, one short line each."""
    lines: list[str] = []
    if state.children:
        lines.append(f"runs: {', '.join(state.children)}")
    if state.timeout is not None:
        amount = f"the context's {state.timeout}" if isinstance(state.timeout, str) else f"{state.timeout:g} s"
        late = "anew on resume" if state.late == "restart" else "kept on resume"
        lines.append(f"timeout: {amount}, {late}")
    if state.effect is not None:
        lines.append(f"effect: {state.effect}")
    if state.resume is not None:
        lines.append(f"on resume: {_ON_RESUME[state.resume]}")
    if state.verdict is not None:
        lines.append(f"end: {state.verdict}")
    return lines


def rows_from(machine: Machine[Any], source: str) -> list[Row]:
    """The rows written for exactly this source, `ANY` included, in the order they are tried."""
    return [row for row in machine.rows if row.source == source]


def exceptions_to(machine: Machine[Any], row: Row) -> list[str]:
    """The states in which a row for `ANY` does not hold, because they settle its event themselves."""
    held = {source for source, other in machine.expanded if other is row}
    return [
        name for name, state in machine.states.items() if row.source == ANY and not state.final and name not in held
    ]
