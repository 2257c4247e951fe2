"""A hypothesis state machine that tests your machine on the real engine, with events, failures and kills in any order.

    TestParcel = flow_state_machine(PARCEL).TestCase

That is a whole test. Hypothesis starts flows and sends events from activities and from outside, alone and concurrently;
lets time pass, deadlines expire, activities fail and flows be cancelled; closes, kills and reopens the engine; and
copies the journal at any commit, to resume everything in the copy. After every step the promises are checked: a flow is
in one state at a time; its stored row is the fold of its events; no activity of a state that was left changes it;
whatever was acknowledged is on disk; deadlines are those of the table and pass once; record numbers have no gaps; a
flow that has not ended can be resumed; a flow that has ended does not change. A failure is shrunk to the shortest
sequence of steps and printed.

The engine and its journal are the real ones. Time is virtual and advances only by a step of the test (`stillness.py`),
and a kill is simulated by copying the directory as it is on disk (`lives.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, TypeAlias, cast

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from typing_extensions import override

from ..base.moments import moment_text, parse_moment
from ..engine.engine import open_engine
from ..engine.errors import EffectUncertain, EventNotAccepted, KeyInUse
from ..engine.flow import Flow
from ..engine.inbox import INBOX_SECONDS
from ..engine.journal.records import KEPT_AT_MOST, FlowRow
from ..engine.machine.parts import CancelRequested, Context, DeadlinePassed, Event, ResumePolicy, Row
from ..engine.starting import different_fields
from ..engine.visit import Program
from .audit import audit_journal, orphans
from .lives import Lives, Opens, Subject, machine_of
from .stage import PUPPETS, contexts_of, simplest_context
from .tables import row_taken, structs

MAX_FLOWS: Final = 3
AWAY: Final = st.sampled_from([0.0, 10.0, 100_000.0])
"""Seconds until the engine is opened again."""
RESUME: Final = st.sampled_from([True, True, False])
"""Whether every flow is resumed then."""
KEYS: Final = st.sampled_from([None, "key"])
WAYS: Final = ("activity", "shielded activity", "outside")
Data: TypeAlias = st.DataObject


class FlowModel(RuleBasedStateMachine):
    """The rules and invariants for a few flows of one machine. Made by `flow_state_machine`."""

    subjects: ClassVar[st.SearchStrategy[Any]]
    children: ClassVar[Mapping[str, Subject]]
    contexts: ClassVar[st.SearchStrategy[Any] | None]
    events: ClassVar[Mapping[type[Event], st.SearchStrategy[Any]]]
    opens: ClassVar[Opens]

    def __init__(self) -> None:
        super().__init__()
        self._lives: Lives | None = None
        self._ended: dict[str, FlowRow] = {}

    @property
    def lives(self) -> Lives:
        """The process and its journal."""
        assert self._lives is not None
        return self._lives

    # --- the beginning --------------------------------------------------------------------------------------------

    @initialize(data=st.data())
    def begin(self, data: Data) -> None:
        """Choose the machine, if there is a choice, open an engine, and start a flow."""
        subject = data.draw(self.subjects, label="machine")
        self._own_life = isinstance(subject, Program)
        self._lives = Lives(subject, self.children, self.opens)
        self._contexts = contexts_of(self.lives.machine) if self.contexts is None else self.contexts
        self._strategies = {
            event: self.events[event] if event in self.events else structs(event)
            for program in self.lives.programs
            for event in program.machine.events.values()
            if event is not DeadlinePassed
        }
        self._start(data, data.draw(KEYS, label="key"))

    @precondition(lambda self: len(self.roots()) < MAX_FLOWS)
    @rule(data=st.data(), key=KEYS)
    def start(self, data: Data, key: str | None) -> None:
        """Start a flow; with a key, the unfinished one of that key is resumed, unless its identity differs."""
        self._start(data, key)

    def _start(self, data: Data, key: str | None) -> None:
        unfinished = [row for row in self.roots() if key is not None and row.key == key and row.status != "ended"]
        started = [self.lives.started_with(row) for row in unfinished]
        if started and data.draw(st.booleans(), label="the same start"):
            context = started[0]
        else:
            context = data.draw(self._contexts, label="context")
        different = [name for one in started for name in different_fields(one, context)]
        other = [name for name in self.lives.machine.identity if name in different]
        answer = self._start_or_refuse(context, key)
        if isinstance(answer, KeyInUse):
            assert list(answer.fields) == other, f"{answer}; what differs is {other}"
            changed = [row.id for row in unfinished if self.lives.row(row.id) != row]
            assert not changed, f"{changed} refused a start, and changed"
            return
        assert not other, f"the key {key} was started with another {', '.join(other)}"
        if unfinished:
            assert [answer.id] == [row.id for row in unfinished], f"the key {key} was started twice"

    def _start_or_refuse(self, context: Context, key: str | None) -> Flow | KeyInUse:
        try:
            return self.lives.call(self.lives.engine.start, self.lives.machine, context, key=key)
        except KeyInUse as exc:
            return exc

    # --- events ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.lives.driven())
    @rule(data=st.data(), way=st.sampled_from(WAYS))
    def happen(self, data: Data, way: str) -> None:
        """Send one event, which the flow's state most often accepts."""
        row = self._choose(data, self.lives.driven())
        event = self._draw_event(data, row)
        wanted, waiting = self._row_for(row, event), self.lives.waiting(row.id)
        answers = self.lives.tell(row.id, [(way, event)])
        after = self.lives.row(row.id)
        if answers:
            assert answers == [wanted is not None], f"{event!r} in {row.state}: {answers}, and the table has {wanted}"
        if answers == [False] and not self._own_life:
            kept = len(self.lives.waiting(row.id)) - len(waiting)
            keeps = self._keeps(row.id, type(event).__name__) and len(waiting) < KEPT_AT_MOST
            assert kept == (1 if keeps else 0), f"{event!r} in {row.state}: {kept} more in the inbox"
        if self._own_life or self._has_last_words(row) or waiting:  # what waits may be taken by the next state
            return
        if wanted is None:
            assert after.state == row.state, f"{event!r}, which {row.state} does not accept, led to {after.state}"
        else:
            assert after.state == (wanted.to or row.state), f"{event!r} led to {after.state}; the row is {wanted}"

    @precondition(lambda self: self.lives.driven())
    @rule(data=st.data(), ways=st.lists(st.sampled_from((*WAYS, "shielded activity")), min_size=2, max_size=3))
    def happen_at_once(self, data: Data, ways: list[str]) -> None:
        """Send several events at the same moment: from activities, shielded or not, and from outside."""
        row = self._choose(data, self.lives.driven())
        self.lives.tell(row.id, [(way, self._draw_event(data, row)) for way in ways])

    @precondition(lambda self: self.lives.driven())
    @rule(data=st.data())
    def prepare_last_words(self, data: Data) -> None:
        """Have an activity send one more event, shielded, when it is cancelled."""
        row = self._choose(data, self.lives.driven())
        event = self._draw_event(data, row)
        for puppet in self.lives.puppets(row.id)[:1]:
            puppet.last_words = event

    @precondition(lambda self: self.lives.rows())
    @rule(data=st.data())
    def signal(self, data: Data) -> None:
        """Post an event to the inbox, as another process does; a flow driven here takes or refuses it."""
        row = self._choose(data, self.lives.rows())
        event = self._draw_event(data, row)
        wanted, driven = self._row_for(row, event), self.lives.is_driven(row)
        try:
            self.lives.post(row.id, event)
        except EventNotAccepted:
            waiting = len(self.lives.waiting(row.id))
            assert row.status == "ended" or waiting >= KEPT_AT_MOST, f"{row.id} is {row.status} and takes no signal"
            return
        keeps = self._keeps(row.id, type(event).__name__)
        self.lives.pass_time(INBOX_SECONDS)
        if driven and self.lives.is_driven(self.lives.row(row.id)):
            left = [each for each in self.lives.waiting(row.id) if not self._keeps(row.id, each.name)]
            assert not left, f"these signals were left lying: {left}"
        if driven and (wanted is not None or not keeps):
            assert self.lives.row(row.id).seq > row.seq, f"the signal {event!r} came to nothing in {row.state}"

    @precondition(lambda self: self.lives.rows("running", "paused"))
    @rule(data=st.data(), reason=st.sampled_from(["", "enough"]))
    def cancel(self, data: Data, reason: str) -> None:
        """Cancel a flow that runs, is parked, or was left by a killed process."""
        row = self._choose(data, self.lives.rows("running", "paused"))
        try:
            assert self.lives.call(self.lives.engine.cancel, row.id, reason), f"no process drives {row.id}"
        except EventNotAccepted:
            assert self._row_for(row, CancelRequested(reason)) is None
        else:
            assert self.lives.row(row.id).seq > row.seq, f"{row.id} was cancelled, and nothing happened"

    # --- effects and trouble --------------------------------------------------------------------------------------

    @precondition(lambda self: self.with_effect())
    @rule(data=st.data(), nothing=st.booleans())
    def announce(self, data: Data, nothing: bool) -> None:
        """Announce the outward effect of a state, perhaps not for the first time; with `nothing` it then fails."""
        row, stage = self._choose(data, self.with_effect()), self.lives.stage
        self.lives.order(row.id, stage.come_to_nothing if nothing else stage.announce)

    @precondition(lambda self: self.lives.driven())
    @rule(data=st.data(), everybody=st.booleans())
    def stop_working(self, data: Data, everybody: bool) -> None:
        """Have one activity fail, or all of them end without leaving the state."""
        row = self._choose(data, self.lives.driven())
        stage = self.lives.stage
        if not self.lives.puppets(row.id):  # they have ended before; another activity keeps the state open
            return
        self.lives.order(row.id, *([stage.come_to_an_end] * PUPPETS if everybody else [stage.fail]))
        after = self.lives.row(row.id)
        if after.incarnation == row.incarnation and not (everybody and self._has_more_to_do(row)):
            assert after.status == "paused", f"{row.id} can do nothing more in {row.state} and is {after.status}"

    @precondition(lambda self: self.lives.rows("running", "paused"))
    @rule(data=st.data(), repeat=st.booleans())
    def resume(self, data: Data, repeat: bool) -> None:
        """Resume a flow; with `repeat`, as after a person decided to repeat an uncertain effect."""
        row = self._choose(data, self.lives.rows("running", "paused"))
        driven = self.lives.is_driven(row)
        announced = self.lives.engine.journal.intents(row.id, row.incarnation)  # nothing else waits for a decision
        asks = bool(announced) and self.lives.machine_of(row).states[row.state].resume is ResumePolicy.ASK
        try:
            self.lives.call(self.lives.engine.resume, row.id, repeat=repeat)
        except EffectUncertain:
            assert repeat, f"{row.id} asked for a decision when it was only resumed"
            assert driven or not asks, f"{row.id} in {row.state} asks for a decision, and did not take it"
            assert self.lives.row(row.id) == row, f"{row.id} refused to repeat an effect, and changed"
            return
        if driven or row.parent is not None:
            return
        resumed = self.lives.journal.records(row.id)[row.seq :]
        assert resumed, f"{row.id} was in {row.state} and was not resumed"
        visit = row.incarnation + (1 if repeat else 0)
        assert resumed[0].incarnation == visit, f"{row.id} came back to {row.state}, repeat {repeat}, as {resumed[0]}"

    # --- time, and the end of a process ---------------------------------------------------------------------------

    @precondition(lambda self: self.lives.rows("running"))
    @rule(seconds=st.sampled_from([0.001, 1.0, 5.0, 29.0, 30.0, 100.0, 1000.0]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.lives.pass_time(seconds)

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), early=st.booleans())
    def pass_time_to_a_deadline(self, data: Data, early: bool) -> None:
        """Let time pass until exactly a deadline, or until just before it."""
        row = self._choose(data, self.waiting())
        left = (parse_moment(row.deadline or "") - self.lives.now()).total_seconds()
        self.lives.pass_time(max(left - 0.001, 0.0) if early else left)

    @precondition(lambda self: self.lives.rows("running", "paused"))
    @rule(away=AWAY, resume=RESUME)
    def close_and_open(self, away: float, resume: bool) -> None:
        """Close the engine, as Ctrl-C does, and open it again later."""
        self.lives.reopen(away)
        self._resume_all(resume)

    @precondition(lambda self: self.lives.rows("running", "paused"))
    @rule(away=AWAY, resume=RESUME)
    def kill(self, away: float, resume: bool) -> None:
        """Kill the process; another one opens what is on disk."""
        self.lives.kill(away)
        self._resume_all(resume)

    @rule(commits=st.integers(1, 4))
    def copy_at_a_commit(self, commits: int) -> None:
        """Copy the directory `commits` commits from now; every flow in the copy must be resumable as well."""
        self.lives.copy_after(commits)

    # --- what must always be true ---------------------------------------------------------------------------------

    @invariant()
    def every_promise_holds(self) -> None:
        """Check the promises listed in the module's docstring."""
        if self._lives is None:
            return
        wrong = [*self.lives.stage.complaints, *audit_journal(self.lives.journal, self.lives.programs)]
        now = moment_text(self.lives.now())
        for row in self.lives.rows():
            wrong += self._wrong_with(row, now)
        left_behind = [row for row in orphans(self.lives.journal) if self.lives.is_driven(row)]
        wrong += [f"flow {row.id} still runs; its parent is done with it" for row in left_behind]
        assert not wrong, "\n".join(wrong)
        while self.lives.copies:
            wrong = self.lives.revive(self.lives.copies.pop())
            assert not wrong, "in a copy taken at a commit: " + "\n".join(wrong)

    def _wrong_with(self, row: FlowRow, now: str) -> list[str]:
        engine, stage = self.lives.engine, self.lives.stage
        wrong = stage.missing(row.id, self.lives.journal.records(row.id))
        context = self.lives.machine_of(row).decode_context(row.context)
        if (engine.row(row.id), engine.context(row.id)) != (row, context):
            wrong.append(f"{row.id}: the engine has {engine.row(row.id)}; on disk is {row}")
        driven = self.lives.is_driven(row)
        there = [(puppet.visit.state, puppet.visit.incarnation) for puppet in self.lives.puppets(row.id)]
        wanted = [(row.state, row.incarnation)] * (PUPPETS - stage.finished[row.id]) if driven else []
        if there != wanted:
            wrong.append(f"{row.id} is {row.status} in {row.state}, visit {row.incarnation}; at work are {there}")
        if driven and row.deadline is not None and row.deadline < now:
            wrong.append(f"{row.id} is in {row.state} at {now}; its deadline was {row.deadline}")
        if row.status == "ended":
            if self._ended.setdefault(row.id, row) != row:
                wrong.append(f"{row.id} had ended, and changed: {self._ended[row.id]} became {row}")
            if self.lives.tell(row.id, [("outside", CancelRequested())]) != [False]:
                wrong.append(f"{row.id} has ended and takes an event")
        return wrong

    @override
    def teardown(self) -> None:
        """Close the engine and remove its files."""
        if self._lives is not None:
            self._lives.end()

    def _resume_all(self, resume: bool) -> None:
        for row in self.roots() if resume else []:
            if row.status != "ended":
                self.lives.call(self.lives.engine.resume, row.id)
                assert self.lives.row(row.id).seq > row.seq, f"{row.id} was in {row.state} and was not resumed"

    # --- choosing -------------------------------------------------------------------------------------------------

    def roots(self) -> list[FlowRow]:
        """The flows that are no child flows."""
        return [row for row in self.lives.rows() if row.parent is None]

    def with_effect(self) -> list[FlowRow]:
        """The driven flows in a state with an outward effect."""
        return [row for row in self.lives.driven() if self.lives.machine_of(row).states[row.state].effect is not None]

    def waiting(self) -> list[FlowRow]:
        """The driven flows with a deadline."""
        return [row for row in self.lives.driven() if row.deadline is not None]

    def _choose(self, data: Data, rows: list[FlowRow]) -> FlowRow:
        # By number: ids differ between runs, and a failing example must be repeatable.
        return rows[data.draw(st.integers(0, len(rows) - 1), label="flow")]

    def _draw_event(self, data: Data, row: FlowRow) -> Event:
        machine = self.lives.machine_of(row)
        every = [event for event in machine.events.values() if event is not DeadlinePassed]
        fitting = [event for event in every if event in machine.accepts(row.state)]
        if not fitting or data.draw(st.integers(0, 9), label="any event") == 9:
            fitting = every
        chosen = data.draw(st.sampled_from(fitting), label="event")
        return cast("Event", data.draw(self._strategies[chosen], label="event"))

    def _row_for(self, row: FlowRow, event: Event) -> Row | None:
        context = self.lives.machine_of(row).decode_context(row.context)
        return row_taken(self.lives.machine_of(row), row.state, context, event)

    def _keeps(self, flow: str, event: str) -> bool:
        machine = self.lives.machine_of(row := self.lives.row(flow))
        return machine.keeps(row.state, machine.events[event])

    def _has_more_to_do(self, row: FlowRow) -> bool:
        runs = self.lives.machine_of(row).states[row.state].children  # by an activity of its own
        return self._own_life or not self.children.keys().isdisjoint(runs)

    def _has_last_words(self, row: FlowRow) -> bool:
        return any(puppet.last_words is not None for puppet in self.lives.puppets(row.id))


def flow_state_machine(
    subject: Subject | st.SearchStrategy[Any],
    *,
    children: Mapping[str, Subject] | None = None,
    contexts: st.SearchStrategy[Any] | None = None,
    events: Mapping[type[Event], st.SearchStrategy[Any]] | None = None,
    opens: Opens = open_engine,
) -> type[FlowModel]:
    """A hypothesis state machine that runs flows of a machine and checks the engine's promises after every step.

    `flow_state_machine(...).TestCase` is a test; its `settings` set the number of examples and their length.

    Args:
        subject: The machine; or a program, whose activities then run too (they must wait by nothing but trio and the
            visit's clock, and use no threads); or a strategy of either.
        children: The machines (or programs) its states run as child flows, by name; without them such a state is like
            any other.
        contexts: What flows are started with. By default any value the context's types allow, with timeouts of 1 to 600
            seconds.
        events: How to make events whose fields cannot hold any value of their types; by default they can.
        opens: Opens an engine; `open_engine` by default.
    """

    class Model(FlowModel):
        pass

    if isinstance(subject, st.SearchStrategy):
        Model.subjects = subject
    else:
        Model.subjects = st.just(subject)
        Model.__name__ = Model.__qualname__ = f"{machine_of(subject).name.title().replace('_', '')}Model"
    Model.children = children or {}
    for child in Model.children.values():
        simplest_context(machine_of(child))  # now, because hypothesis does not search inside a search
    Model.contexts = contexts
    Model.events = events or {}
    Model.opens = staticmethod(opens)
    return Model
