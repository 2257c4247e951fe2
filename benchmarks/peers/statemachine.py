"""python-statemachine, with the persistent model its documentation describes: a JSON file for each flow.

The file is written under another name, synced, and renamed: less would not survive a power cut. The directory is not
synced, in its favour.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from ..resident import resident_bytes
from ..results import Bytes, Run, Seconds
from ..steps_table import STATES


class FileModel:
    """The model whose state is in a file; python-statemachine reads and sets `state`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fresh = path.with_suffix(".new")
        self._state: str | None = None
        self.n = 0

    @property
    def state(self) -> str | None:
        """What is in the file."""
        return self._state

    @state.setter
    def state(self, value: str) -> None:
        first = self._state is None
        self._state = value
        if first:  # setting up is not measured
            return
        self.n += 1
        file = os.open(self._fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        try:
            os.write(file, json.dumps({"state": value, "n": self.n}).encode())
            os.fsync(file)
        finally:
            os.close(file)
        self._fresh.replace(self._path)


@cache
def two_states() -> Any:
    """The class of the machine with two states."""
    library = importlib.import_module("statemachine")
    even, odd = library.State(initial=True), library.State()
    members = {"even": even, "odd": odd, "tick": even.to(odd) | odd.to(even)}
    return type(library.StateMachine)("TwoStates", (library.StateMachine,), members)


def transitions(directory: Path, flows: int, transitions: int, threads: int) -> Run:
    """So many events, given to one flow after the other; with several threads, each has its own part of the flows."""
    machine = two_states()
    set_up = time.perf_counter()
    machines = [machine(model=FileModel(directory / f"{number}.json")) for number in range(min(flows, transitions))]
    threads = min(threads, len(machines))
    each = max(1, transitions // len(machines))

    def drive(first: int) -> None:
        for _ in range(each):
            for number in range(first, len(machines), threads):
                machines[number].tick()

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        list(pool.map(drive, range(threads)))
        return Run(flows, time.perf_counter() - start, len(machines) * each, start - set_up)


def idle_bytes(flows: int) -> Bytes:
    """What instances that exist and do nothing add to the process."""
    machine = two_states()
    held = [machine()]
    before = resident_bytes()
    held += [machine() for _ in range(flows)]
    return Bytes(resident_bytes() - before, len(held) - 1)


def steps(count: int, update: bool) -> Seconds:
    """So many events to one instance."""
    library = importlib.import_module("statemachine")
    states = [library.State(initial=number == 0) for number in range(STATES)]
    members: dict[str, Any] = {f"s{number}": state for number, state in enumerate(states)}
    tick, reset = states[0].to(states[1]), states[0].to(states[0])
    for number, state in enumerate(states[1:], 1):
        tick |= state.to(states[(number + 1) % STATES])
        reset |= state.to(states[0])
    members |= {"tick": tick, "reset": reset, "n": 0}
    if update:

        def on_tick(self: Any) -> None:
            self.n += 1

        members["on_tick"] = on_tick
    machine = type(library.StateMachine)("TenStates", (library.StateMachine,), members)()
    start = time.perf_counter()
    for _ in range(count):
        machine.tick()
    return Seconds(time.perf_counter() - start)
