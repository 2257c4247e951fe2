"""`Machine`: the table of states, events and rows that decides what an event does to a flow.

Theory
------
A flow (a login, a checkout) is at every moment in exactly one *state*: a situation, such as "awaiting the callback".
*Events* are facts in the past tense ("callback received"). *Rows* say what an event does in a state:

    event, source state -> destination, guard, update

`Machine.step(state, context, event)` looks up the row and returns the new state and the new context. It is pure: no
clock, no I/O, no trio. What must be *done* while in a state belongs to the flow's activities, elsewhere; a step returns
the new state and starts nothing. That is why the same table can be stepped, tested exhaustively, drawn, replayed from a
journal and run by another engine.

- A row whose destination is `STAY` records progress and leaves the state alone. A row that names the state it starts
  from re-enters it: what was being done there starts anew.
- `ANY` means every state that is not final. A row for one state goes before a row for `ANY`.
- Rows for the same event and state are tried from the top; only guarded rows may have others after them.
- A final state has a verdict and no rows. An event that no row takes raises `EventNotAccepted` and changes nothing.

The stepping itself is done by a `transitions.Machine` that is built once for each table and shared by all flows: one
throw-away cursor a step, no `add_model`, no callbacks on entering or leaving a state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

import msgspec
import transitions

from ..errors import EventNotAccepted, NotStorable
from .functions import name_of, refuse_awaitable
from .identity import fingerprint, named_fingerprint
from .migrations import Migration, check_migrations
from .parts import Context, DeadlinePassed, Event, Row, State, Step
from .reach import later_events
from .rules import (
    check_context,
    check_course,
    check_identity,
    check_names,
    check_paths,
    check_promises,
    check_result,
    check_rows,
    check_states,
    event_decoder,
    expand,
)
from .storable import Codec, is_mutable
from .stored import decoded
from .timeouts import TIMEOUT_RULE, context_timeouts, is_timeout

C = TypeVar("C", bound=Context)


class _Cursor:
    """The model of one step: the row that is taken sets its `state` and `context`."""

    __slots__ = ("context", "row", "state")

    def __init__(self, state: str, context: object) -> None:
        self.state = state
        self.context = context
        self.row: Row | None = None


class Machine(Generic[C]):
    """A validated table that steps.

    Args:
        name: What the machine is called; it names the flow in the journal and on the command line.
        version: Raised whenever flows of the old table could not continue in the new one.
        initial: The state a flow starts in.
        context: The context's type.
        states: Every state.
        rows: Every row.
        result: What a finished flow returns, from its context; the whole context when not given. Holds no secret.
        migrations: How flows that older tables wrote continue in this one; see `engine/machine/migrations.py`.
        known_as: Fingerprints of this version under which flows of this very table are stored: from before an event
            got a field with a default, and of release 0.1.0, whose fingerprint included the names of functions, where
            a function was renamed since.
        formerly: Names the machine had before; flows stored under one of them continue.
        identity: The context's fields that make two starts with one key the same: other values are refused there.
        course: The states of a flow that succeeds without a detour, in order, for drawings: they are in one line.

    Raises:
        MachineInvalid: The table breaks a rule: duplicate or shadowed rows, unknown or unreachable states, a state that
            cannot reach a final state, a timeout without a row, an effect without a resume policy, a name that cannot
            be used everywhere, an event or a context that cannot be stored, a function that cannot be called.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int,
        initial: str,
        context: type[C],
        states: Sequence[State],
        rows: Sequence[Row[C]],
        result: Callable[[C], Mapping[str, object]] | None = None,
        migrations: Sequence[Migration] = (),
        known_as: Sequence[str] = (),
        formerly: Sequence[str] = (),
        identity: Sequence[str] = (),
        course: Sequence[str] = (),
    ) -> None:
        check_names(name, version, formerly, known_as)
        check_context(name, context)
        self.name = name
        self.names = (name, *formerly)
        """Its name, then the names it had before: flows are stored under each of them."""
        self.version = version
        self.initial = initial
        self.context_type = context
        self.states = check_states(name, initial, states)
        self.rows = check_rows(name, context, self.states, rows)
        self.expanded = expand(name, self.states, self.rows)
        """(source, row) for every source a row holds in, `ANY` written out, in the order they are tried."""
        self.course = check_course(name, initial, course, self.expanded)
        """The states of a flow that succeeds without a detour, for drawings; empty where the table names none."""
        check_promises(name, context, self.states, self.expanded)
        check_paths(name, initial, self.states, self.expanded)
        check_result(name, context, result)
        check_identity(name, context, identity)
        self._result = result
        self.identity = tuple(identity)
        """The context's fields that make two starts with one key the same."""
        self.events: dict[str, type[Event]] = {row.event.__name__: row.event for row in self.rows}
        self._event_decoder = event_decoder(name, self.events)
        self._context_decoder = msgspec.json.Decoder(context)
        self._event_codecs: dict[type[Event], Codec[Event]] = {}
        self.fingerprint, self._fingerprints = self._identities(known_as)
        check_migrations(name, version, self.fingerprint, self.states, migrations)
        self.migrations = tuple(migrations)
        stepper = self._build_stepper()
        self._triggers = {name: stepper.events[_trigger(name)] for name in self.events}

    def wrote(self, version: int, fingerprint: str) -> bool:
        """Whether a flow with this version and fingerprint is one of this table."""
        return version == self.version and fingerprint in self._fingerprints

    def step(self, state: str, context: C, event: Event) -> Step[C]:
        """What `event` means in `state`; changes nothing and starts nothing.

        Raises:
            EventNotAccepted: No row of this state takes the event, or every guard refused it.
            NotStorable: The row's update returned something else than a context of the machine.
        """
        name = type(event).__name__
        if self.events.get(name) is not type(event):  # also another class of the same name
            raise self.refusal(state, event)
        trigger = self._triggers[name]
        cursor = _Cursor(state, context)
        if state not in trigger.transitions or not trigger.trigger(cursor, event):
            raise self.refusal(state, event)
        # A row was taken, or trigger() would have been False.
        entered = cursor.row is not None and cursor.row.to is not None
        if type(cursor.context) is not type(context):
            self.encode_context(cast("C", cursor.context))  # refuses it by name
        return Step(cursor.state, cast("C", cursor.context), entered)

    def refusal(self, state: str, event: object) -> EventNotAccepted:
        """The error for what no row of `state` takes; of what is no event at all it has the type."""
        # Of an event class that was sent instead of an instance of it, that is its metaclass.
        stranger = None if isinstance(event, Event) else type(event)
        named = event if isinstance(event, type) else type(event)
        return EventNotAccepted(state, named.__name__, machine=self.name, stranger=stranger)

    def accepts(self, state: str) -> frozenset[type[Event]]:
        """The events that have a row in `state`, whatever their guards say."""
        return frozenset(row.event for source, row in self.expanded if source == state)

    def decode_event(self, body: bytes | str) -> Event:
        """An event from its JSON; `msgspec.DecodeError` if it is none of this machine's."""
        return decoded(self._event_decoder, body)

    def decode_context(self, body: bytes | str) -> C:
        """A context from its JSON; `msgspec.DecodeError` if it does not fit."""
        return decoded(self._context_decoder, body)

    def encode_event(self, event: Event) -> tuple[str, Event]:
        """An event as JSON, and as it will be read back.

        Raises:
            NotStorable: It is none of this machine's, cannot be written, or would not be read back as it is.
        """
        codec = self._event_codecs.get(type(event))
        return (codec or self._codec_of(event)).encode(event)

    def encode_context(self, context: Context) -> tuple[str, C]:
        """A context as JSON, and as it will be read back: a flow continues with that.

        Raises:
            NotStorable: It is not of this machine's class, cannot be written, or would not be read back as it is.
        """
        return self._context_codec.encode(cast("C", context))

    def _codec_of(self, event: Event) -> Codec[Event]:
        name, cls = type(event).__name__, type(event)
        if self.events.get(name) is not cls:
            raise NotStorable(f"{name}: it is no event of machine {self.name}", field=name)
        codec = self._event_codecs[cls] = Codec(cls, self._event_decoder)
        return codec

    # What a flow needs and a drawing does not is made when it is first used: a program that is started to show
    # something has the tables of every machine.

    @cached_property
    def _context_codec(self) -> Codec[C]:
        return Codec(self.context_type, self._context_decoder)

    @cached_property
    def mutable_context(self) -> bool:
        """Whether a context can be changed in place: it has a list, a dictionary or the like somewhere inside."""
        return is_mutable(self.context_type)

    @cached_property
    def _timeouts(self) -> tuple[tuple[str, bool], ...]:
        return context_timeouts(self.states, self.context_type)

    @cached_property
    def _later(self) -> Mapping[str, frozenset[type[Event]]]:
        return later_events(self.states, self.expanded)

    def check_timeouts(self, context: C) -> None:
        """Check every field of the context that a state has as its timeout.

        Raises:
            NotStorable: One is no finite, positive number of seconds up to a hundred years; the message names it.
        """
        for name, optional in self._timeouts:
            seconds = getattr(context, name)
            if not (is_timeout(seconds) or (seconds is None and optional)):
                field = f"{type(context).__name__}.{name}"
                raise NotStorable(f"{field}: {seconds!r} is no timeout; {TIMEOUT_RULE}", field=field)

    def keeps(self, state: str, event_type: type[Event]) -> bool:
        """Whether a state that can be entered from `state`, by one or more steps, has a row for the event.

        Never for `DeadlinePassed`: kept, it would end a later state's time before it has begun.
        """
        return event_type is not DeadlinePassed and event_type in self._later.get(state, ())

    def timeout_of(self, state: str, context: C) -> float | None:
        """Seconds a flow may stay in `state`, or None for no limit."""
        timeout = self.states[state].timeout
        seconds = getattr(context, timeout) if isinstance(timeout, str) else timeout
        return None if seconds is None else float(seconds)

    def shares_deadline(self, left: str, entered: str) -> bool:
        """Whether the two states share one deadline, which entering the second keeps; see `State.timeout`."""
        timeout = self.states[entered].timeout
        return isinstance(timeout, str) and self.states[left].timeout == timeout

    def result(self, context: C) -> Mapping[str, object]:
        """What a finished flow returns: `Outcome.result`."""
        if self._result is not None:
            return self._result(context)
        fields = cast("dict[str, object]", msgspec.to_builtins(context))
        fields.pop("problem_code", None)  # `Outcome.code` has it
        return fields

    def describe(self) -> dict[str, Any]:
        """The whole table as plain data; `identity.py` makes the fingerprint stored with every flow of it."""

        def fields(struct: type[msgspec.Struct]) -> list[str]:
            return list(struct.__struct_fields__)

        return {
            "name": self.name,
            "version": self.version,
            "initial": self.initial,
            "context": fields(self.context_type),
            "events": {name: fields(event) for name, event in sorted(self.events.items())},
            "states": [msgspec.to_builtins(state) for state in self.states.values()],
            "rows": [
                [row.event.__name__, row.source, row.to, _name(row.guard), _name(row.update)] for row in self.rows
            ],
        }

    def _identities(self, known_as: Sequence[str]) -> tuple[str, frozenset[str]]:
        """The fingerprint, and all under which flows of this very table are stored."""
        table = (self.version, self.initial, self.context_type, self.events, tuple(self.states.values()), self.rows)
        own = [identity(name, *table) for name in self.names for identity in (fingerprint, named_fingerprint)]
        return own[0], frozenset({*own, *known_as})

    def _build_stepper(self) -> transitions.Machine:
        stepper = _Stepper(
            model=None,
            states=[transitions.State(name) for name in self.states],
            initial=self.initial,
            auto_transitions=False,
            send_event=True,
        )
        for source, row in self.expanded:
            stepper.add_transition(_trigger(row.event.__name__), source, row.to, row=row)
        return stepper


def _trigger(event: str) -> str:
    # No Python name, so it is never that of an attribute of the cursor, which `transitions` refuses.
    return f"event {event}"


def _name(function: Callable[..., object] | None) -> str | None:
    return None if function is None else name_of(function)


class _RowTaken(transitions.Transition):
    """A row, as `transitions` tries it.

    The library's callbacks (before and after a transition, on leaving and entering a state) and their debug logging are
    left out: no table uses them, and they were most of the cost of a step.
    """

    def __init__(self, source: str, dest: str | None, *_callbacks: object, row: Row) -> None:
        super().__init__(source, cast("str", dest))  # its annotation omits None, which `STAY` rows have
        self._row = row

    def execute(self, event_data: transitions.EventData) -> bool:
        cursor, (event,) = cast("_Cursor", event_data.model), event_data.args
        row = self._row
        if row.guard is not None:
            holds = row.guard(cursor.context, event)
            if not holds:
                return False
            if holds is not True:
                refuse_awaitable(holds, row.label)
        if row.update is not None:  # before the state changes: one that raises leaves the cursor as it was
            cursor.context = row.update(cursor.context, event)
        cursor.row = row
        if row.to is not None:
            cursor.state = row.to
        return True


class _EventTaken(transitions.Event):
    """An event that is tried on the rows of a state, in their order: without the library's queue and its logging."""

    def trigger(self, model: _Cursor, event: Event) -> bool:
        data = transitions.EventData(None, self, self.machine, model, args=(event,), kwargs={})
        return any(row.execute(data) for row in self.transitions[model.state])


class _Stepper(transitions.Machine):
    event_cls = _EventTaken
    transition_cls = _RowTaken
