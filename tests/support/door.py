"""The machine of a door, and how a broken one is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from systemprompt_cloud.engine.errors import MachineInvalid
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on


class Door(Context, frozen=True, kw_only=True):
    """What a door knows."""

    patience: float = 60.0
    grace: float | None = None
    colour: str = ""
    anything: Any = None


class OtherContext(Context, frozen=True, kw_only=True):
    """Another machine's."""


class Asked(Event, frozen=True):
    """Somebody asked to come in."""


class Knocked(Event, frozen=True):
    """Somebody knocked."""


SHUT = State("shut", "s")
OPEN = State("open", "o", verdict=Verdict.SUCCESS)
OFF = State("off", "x", verdict=Verdict.CANCELLED)


def door(rows: Any = (), states: Any = (SHUT, OPEN, OFF), name: Any = "door", **more: Any) -> Machine[Any]:
    """A door's machine, or a broken one."""
    what: dict[str, Any] = {"version": 1, "initial": "shut", "context": Door, **more}
    own = [on(Asked, "shut", "open"), on(CancelRequested, ANY, "off")]
    listed: Any = rows if isinstance(rows, str) else [*rows, *own]
    return Machine(name, states=states, rows=listed, **what)


def shut(**fields: Any) -> tuple[State, ...]:
    """The door's states, with the first changed."""
    return msgspec.structs.replace(SHUT, **fields), OPEN, OFF


def refused(why: str, **how: Any) -> MachineInvalid:
    """Build a broken door."""
    with pytest.raises(MachineInvalid, match=why) as caught:
        door(**how)
    return caught.value
