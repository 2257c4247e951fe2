"""Activities that do what a test orders (puppets), and a record of everything they did (the stage).

Each state of a program gets two puppets besides the program's own activities. A puppet waits for orders: send an event,
announce the effect, fail, end, or send a last event when cancelled. The stage knows the active puppets and the
acknowledged sends, and sees every change when it is published; a broken promise becomes a complaint. A stage belongs to
one process: after a kill, there is a new one (`Stage.next_life`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from functools import cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
import trio
from hypothesis import strategies as st
from typing_extensions import override

from ..engine.engine import Engine
from ..engine.errors import EffectUncertain, UsedTwice
from ..engine.feed import Feed
from ..engine.history import Change
from ..engine.journal.commits import Commits
from ..engine.journal.journal import Journal
from ..engine.journal.records import Record
from ..engine.machine.machine import Machine
from ..engine.machine.parts import Event
from ..engine.visit import Activity, Intent, Program, Visit
from ..errors import Network
from .tables import example, structs

PUPPETS: Final = 2
PATIENCE: Final = st.integers(1, 600)
"""Seconds for the context fields that states name as their timeout."""
OUTSIDE: Final = 0
"""The visit number of an event from outside, which any visit takes."""

Order = Callable[[Visit[Any]], Awaitable[bool]]
"""What a puppet does next; returns True to end the puppet."""


class Acknowledged(NamedTuple):
    """An event whose sender was told that it is durable."""

    visit: int
    name: str
    body: str


class Puppet:
    """One activity of one visit."""

    def __init__(self, visit: Visit[Any]) -> None:
        self.visit = visit
        self.orders, self._given = trio.open_memory_channel[Order](100)
        self.last_words: Event | None = None

    async def next_order(self) -> Order:
        """Wait for the next order."""
        return await self._given.receive()


class Stage:
    """Adds puppets to programs and observes the engine that runs them.

    Attributes:
        puppets: The active puppets, in the order they started.
        finished: By flow, how many puppets of its current visit have ended without being cancelled.
        complaints: The broken promises that were seen.
        acknowledged: By flow, every event whose send returned as durable.
        published: By flow, the number of the last published change.
        started: The flows, in the order they were started.
        on_change: Called with every change when it is published, before any subscriber gets it.
    """

    def __init__(self) -> None:
        self.puppets: list[Puppet] = []
        self.finished: Counter[str] = Counter()
        self._visits: dict[str, Visit[Any]] = {}
        self.started: dict[str, None] = {}
        self.complaints: list[str] = []
        self.acknowledged: dict[str, Counter[Acknowledged]] = {}
        self.published: dict[str, int] = {}
        self.on_change: Callable[[Change], None] | None = None
        self.engine: Engine | None = None

    def next_life(self) -> Stage:
        """The stage for the process after a kill; it keeps what was acknowledged."""
        stage = Stage()
        stage.complaints = self.complaints
        stage.acknowledged = deepcopy(self.acknowledged)
        stage.started = dict(self.started)
        return stage

    # --- plays ----------------------------------------------------------------------------------------------------

    def play(self, subject: Machine[Any] | Program[Any], children: Mapping[str, Program[Any]]) -> Program[Any]:
        """The program with puppets in every state; states that run a child flow run it, when its program is given."""
        machine = subject.machine if isinstance(subject, Program) else subject
        own = subject.activities if isinstance(subject, Program) else {}
        activities: dict[str, list[Activity]] = {}
        for name, state in machine.states.items():
            if not state.final:
                activities[name] = [*own.get(name, ()), *[self._puppet] * PUPPETS]
                for child in state.children:
                    if not own and child in children:
                        activities[name].append(_child_runner(children[child]))
        return Program(machine, activities)

    def watch(self, engine: Engine) -> None:
        """Observe every change of an engine that has just been opened."""
        self.engine = engine
        self.puppets.clear()
        self.finished.clear()
        self.published.clear()
        engine.feed = Witness(self._changed)
        engine.store.commits = _LastingCommits(engine.journal)

    async def _puppet(self, visit: Visit[Any]) -> None:
        puppet = Puppet(visit)
        for other in self.puppets:
            if other.visit.flow == visit.flow and other.visit is not visit:
                self.complaints.append(
                    f"{visit.flow} came to visit {visit.incarnation} of {visit.state} before everybody had left "
                    f"visit {other.visit.incarnation} of {other.visit.state}"
                )
        if self._visits.get(visit.flow) is not visit:
            self._visits[visit.flow], self.finished[visit.flow] = visit, 0
        self.puppets.append(puppet)
        try:
            while not await (await puppet.next_order())(visit):
                pass
            self.finished[visit.flow] += 1
        except trio.Cancelled:
            if puppet.last_words is not None:
                await self.send(visit, puppet.last_words, shielded=True)
            raise
        finally:
            self.puppets.remove(puppet)

    # --- orders ---------------------------------------------------------------------------------------------------

    async def send(self, visit: Visit[Any], event: Event, *, shielded: bool = False) -> bool:
        """Send an event from a visit, and note the acknowledgement."""
        left = visit.left
        taken = False
        with trio.CancelScope(shield=shielded):
            taken = await visit.send(event)
        if taken and left:
            self.complaints.append(f"{visit.flow}: {event!r} was taken from visit {visit.incarnation}, which was left")
        if taken:
            self.acknowledge(visit.flow, event, visit.incarnation)
        return False

    def acknowledge(self, flow: str, event: Event, visit: int = OUTSIDE) -> None:
        """Note that a send returned as durable; the event must be on disk by now."""
        acknowledged = Acknowledged(visit, type(event).__name__, msgspec.json.encode(event).decode())
        self.acknowledged.setdefault(flow, Counter())[acknowledged] += 1
        self.complaints += self.missing(flow, self._records(flow))

    def missing(self, flow: str, records: list[Record]) -> list[str]:
        """A problem for each acknowledged event that is not in a flow's records."""
        found: Counter[Acknowledged] = Counter()
        for before, record in pairwise(records):
            if record.kind == "event":
                found[Acknowledged(before.incarnation, record.name, record.body)] += 1
                found[Acknowledged(OUTSIDE, record.name, record.body)] += 1
        acknowledged = self.acknowledged.get(flow, Counter[Acknowledged]())
        return [f"{flow}: {event} was acknowledged and is not in the journal" for event in acknowledged - found]

    async def announce(self, visit: Visit[Any]) -> bool:
        """Announce the state's effect; whether its result counts as uncertain must agree with the journal."""
        key = f"{visit.flow}:{visit.incarnation}:effect"
        announced = inherited = False
        for each in self._records(visit.flow):
            ended = each.kind in {"paused", "retried"}
            withdrawn = msgspec.json.decode(each.body).get("withdrawn", ()) if ended else ()
            announced = (announced or each.name == key) and key not in withdrawn
            inherited = announced and (inherited or each.kind == "resumed")
        try:
            intent = await visit.announce("effect")
        except UsedTwice:
            if not announced:
                self.complaints.append(f"{key} was refused as announced twice, and was not announced")
            return False
        except EffectUncertain:
            if not inherited:
                self.complaints.append(f"{key} counts as uncertain and was never announced by an earlier process")
            raise
        if intent.key != key or intent.uncertain != inherited:
            self.complaints.append(f"{intent} was given for {key}, which an earlier process announced: {inherited}")
        if not any(each.kind == "intent" and each.name == key for each in self._records(visit.flow)):
            self.complaints.append(f"{key} was announced and is not on disk")
        return False

    async def come_to_nothing(self, visit: Visit[Any]) -> bool:
        """Announce the state's effect, and fail with an error that proves that it did not happen."""
        await self.announce(visit)
        visit.withdraw(Intent(f"{visit.flow}:{visit.incarnation}:effect", uncertain=False))
        return await self.fail(visit)

    async def fail(self, _visit: Visit[Any]) -> bool:
        """Fail. Raises `Network`."""
        raise Network("the network is down, as the test ordered", sent=False)

    async def come_to_an_end(self, _visit: Visit[Any]) -> bool:
        """End without leaving the state."""
        await trio.lowlevel.checkpoint()
        return True

    # --- what is seen ---------------------------------------------------------------------------------------------

    def _records(self, flow: str) -> list[Record]:
        assert self.engine is not None
        return self.engine.journal.records(flow)

    def _changed(self, change: Change) -> None:
        assert self.engine is not None
        row = self.engine.journal.flow(change.flow)
        if row is None or row.seq < change.seq:
            self.complaints.append(
                f"{change.flow}: record {change.seq} ({change.event}) was shown before it was on disk"
            )
        last = self.published.get(change.flow)
        if last is not None and change.seq != last + 1:
            self.complaints.append(f"{change.flow}: record {change.seq} was shown after record {last}")
        self.published[change.flow] = change.seq
        self.started.setdefault(change.flow)
        if self.on_change is not None:
            self.on_change(change)


class Witness(Feed):
    """A feed that reports every change when it is published; replaces an engine's feed."""

    def __init__(self, saw: Callable[[Change], None]) -> None:
        super().__init__()
        self._saw = saw

    @override
    def hears(self, flow: str) -> bool:
        return True

    @override
    def publish(self, change: Change) -> None:
        self._saw(change)
        super().publish(change)


class _LastingCommits(Commits):
    """Commits that yield to other tasks, as a disk's latency does, without using a thread."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal, inline=True)

    @override
    async def write(self, operation: Callable[[], None]) -> None:
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
            await super().write(operation)
            await trio.lowlevel.checkpoint()


def _child_runner(child: Program[Any]) -> Activity:
    context = simplest_context(child.machine)

    async def run_child(visit: Visit[Any]) -> None:
        await visit.run_child(child, context)
        await trio.sleep_forever()  # the puppets send the event that follows

    return run_child


def contexts_of(machine: Machine[Any]) -> st.SearchStrategy[Any]:
    """Contexts to start flows with: any values, but timeouts of 1 to 600 seconds."""
    timeouts = sorted({state.timeout for state in machine.states.values() if isinstance(state.timeout, str)})
    seconds = st.fixed_dictionaries(dict.fromkeys(timeouts, PATIENCE.map(float)))

    def with_timeouts(context: Any, changes: dict[str, float]) -> Any:
        return msgspec.structs.replace(context, **changes)

    return st.builds(with_timeouts, structs(machine.context_type), seconds)


@cache
def simplest_context(machine: Machine[Any]) -> Any:
    """The simplest context to start a flow with; cached, since hypothesis cannot search for it inside an example."""
    return example(contexts_of(machine))
