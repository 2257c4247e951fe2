"""Flow histories for tests that need no engine: told by hand, or walked at random through a machine's table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import strategies as st
from systemprompt_cloud.engine.history import Change
from systemprompt_cloud.engine.machine.machine import Machine

NOON: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)


def tell(machine: Machine[Any], *lines: Sequence[str], flow: str = "01abc", start: float = 0.0) -> list[Change]:
    """Make a history that begins in the initial state and has one line a second.

    Args:
        machine: Whose history it is.
        lines: (state led to, event, message) for an event, (`#kind`, name, message) for anything else; the message may
            be left out. Nothing is checked against the table.
        flow: The flow's id.
        start: When it begins, in seconds after noon of 1 March 2026, UTC.
    """
    state = machine.initial
    changes = [_change(machine, flow, 1, start, "started", "started", state, state, "")]
    for line in lines:
        to, name, message = (*line, "")[:3]
        kind, to = (to[1:], state) if to.startswith("#") else ("event", to)
        number = len(changes) + 1
        changes.append(_change(machine, flow, number, start + number - 1, kind, name, state, to, message))
        state = to
    return changes


@st.composite
def walks(draw: st.DrawFn, machine: Machine[Any]) -> list[Change]:
    """A history that follows the table from its start, with parking and the like in between and any messages."""
    lines: list[tuple[str, str, str]] = []
    state = machine.initial
    for _ in range(draw(st.integers(0, 12))):
        rows = [row for source, row in machine.expanded if source == state]
        if not rows:
            break
        message = draw(st.text(max_size=40))
        kind = draw(st.sampled_from(["event", "event", "event", "intent", "paused", "resumed"]))
        if kind == "event":
            row = draw(st.sampled_from(rows))
            state = row.to or state
            lines.append((state, row.event.__name__, message))
        else:
            lines.append((f"#{kind}", "01abc:1:effect", message))
    return tell(machine, *lines)


def _change(
    machine: Machine[Any], flow: str, seq: int, second: float, kind: str, event: str, origin: str, to: str, message: str
) -> Change:
    return Change(
        flow=flow,
        seq=seq,
        at=(NOON + timedelta(seconds=second)).isoformat().replace("+00:00", "Z"),
        machine=machine.name,
        kind=kind,
        event=event,
        from_state=origin,
        to_state=to,
        message=message,
    )
