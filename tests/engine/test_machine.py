"""A machine is a table: a broken one is refused when it is built, a good one steps purely."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from systemprompt_cloud.engine.errors import EventNotAccepted, MachineInvalid
from systemprompt_cloud.engine.machine.identity import named_fingerprint
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    DeadlinePassed,
    Event,
    ResumePolicy,
    Row,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.machines.login import LOGIN
from systemprompt_cloud.testing.tables import row_cases

from tests.support.kettle import (
    BOILED,
    COLD,
    EMPTY,
    HEATING,
    KETTLE,
    ROWS,
    STATES,
    Filled,
    Forgotten,
    Heated,
    Kettle,
    NotANumberError,
    Unplugged,
    boils,
    broken,
    kettle,
    steams,
)

# --- what is refused while it is built -----------------------------------------------------------------


def plus(*rows: Row, states: tuple[State, ...] = STATES, **how: Any) -> Callable[[], Machine[Kettle]]:
    """The kettle with more rows or other states."""
    return lambda: kettle(states=states, rows=(*ROWS, *rows), **how)


def changed(old: State, **fields: Any) -> tuple[State, ...]:
    """The kettle's states with one of them changed."""
    return tuple(msgspec.structs.replace(state, **fields) if state is old else state for state in STATES)


@pytest.mark.parametrize(
    ("build", "why"),
    [
        pytest.param(plus(states=(*STATES, EMPTY)), "empty is written twice", id="state-twice"),
        pytest.param(plus(states=(*STATES, State("*", "all"))), r"'\*' is not a state's name", id="state-any"),
        pytest.param(plus(initial="nowhere"), "initial state nowhere is not among", id="initial-unknown"),
        pytest.param(plus(initial="boiled"), "initial state boiled is final", id="initial-final"),
        pytest.param(plus(on(Filled, "nowhere", "heating")), "unknown state nowhere", id="source-unknown"),
        pytest.param(plus(on(Filled, "steaming", "nowhere")), "unknown state nowhere", id="destination-unknown"),
        pytest.param(plus(on(Filled, "boiled", "heating")), "the final state boiled has a row", id="final-with-row"),
        pytest.param(plus(on(Filled, "empty", "cold")), "Filled in empty is written twice", id="row-twice"),
        pytest.param(
            plus(on(Heated, "heating", "cold", when=boils)),
            r"Heated \[boils\] in heating is written twice",
            id="guard-twice",
        ),
        pytest.param(
            plus(on(Heated, "steaming", "cold", when=steams)),
            r"Heated \[steams\] in steaming is shadowed",
            id="shadowed",
        ),
        pytest.param(
            plus(
                *(on(Forgotten, source, "cold") for source in ("empty", "heating", "steaming")),
                on(Forgotten, ANY, STAY),
            ),
            r"Forgotten in \* is shadowed",
            id="any-shadowed",
        ),
        pytest.param(plus(states=(*STATES, State("lost", "x"))), "nothing leads to lost", id="unreachable"),
        pytest.param(
            plus(states=(*STATES, State("lost", "x", verdict=Verdict.FAILURE))),
            "nothing leads to lost",
            id="end-unreachable",
        ),
        pytest.param(
            lambda: kettle(
                states=(EMPTY, HEATING, BOILED, State("loop", "round and round")),
                rows=(
                    on(Filled, "empty", "heating"),
                    on(Heated, "heating", "boiled"),
                    on(Unplugged, "heating", "loop"),
                    on(Heated, "loop", STAY),
                ),
            ),
            "no end can be reached from loop",
            id="no-way-out",
        ),
        pytest.param(
            plus(states=changed(HEATING, timeout=5.0)), "heating has a timeout and no DeadlinePassed row", id="timeout"
        ),
        pytest.param(
            plus(on(DeadlinePassed, "heating", "cold"), states=changed(HEATING, timeout="hurry")),
            "the timeout of heating names no context field: hurry",
            id="timeout-field",
        ),
        pytest.param(
            plus(states=changed(HEATING, effect="uses electricity")),
            r"heating has an effect \(uses electricity\) and no resume policy",
            id="effect",
        ),
        pytest.param(
            plus(states=changed(BOILED, effect="whistles", resume=ResumePolicy.RETRY)),
            "boiled cannot do",
            id="final-effect",
        ),
        pytest.param(plus(states=changed(COLD, child="kettle")), "cold cannot do", id="final-child"),
    ],
)
def test_a_broken_table_is_refused(build: Callable[[], Machine[Kettle]], why: str) -> None:
    """`MachineInvalid` names the machine and what is wrong, before anything steps."""
    with pytest.raises(MachineInvalid, match=f"^machine kettle: .*{why}"):
        build()


def test_the_tables_these_are_made_from_are_good() -> None:
    """What is refused above is refused for the one thing that was changed."""
    assert plus()().fingerprint == KETTLE.fingerprint
    plus(on(DeadlinePassed, "heating", "cold"), states=changed(HEATING, timeout="patience"))()
    plus(states=changed(HEATING, effect="uses electricity", resume=ResumePolicy.ASK))()


# --- stepping ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["state", "context", "row", "trigger", "may_state"])
def test_an_event_may_have_any_name(name: str) -> None:
    """Also one that the library beneath has for something of its own; and fields of any name."""
    cls = cast("type[Event]", msgspec.defstruct(name, [(name, str, "")], bases=(Event,), frozen=True))
    table = plus(on(cls, "empty", "heating"))()
    assert table.step("empty", Kettle(), cls()).state == "heating"


def test_a_step_changes_nothing_it_was_given() -> None:
    """The same state, context and event give the same answer however often they are asked."""
    before = Kettle(degrees=20)
    first = KETTLE.step("heating", before, Heated(10))
    assert first == KETTLE.step("heating", before, Heated(10)) == ("heating", Kettle(degrees=30), False)
    assert before == Kettle(degrees=20)


def test_guards_are_tried_from_the_top() -> None:
    """The first row whose guard holds is taken; the unguarded last one takes the rest."""
    step = {by: KETTLE.step("heating", Kettle(degrees=0), Heated(by)).state for by in (79, 80, 99, 100)}
    assert step == {79: "heating", 80: "steaming", 99: "steaming", 100: "boiled"}


def test_every_guard_refusing_is_a_refusal() -> None:
    """Without an unguarded row the event is not accepted, though it has rows here."""
    machine = kettle(
        rows=tuple(row for row in ROWS if row.guard is not None or row.event is not Heated or row.source != "heating")
    )
    with pytest.raises(EventNotAccepted):
        machine.step("heating", Kettle(degrees=0), Heated(1))
    assert Heated in machine.accepts("heating")


def test_staying_is_not_entering_and_coming_back_is() -> None:
    """`STAY` leaves the visit alone; a row that names its own state starts a new one."""
    assert KETTLE.step("heating", Kettle(), Heated(1)).entered is False
    assert KETTLE.step("heating", Kettle(), Filled()) == ("heating", Kettle(), True)


def test_any_means_every_state_that_is_not_final() -> None:
    """A row for one state goes before a row for `ANY`, wherever it is written; ends take nothing."""
    early = kettle(rows=(ROWS[-1], *ROWS[:-1]))
    for machine in (KETTLE, early):
        assert machine.step("empty", Kettle(), Unplugged()).state == "cold"
        assert machine.step("steaming", Kettle(), Unplugged()).state == "cold"
        assert machine.step("heating", Kettle(), Unplugged()).state == "empty"
        for end in ("boiled", "cold"):
            with pytest.raises(EventNotAccepted):
                machine.step(end, Kettle(), Unplugged())


def test_an_update_that_raises_changes_nothing() -> None:
    """The error comes out as it is, and the machine steps on as if it had not been asked."""
    rows = tuple(msgspec.structs.replace(row, update=broken) if row.source == "steaming" else row for row in ROWS)
    machine = kettle(rows=rows)
    before = Kettle(degrees=90)
    with pytest.raises(NotANumberError):
        machine.step("steaming", before, Heated(20))
    assert before == Kettle(degrees=90)
    assert machine.step("heating", before, Heated(20)).state == "boiled"
    assert machine.step("steaming", before, Unplugged()).state == "cold"


@pytest.mark.parametrize(
    ("state", "event"),
    [("empty", Heated(1)), ("boiled", Filled()), ("empty", Forgotten()), ("empty", CancelRequested())],
)
def test_an_event_without_a_row_is_refused_by_name(state: str, event: Event) -> None:
    """The message has the machine, the state and the event, known to the table or not."""
    with pytest.raises(EventNotAccepted, match=f"kettle in state {state} does not accept {type(event).__name__}"):
        KETTLE.step(state, Kettle(), event)


def test_the_table_can_be_made_into_cases() -> None:
    """Guards hide no row: a case is found for each, also behind two guards."""
    assert [(case.state, case.row) for case in row_cases(KETTLE)] == list(KETTLE.expanded)


def test_a_row_that_can_never_be_taken_has_no_case() -> None:
    """A guard that never holds is named, not passed over."""

    def never(_context: Kettle, _event: Heated) -> bool:
        return False

    with pytest.raises(ValueError, match=r"nothing was found that takes Heated \[never\] in empty"):
        row_cases(plus(on(Heated, "empty", "heating", when=never))())


# --- deadlines and names -------------------------------------------------------------------------------


def timed(heating: float | str | None, steaming: float | str | None) -> Machine[Kettle]:
    """A kettle with these timeouts."""
    states = tuple(
        msgspec.structs.replace(state, timeout={"heating": heating, "steaming": steaming}.get(state.name))
        for state in STATES
    )
    return plus(on(DeadlinePassed, ANY, "cold"), states=states)()


def test_a_timeout_is_a_number_or_a_field() -> None:
    """A field is read from the context of the moment."""
    machine = timed("patience", 7.0)
    assert machine.timeout_of("heating", Kettle(patience=3)) == 3.0
    assert machine.timeout_of("steaming", Kettle()) == 7.0
    assert machine.timeout_of("empty", Kettle()) is None


@pytest.mark.parametrize(
    ("heating", "steaming", "shared"),
    [("patience", "patience", True), ("patience", 60.0, False), (60.0, 60.0, False), ("patience", None, False)],
)
def test_states_that_name_the_same_field_share_a_deadline(
    heating: float | str | None, steaming: float | str | None, shared: bool
) -> None:
    """The same number twice is two timeouts; the same field twice is one."""
    assert timed(heating, steaming).shares_deadline("heating", "steaming") is shared


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(plus(version=2), id="version"),
        pytest.param(plus(name="pot"), id="name"),
        pytest.param(plus(on(Filled, "steaming", "heating")), id="row-added"),
        pytest.param(lambda: kettle(rows=(ROWS[0], ROWS[2], ROWS[1], *ROWS[3:])), id="order"),
        pytest.param(
            lambda: kettle(rows=(*ROWS[:5], msgspec.structs.replace(ROWS[5], to="cold"), *ROWS[6:])), id="destination"
        ),
        pytest.param(
            lambda: kettle(rows=(*ROWS[:5], msgspec.structs.replace(ROWS[5], update=None), *ROWS[6:])), id="update"
        ),
        pytest.param(plus(states=changed(HEATING, effect="hums", resume=ResumePolicy.ASK)), id="effect"),
        pytest.param(plus(states=changed(COLD, verdict=Verdict.CANCELLED)), id="verdict"),
    ],
)
def test_the_fingerprint_follows_the_table(other: Callable[[], Machine[Kettle]]) -> None:
    """Whatever changes in the table, a flow of the old one is told apart."""
    assert other().fingerprint != KETTLE.fingerprint


def test_the_fingerprint_does_not_follow_the_names_of_functions() -> None:
    """A private function that is renamed locks no stored flow out; those of 0.1.0 had its name in their fingerprint."""

    def called_otherwise(context: Kettle, event: Any) -> Kettle:
        return cast("Callable[[Kettle, Any], Kettle]", ROWS[5].update)(context, event)

    rows = (*ROWS[:5], msgspec.structs.replace(ROWS[5], update=called_otherwise), *ROWS[6:])
    renamed = kettle(rows=rows)
    assert renamed.fingerprint == KETTLE.fingerprint
    named = named_fingerprint("kettle", 1, "empty", Kettle, KETTLE.events, STATES, ROWS)
    assert KETTLE.wrote(KETTLE.version, named)
    assert not renamed.wrote(KETTLE.version, named)
    assert kettle(rows=rows, known_as=[named]).wrote(KETTLE.version, named)
    assert not KETTLE.wrote(KETTLE.version + 1, KETTLE.fingerprint)


def test_the_fingerprint_follows_the_fields() -> None:
    """A context with another field is another table."""

    class Samovar(Kettle, frozen=True, kw_only=True):
        """A kettle with a tap."""

        tap: bool = False

    assert kettle(context=Samovar).fingerprint != KETTLE.fingerprint


def test_events_of_other_machines_are_not_decoded() -> None:
    """Only the table's own events come out of its journal, with exactly their fields."""
    assert KETTLE.decode_event(b'{"event":"Heated","by":3}') == Heated(3)
    for body in (b'{"event":"Forgotten"}', b'{"event":"Heated"}', b'{"event":"Heated","by":"3"}', b"{}", b"x"):
        with pytest.raises(msgspec.DecodeError):
            KETTLE.decode_event(body)


def test_a_context_that_leaves_out_defaults_is_a_result_too() -> None:
    """What has its default is not in it."""

    class Sparse(Kettle, frozen=True, kw_only=True, omit_defaults=True):
        """A kettle that says only what is special."""

    assert kettle(context=Sparse).result(Sparse(degrees=3)) == {"degrees": 3}


def test_without_a_result_function_the_context_is_the_result() -> None:
    """As plain data."""
    assert KETTLE.result(Kettle(degrees=3)) == {"problem": "", "degrees": 3, "patience": 60.0}


@pytest.mark.parametrize("decode", [LOGIN.decode_event, LOGIN.decode_context])
def test_bytes_that_are_no_text_are_one_more_way_to_be_damaged(decode: Callable[[bytes], object]) -> None:
    """What a damaged journal holds is reported as every other damage is."""
    with pytest.raises(msgspec.DecodeError):
        decode(b'{"event": "\xff\xfe", "api_url": "\xff"}')
