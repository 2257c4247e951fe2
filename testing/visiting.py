"""One state visited by itself, without a journal: tries its activities.

    visited = await visit_state(program, "packing", Parcel())
    assert visited.trouble is None
    assert visited.to == "travelling"

Behind the visit is the program's own table. Every event is written and read back, and so is the context after it, so
activities meet what they meet after a restart. What an engine would pause a flow for is `trouble`: an activity that
raises, that returns what is no event of the machine or none that the state takes, or that ends without leading out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

import msgspec
import trio

from ..engine.errors import EffectUncertain, UnexpectedFailure, VaultMissing
from ..engine.history import Outcome
from ..engine.journal.records import FlowRow
from ..engine.journal.vault import PREFIX
from ..engine.machine.machine import Machine
from ..engine.machine.parts import Context, Event, ResumePolicy
from ..engine.retries import Attempts, Retry
from ..engine.run import Run, run_state
from ..engine.sizes import check_secret
from ..engine.visit import Intent, Program, Visit
from .clock import VirtualClock

P = ParamSpec("P")
T = TypeVar("T")

LONGEST = 366 * 86_400.0
"""Seconds of a visit when no other number is given."""


class Visited(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a visit.

    Attributes:
        to: The state it led to; None when it did not.
        context: What the flow knows after it.
        events: The events that counted, in order.
        effects: The effects that were announced.
        secrets: What is in the vault, by name.
        retried: The failures that were retried, in order: the activity's name and the error.
        trouble: What an engine would pause the flow for; None when an event led out.
    """

    to: str | None
    context: Any
    events: list[Event]
    effects: list[str]
    secrets: dict[str, str]
    retried: list[tuple[str, BaseException]]
    trouble: BaseException | None


class _Table:
    """The host of one visit: a table, and memory instead of a journal and a vault."""

    def __init__(
        self,
        machine: Machine[Any],
        state: str,
        context: Context,
        clock: VirtualClock,
        secrets: Mapping[str, str],
        children: Mapping[str, Outcome],
        uncertain: bool,
    ) -> None:
        self.machine, self.state = machine, state
        self.context: Context = machine.encode_context(context)[1]
        self.clock, self.children, self.uncertain = clock, children, uncertain
        self.secrets = dict(secrets)
        self.scratch: dict[str, Any] = {}
        self.events: list[Event] = []
        self.effects: list[str] = []
        self.inherited: frozenset[str] = frozenset()
        self.failures: list[tuple[str, BaseException]] = []
        self.to: str | None = None
        self.run: Run

    def current_context(self) -> Context:
        """The context after the last event."""
        return self.context

    def current_state(self) -> str:
        """The state after the last event."""
        return self.to or self.state

    async def deliver(self, event: Event, incarnation: int) -> bool:
        """Take a step of the table; False when it was left before."""
        await trio.lowlevel.checkpoint()
        if self.to is not None or incarnation != self.run.visit.incarnation:
            return False
        if self.machine.events.get(type(event).__name__) is not type(event):
            raise self.machine.refusal(self.state, event)
        _, event = self.machine.encode_event(event)
        step = self.machine.step(self.state, self.context, event)
        _, self.context = self.machine.encode_context(step.context)
        self.events.append(event)
        if step.entered:
            self.to = step.state
            self.run.leave()
        return True

    async def announce(self, effect: str, incarnation: int) -> Intent:
        """As an engine does; by an earlier process where the visit is `uncertain`. Raises `EffectUncertain`."""
        state = self.machine.states[self.state]
        if state.effect is None:
            raise UnexpectedFailure(f"{self.machine.name}: {self.state} declares no effect, and announces {effect}")
        key = f"flow:{incarnation}:{effect}"
        uncertain = self.uncertain or key in self.inherited
        if uncertain and state.resume is ResumePolicy.ASK:
            raise EffectUncertain(f"{effect}: it is not known whether it happened before the interruption")
        self.effects.append(effect)
        return Intent(key, uncertain=uncertain)

    def attempts(self, activity: str) -> Attempts:
        """How often it has failed."""
        return Attempts(sum(name == activity for name, _ in self.failures))

    async def retry(
        self,
        activity: str,
        retry: Retry,
        exc: BaseException,
        incarnation: int,
        begun: frozenset[str],
        withdrawn: frozenset[str],
    ) -> datetime | None:
        """As an engine does, without the jitter."""
        failures = self.attempts(activity).failures + 1
        if self.to is not None or incarnation != self.run.visit.incarnation or failures > retry.times:
            return None
        self.failures.append((activity, exc))
        self.inherited = (self.inherited | begun) - withdrawn
        return self.clock.now() + timedelta(seconds=retry.seconds(failures, 0.5))

    async def keep(self, name: str, secret: str) -> str:
        """Into memory."""
        check_secret(name, secret)
        self.secrets[name] = secret
        return f"{PREFIX}{name}"

    async def reveal(self, reference: str) -> str:
        """Out of memory. Raises `VaultMissing`."""
        if not await self.holds(reference):
            raise VaultMissing(f"there is no secret {reference}")
        return self.secrets[reference.removeprefix(PREFIX)]

    async def holds(self, reference: str) -> bool:
        """Whether it is in memory."""
        return reference.startswith(PREFIX) and reference.removeprefix(PREFIX) in self.secrets

    async def newest(self, machine: str, limit: int) -> Sequence[FlowRow]:
        """There are no other flows."""
        found: list[FlowRow] = []
        return found[:limit] if machine else found

    async def on_disk(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """At once."""
        return function(*args, **kwargs)

    async def run_child(self, visit: int, program: Program[Any], context: Context, key: str | None) -> Outcome:
        """The outcome that the test gave for the child's machine."""
        program.machine.encode_context(context)
        name = program.machine.name
        found = self.children.get(f"{name}:{key}", self.children.get(name))
        if found is None:
            raise LookupError(f"no outcome of the child {name} is given in `children`, in visit {visit}")
        return found


async def visit_state(
    program: Program[Any],
    state: str,
    context: Context,
    *,
    seconds: float = LONGEST,
    secrets: Mapping[str, str] | None = None,
    children: Mapping[str, Outcome] | None = None,
    uncertain: bool = False,
) -> Visited:
    """Run the activities of one state until an event leads out, or something is wrong.

    Args:
        program: The table and its activities.
        state: The state; not a final one.
        context: What the flow knows when it enters it.
        seconds: How long it may take on trio's clock; under `trio.testing.MockClock` no time passes for that.
        secrets: What is in the vault, by name.
        children: How child flows end, by the names of their machines, or `NAME:KEY` for one with a key.
        uncertain: Whether an earlier process has announced the effects, as after a crash.

    Raises:
        NotStorable: The context cannot be written and read back.
        trio.TooSlowError: It did not end in time.
    """
    clock = VirtualClock()
    host = _Table(program.machine, state, context, clock, secrets or {}, children or {}, uncertain)
    limit = program.machine.timeout_of(state, host.context)
    visit: Visit[Any] = Visit(
        host,
        flow="flow",
        state=state,
        incarnation=1,
        resumed=uncertain,
        deadline=None if limit is None else clock.now() + timedelta(seconds=limit),
        clock=clock,
    )
    with trio.fail_after(seconds):
        host.run = Run(visit)
        trouble = await run_state(host.run, program.activities[state])
    return Visited(
        to=host.to,
        context=host.context,
        events=host.events,
        effects=host.effects,
        secrets=host.secrets,
        retried=host.failures,
        trouble=trouble,
    )
