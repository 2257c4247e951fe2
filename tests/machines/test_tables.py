"""Every machine of the house, taken row by row: the cases are made from the tables, none is written by hand."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.engine.errors import EventNotAccepted
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.machines.every import MACHINES
from systemprompt_cloud.testing.tables import IllegalCase, RowCase, illegal_cases, row_cases, row_taken, structs

from tests.support.length import by_length

TAKEN: Final = {machine: row_cases(machine) for machine in MACHINES}
REFUSED: Final = {machine: illegal_cases(machine) for machine in MACHINES}
ROWS: Final = [pytest.param(m, case, id=f"{m.name}-{case.id}") for m, cases in TAKEN.items() for case in cases]
ILLEGAL: Final = [pytest.param(m, case, id=f"{m.name}-{case.id}") for m, cases in REFUSED.items() for case in cases]
each_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


@pytest.mark.parametrize(("machine", "case"), ROWS)
def test_every_row_is_taken(machine: Machine[Any], case: RowCase) -> None:
    """The step goes where the row says, with the context its update makes, and counts as entering unless it stays."""
    context = case.context if case.row.update is None else case.row.update(case.context, case.event)
    step = machine.step(case.state, case.context, case.event)
    assert step == (case.row.to or case.state, context, case.row.to is not None)


@pytest.mark.parametrize(("machine", "case"), ILLEGAL)
def test_every_event_without_a_row_is_refused(machine: Machine[Any], case: IllegalCase) -> None:
    """`EventNotAccepted` names the machine, the state and the event, and the context is as it was."""
    before = msgspec.json.encode(case.context)
    with pytest.raises(EventNotAccepted) as caught:
        machine.step(case.state, case.context, case.event)
    assert (caught.value.state, caught.value.event) == (case.state, type(case.event).__name__)
    assert machine.name in caught.value.user_message
    assert msgspec.json.encode(case.context) == before


@each_machine
def test_the_cases_cover_the_whole_table(machine: Machine[Any]) -> None:
    """Every pair of a state and an event is either among the rows taken or among those refused, and never both."""
    taken = {(case.state, type(case.event)) for case in TAKEN[machine]}
    refused = {(case.state, type(case.event)) for case in REFUSED[machine]}
    assert not taken & refused
    assert taken | refused == {(state, event) for state in machine.states for event in machine.events.values()}
    assert {case.row for case in TAKEN[machine]} == set(machine.rows)


@each_machine
def test_the_cases_are_the_same_every_time(machine: Machine[Any]) -> None:
    """A failure can be run again."""
    assert row_cases(machine) == TAKEN[machine]
    assert illegal_cases(machine) == REFUSED[machine]


@each_machine
@settings(max_examples=by_length(60, 2000), deadline=None)
@given(data=st.data())
def test_any_context_and_event_survive_the_journal_and_any_row(machine: Machine[Any], data: st.DataObject) -> None:
    """Contexts and events survive JSON; whatever their values, a step goes by its row or refuses."""
    context = data.draw(structs(machine.context_type))
    event = data.draw(st.sampled_from(list(machine.events.values())).flatmap(structs))
    assert machine.decode_context(msgspec.json.encode(context)) == context
    assert machine.decode_event(msgspec.json.encode(event)) == event
    state = data.draw(st.sampled_from(list(machine.states)))
    row = row_taken(machine, state, context, event)
    if row is None:
        with pytest.raises(EventNotAccepted):
            machine.step(state, context, event)
    else:
        step = machine.step(state, context, event)
        assert step.state == (row.to or state)
        assert machine.decode_context(msgspec.json.encode(step.context)) == step.context


@each_machine
def test_every_state_can_be_cancelled_or_is_final(machine: Machine[Any]) -> None:
    """Nobody is ever stuck in a flow."""
    for name, state in machine.states.items():
        accepted = {event.__name__ for event in machine.accepts(name)}
        assert state.final == (not accepted)
        assert state.final or "CancelRequested" in accepted


@each_machine
def test_a_finished_flow_hands_out_something_json_can_hold(machine: Machine[Any]) -> None:
    """`--json` prints a result whatever the flow went through."""
    for case in TAKEN[machine]:
        step = machine.step(case.state, case.context, case.event)
        if machine.states[step.state].final:
            assert msgspec.json.encode(machine.result(step.context))
