"""Bare `transitions`: one model, its trigger called as a method."""

from __future__ import annotations

import importlib
import time
from typing import Any

from ..results import Seconds
from ..steps_table import STATES


class Model:
    """What the machine moves."""

    def __init__(self) -> None:
        self.n = 0

    def plus_one(self) -> None:
        """The update."""
        self.n += 1


def steps(count: int, update: bool) -> Seconds:
    """So many triggers of one model."""
    model: Any = Model()
    rows = [
        {
            "trigger": "tick",
            "source": f"s{number}",
            "dest": f"s{(number + 1) % STATES}",
            "before": ["plus_one"] if update else [],
        }
        for number in range(STATES)
    ]
    rows += [{"trigger": "reset", "source": f"s{number}", "dest": "s0"} for number in range(STATES)]
    importlib.import_module("transitions").Machine(
        model, states=[f"s{number}" for number in range(STATES)], transitions=rows, initial="s0", auto_transitions=False
    )
    start = time.perf_counter()
    for _ in range(count):
        model.tick()
    return Seconds(time.perf_counter() - start)
