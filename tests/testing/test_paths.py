"""The ways through a machine: all of them, each one that can really be gone."""

from __future__ import annotations

from functools import cache
from pathlib import Path as Directory
from typing import Any

import msgspec
import pytest
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Program, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.machines.every import MACHINES
from systemprompt_cloud.machines.login import LOGIN
from systemprompt_cloud.testing.clock import VirtualClock
from systemprompt_cloud.testing.paths import Path, covering_paths, paths

each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


class Coins(Context, frozen=True, kw_only=True):
    """What a turnstile knows."""

    paid: int = 0


class Paid(Event, frozen=True):
    """A coin."""


class Pushed(Event, frozen=True):
    """Somebody wants through."""


def more(context: Coins, _event: Paid) -> Coins:
    return msgspec.structs.replace(context, paid=context.paid + 1)


def enough(context: Coins, _event: Pushed) -> bool:
    return context.paid >= 2**60  # more than any context begins with


TURNSTILE = Machine(
    "turnstile",
    version=1,
    initial="locked",
    context=Coins,
    states=[State("locked", "locked"), State("through", "through", verdict=Verdict.SUCCESS)],
    rows=[on(Paid, "locked", STAY, update=more), on(Pushed, "locked", "through", when=enough)],
)
FREE_TURNSTILE = Machine(
    "free_turnstile",
    version=1,
    initial="locked",
    context=Coins,
    states=[State("locked", "locked"), State("through", "through", verdict=Verdict.SUCCESS)],
    rows=[on(Paid, "locked", STAY, update=more), on(Pushed, "locked", "through")],
)


@cache
def covering(machine: Machine[Any]) -> list[Path]:
    """`covering_paths`, looked for once."""
    return covering_paths(machine)


@each_machine
def test_every_path_can_be_gone(machine: Machine[Any]) -> None:
    """Stepped event by event, a path takes its rows, keeps its contexts, and ends where it says."""
    for path in covering(machine):
        state, context = machine.initial, path.begins
        for step in path.steps:
            assert (step.state, step.context) == (state, context), path.id
            after = machine.step(state, context, step.event)
            assert after.state == (step.row.to or state), path.id
            state, context = after.state, after.context
        assert machine.states[state].final
        assert (path.end, path.context) == (state, context)


@each_machine
def test_the_covering_paths_take_every_row(machine: Machine[Any]) -> None:
    """No row is left out, and no more paths are made than there are rows."""
    found = covering(machine)
    assert {(step.state, step.row) for path in found for step in path.steps} == set(machine.expanded)
    assert len(found) <= len(machine.expanded)


def test_simple_paths_are_all_there_and_come_to_no_state_twice() -> None:
    """Every end is reached, by every row that leads there; none is listed twice."""
    found = paths(LOGIN)
    assert len({path.id for path in found}) == len(found)
    assert {path.end for path in found} == {name for name, state in LOGIN.states.items() if state.final}
    for path in found:
        states = [step.state for step in path.steps]
        assert len(set(states)) == len(states)


def test_loops_come_back_as_often_as_they_are_allowed_to() -> None:
    """Progress that stays counts as coming back to the state it stays in."""
    labels = [[step.row.label for step in path.steps] for path in paths(FREE_TURNSTILE, loops=2)]
    assert labels == [["Paid", "Paid", "Pushed"], ["Paid", "Pushed"], ["Pushed"]]
    assert [msgspec.to_builtins(path.context)["paid"] for path in paths(FREE_TURNSTILE, loops=2)] == [2, 1, 0]


def test_a_way_whose_guard_is_never_satisfied_is_no_path() -> None:
    """It is not listed; and a row nobody can take is named."""
    assert paths(TURNSTILE, loops=1) == []
    with pytest.raises(ValueError, match=r"turnstile: no path was found that takes Paid in locked"):
        covering_paths(TURNSTILE)


async def test_a_path_leads_a_real_flow_to_its_end(tmp_path: Directory) -> None:
    """The events of a path, sent to the engine, end in its final state with its context."""
    directories = CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="explicit")
    program = Program(LOGIN, {name: [await_signal] for name, state in LOGIN.states.items() if not state.final})
    async with open_engine(directories, [program], clock=VirtualClock(), inline=True) as engine:
        for path in covering_paths(LOGIN):
            if any(isinstance(event, DeadlinePassed) for event in path.events):
                continue
            flow = await engine.start(LOGIN, path.begins)
            for event in path.events:
                if isinstance(event, CancelRequested):
                    await flow.cancel(event.reason)
                else:
                    await flow.send(event)
            assert (flow.state, flow.context) == (path.end, path.context)
