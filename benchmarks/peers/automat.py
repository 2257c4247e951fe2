"""Automat, with its `TypeMachineBuilder`."""

from __future__ import annotations

import importlib
import time
from typing import Any, Protocol

from ..results import Seconds
from ..steps_table import STATES


class Ticking(Protocol):
    """The machine's inputs."""

    def tick(self) -> None:
        """Go on."""

    def reset(self) -> None:
        """Go back to the first state."""


class Core:
    """What the machine knows."""

    def __init__(self) -> None:
        self.n = 0


def steps(count: int, update: bool) -> Seconds:
    """So many inputs to one instance."""
    builder = importlib.import_module("automat").TypeMachineBuilder(Ticking, Core)
    states = [builder.state(f"s{number}") for number in range(STATES)]

    def plus_one(_machine: Ticking, core: Core) -> None:
        core.n += 1

    for number, state in enumerate(states):
        leads: Any = state.upon(Ticking.tick).to(states[(number + 1) % STATES])
        if update:
            leads(plus_one)
        else:
            leads.returns(None)
        state.upon(Ticking.reset).to(states[0]).returns(None)
    machine = builder.build()(Core())
    start = time.perf_counter()
    for _ in range(count):
        machine.tick()
    return Seconds(time.perf_counter() - start)
