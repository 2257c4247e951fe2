"""How a flow is gone on with: by the command line, or by the program whose machine it is.

The command line can look at any flow, and end it; it goes on with those of the machines of this package only. A hint
that sends somebody there for a flow of another machine would send them to a command that refuses it.
"""

from __future__ import annotations

from typing import Final

from ...base.errors import CLI
from ...engine.errors import EffectUncertain, EngineClosed, UnexpectedFailure
from ...engine.journal.records import FlowRow
from ...machines.every import MACHINES

_COMMANDS: Final = {
    EngineClosed.default_hint: f"Go on with it: {CLI} flows resume",
    EffectUncertain.default_hint: (
        f"Look at the other side; then `{CLI} flows resume --repeat` does it again, or cancel the flow."
    ),
    UnexpectedFailure.default_hint: (
        f"The flow is kept: `{CLI} flows resume`. Run with -v --log-file FILE to see the traceback."
    ),
}
"""What the engine tells programs to call, as commands."""


def as_command(hint: str) -> str:
    """A hint for a person at the command line."""
    return _COMMANDS.get(hint, hint)


def is_ours(machine: str) -> bool:
    """Whether the command line knows the machine of this name, and can go on with its flows."""
    return any(each.name == machine for each in MACHINES)


def way_on(machine: str, flow: str, *, repeat: bool = False) -> str:
    """What to do about a flow that waits for somebody to go on with it, in a sentence with a command.

    Args:
        machine: The name of its machine.
        flow: Its id, as far as it is to be shown.
        repeat: Whether its outward effect has to be done again.
    """
    if is_ours(machine):
        return f"Go on with it: {CLI} flows resume {flow}{' --repeat' if repeat else ''}"
    call = "Engine.resume(flow, repeat=True)" if repeat else "Engine.resume(flow)"
    asked = "Look at the other side; then the" if repeat else "The"
    return f"{asked} program it belongs to goes on with it, by `{call}`; or end it: {CLI} flows cancel {flow}"


def fitting(hint: str, row: FlowRow) -> str:
    """A hint that is true for the flow: `flows resume` is no way on for another program's."""
    if is_ours(row.machine):
        return as_command(hint)
    if f"{CLI} flows resume" not in hint and "Engine.resume(" not in hint:
        return hint
    return way_on(row.machine, row.id, repeat="--repeat" in hint or "repeat=True" in hint)
