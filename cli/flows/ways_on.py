"""Hints on how to resume a flow: with the command line, or in the program whose machine it is.

The command line can look at any flow, and end it; it resumes those of the machines of this package only. A hint that
sends a person there for a flow of another machine would send them to a command that refuses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...base.remedies import Remedy
from ...engine.errors import IncompatibleFlow
from ..screen.remedies import remedy_text
from ..shared.names import CLI
from ..shared.settings import Settings

if TYPE_CHECKING:
    from ...engine.history import Trouble
    from ...engine.journal.records import FlowRow

OURS: Final = frozenset({"login", "checkout", "provisioning", "deployment", "onboarding"})
"""The names of our machines, which are not imported for them; a test compares."""

_RESUMES: Final = frozenset(
    {
        "resume",
        "wait_longer",
        "pay_or_cancel",
        "retry_tenant",
        "see_traceback",
        "answer_question",
        "settle_earlier_order",
        "set_clock",
        "confirm_account",
    }
)
"""Steps that another program's flow cannot take at the command line."""
_REPEATS: Final = frozenset({"repeat_or_cancel"})


def is_ours(machine: str) -> bool:
    """Whether the command line knows the machine of this name, and can resume its flows."""
    return machine in OURS


def way_on(settings: Settings, machine: str, flow: str, *, repeat: bool = False, child: str = "") -> str:
    """What to do about a flow that waits to be resumed, in a sentence with a command.

    Args:
        settings: The global options.
        machine: The name of its machine.
        flow: Its id, as far as it is to be shown.
        repeat: Whether its outward effect has to be done again.
        child: The child flow whose effect that is; empty when it is its own.
    """
    if is_ours(machine):
        resume = settings.command(f"flows resume {child or flow} --repeat" if repeat else f"flows resume {flow}")
        return f"To continue, run: {resume}"
    named = f'"{child}"' if child else "flow"
    call = f"Engine.resume({named}, repeat=True)" if repeat else "Engine.resume(flow)"
    asked = "Check whether it happened; then resume it" if repeat else "Resume it"
    cancel = settings.command(f"flows cancel {flow}")
    return f"{asked} in the program it belongs to, with `{call}`; or end it: {cancel}"


def refuse_unknown(settings: Settings, row: FlowRow, call: str) -> IncompatibleFlow:
    """The error for what only the program of another machine can do with its flow.

    Args:
        settings: The global options.
        row: The flow.
        call: How that program does it.
    """
    return IncompatibleFlow(
        f"{CLI} does not know the machine {row.machine}; flow {row.id} belongs to another program",
        hint=f"Use the program it belongs to: `{call}`. Or end it: {settings.command(f'flows cancel {row.id}')}",
    )


def ended_without_table(row: FlowRow) -> str:
    """What it means for a flow that it was cancelled where no table for it is known."""
    why = f"no table here fits {row.machine}" if is_ours(row.machine) else f"{CLI} does not know {row.machine}"
    return (
        f"It ended without its table, because {why}: its row for CancelRequested was not taken, and nothing that the "
        "table does on a cancellation was done. The program it belongs to cancels by the table: `Engine.cancel(flow)`."
    )


def hint_of_trouble(settings: Settings, trouble: Trouble, row: FlowRow) -> str:
    """What to do about a flow that is paused.

    Args:
        settings: The global options.
        trouble: Why it is paused. Releases up to 0.1.0 wrote no remedy, and commands into the hint.
        row: The flow.
    """
    remedy = trouble.error(row).remedy or Remedy("")
    if is_ours(row.machine):
        return remedy_text(settings, remedy, flow=row.id) or trouble.hint
    if remedy.step in _REPEATS or f"{CLI} flows resume --repeat" in trouble.hint:
        return way_on(settings, row.machine, row.id, repeat=True, child=trouble.flow)
    if remedy.step in _RESUMES or f"{CLI} flows resume" in trouble.hint:
        return way_on(settings, row.machine, row.id)
    return trouble.hint
