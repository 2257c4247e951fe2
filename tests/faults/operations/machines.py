"""The machines of the histories: small tables whose activities do what a plan orders, and report what they do.

Every machine takes `Poked` anywhere, without a move; `Stepped` leads to the next state. `Early` has a row in the first
state only, `Late` in the second only, and no machine knows `Foreign`. In the first state of `rests` a flow needs
no process.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, Protocol, cast

import msgspec
import trio
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.errors import VaultMissing
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    ResumePolicy,
    Row,
    State,
    Verdict,
    on,
)
from systemprompt_cloud.engine.visit import Activity, Program, Visit, await_signal

from .log import NO_TROUBLE
from .plan import FOREVER, Start

LOOPS: Final = 24
"""How many events the activity of the habit `loops` sends in a row."""
IN_A_ROW: Final = 16
"""How many of them may be sent before other tasks get a turn."""
ANNOUNCED: Final = 8
"""How many effects the activity of the habit `announces` announces in a row."""
GIVEN: Final = "given"
KEPT: Final = "kept"


class Task(Context, frozen=True, kw_only=True):
    """What every flow knows.

    Attributes:
        number: The number of the call that started it.
        habit: What its activities do by themselves.
        patience: The timeout of the states that have one, in seconds.
        secret: Whether it was started with a secret.
        taken: How many `Poked` were taken.
    """

    number: int = 0
    habit: str = "waits"
    patience: float = FOREVER
    secret: bool = False
    taken: int = 0


class Numbered(Event, frozen=True):
    """An event that can be recognized: no two have the same number."""

    number: int


class Poked(Numbered, frozen=True):
    """Is taken in every state that is not final."""


class Stepped(Numbered, frozen=True):
    """Leads to the next state."""


class Early(Numbered, frozen=True):
    """Is taken in the first state only."""


class Late(Numbered, frozen=True):
    """Is taken in the second state only."""


class Foreign(Numbered, frozen=True):
    """Is taken nowhere."""


class ChildEnded(Event, frozen=True):
    """A child flow ended."""

    verdict: str


class OrderedFailure(CloudError, hint="Resume the flow."):
    """What an activity raises when it is ordered to fail."""


BY_NAME: Final[dict[str, type[Numbered]]] = {each.__name__: each for each in (Poked, Stepped, Early, Late, Foreign)}


def _poked(context: Task, _: Poked) -> Task:
    return msgspec.structs.replace(context, taken=context.taken + 1)


def _machine(name: str, states: tuple[State, State], *rows: Row, steps: bool = True) -> Machine[Task]:
    first, second = (state.name for state in states)
    return Machine(
        name,
        version=1,
        initial=first,
        context=Task,
        states=[
            *states,
            State("done", "it is done", verdict=Verdict.SUCCESS),
            *([State("expired", "its time is over", verdict=Verdict.FAILURE)] if states[0].timeout else []),
            State("cancelled", "it was cancelled", verdict=Verdict.CANCELLED),
        ],
        rows=[
            on(Stepped, first, second),
            on(Stepped, second, "done"),
            on(Early, first, STAY),
            on(Late, second, STAY),
            on(Poked, ANY, STAY, update=_poked),
            *rows,
            on(CancelRequested, ANY, "cancelled"),
        ],
    )


def _paying(name: str, policy: ResumePolicy) -> Machine[Task]:
    first, second = (State(each, each[0], effect="pays", resume=policy) for each in ("first", "second"))
    return _machine(name, (first, second))


PLAIN: Final = _machine("plain", (State("first", "f"), State("second", "s")))
TIMED: Final = _machine(
    "timed",
    (State("first", "f", timeout="patience"), State("second", "s", timeout="patience", late="continue")),
    on(DeadlinePassed, "first", "expired"),
    on(DeadlinePassed, "second", "expired"),
)
RESTS: Final = _machine(
    "rests",
    (State("first", "f", timeout="patience"), State("second", "s")),
    on(DeadlinePassed, "first", "expired"),
)
RETRIES: Final = _paying("retries", ResumePolicy.RETRY)
ASKS: Final = _paying("asks", ResumePolicy.ASK)


def _parent(name: str, child: str) -> Machine[Task]:
    return _machine(
        name,
        (State("first", "f", child=child), State("second", "s", child=child)),
        on(ChildEnded, "first", "second"),
        on(ChildEnded, "second", "done"),
    )


PARENT: Final = _parent("parent", "plain")
OUTER: Final = _parent("outer", "parent")
FAN: Final = _parent("fan", "plain")
MACHINES: Final = {machine.name: machine for machine in (PLAIN, TIMED, RETRIES, ASKS, PARENT, OUTER, FAN, RESTS)}


def context_of(start: Start, number: int) -> Task:
    """What a flow is started with."""
    return Task(number=number, habit=start.habit, patience=start.patience, secret=start.secret)


class Work(Protocol):
    """One activity at work."""

    async def next_order(self) -> str:
        """Wait for an order; one of `plan.ORDERS`."""
        ...

    def over(self, how: str) -> None:
        """The activity has ended."""
        ...


class Watcher(Protocol):
    """What activities report to, and get their orders from."""

    @property
    def turns(self) -> int:
        """How often the scheduler has given every task that could run a turn."""
        ...

    def at_work(self, visit: Visit[Any]) -> Work:
        """An activity begins."""
        ...

    def number(self) -> int:
        """A number for an event."""
        ...

    def taken(self, flow: str, number: int) -> None:
        """An event that an activity sent was acknowledged."""
        ...

    def has_ended(self, flow: str) -> bool:
        """Whether a flow has ended; another process may remove its secrets then."""
        ...

    def complain(self, problem: str) -> None:
        """A promise was broken."""
        ...


class Activities:
    """The activities of the machines.

    Args:
        watcher: Sees everything they do.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def programs(self) -> list[Program[Any]]:
        """Every machine with its activities."""
        plain = _program(PLAIN, self._obeys(PLAIN))
        parent = _program(PARENT, self._obeys(PARENT), self._runs(plain))
        return [
            plain,
            _program(TIMED, self._obeys(TIMED), self._obeys(TIMED)),
            _program(RETRIES, self._obeys(RETRIES)),
            _program(ASKS, self._obeys(ASKS)),
            parent,
            _program(OUTER, self._runs(parent)),
            _program(FAN, self._obeys(FAN), self._runs_several(plain)),
            Program(RESTS, {"first": [await_signal], "second": [self._obeys(RESTS)]}),
        ]

    @contextmanager
    def _working(self, visit: Visit[Any]) -> Generator[Work]:
        work = self._watcher.at_work(visit)
        try:
            yield work
        except BaseException as exc:
            work.over(_kind(exc))
            raise
        else:
            work.over("returned")

    def _runs(self, child: Program[Any]) -> Activity:
        async def run_child(visit: Visit[Task]) -> Event:
            with self._working(visit):
                context = Task(number=visit.context.number, habit=visit.context.habit)
                outcome = await visit.run_child(child, context)
                return ChildEnded(outcome.verdict)

        return run_child

    def _runs_several(self, child: Program[Any]) -> Activity:
        async def run_children(visit: Visit[Task]) -> Event:
            verdicts: dict[str, str] = {}

            async def run(key: str) -> None:
                context = Task(number=visit.context.number, habit=visit.context.habit)
                verdicts[key] = (await visit.run_child(child, context, key=key)).verdict

            with self._working(visit):
                async with trio.open_nursery() as nursery:
                    for key in ("left", "right"):
                        nursery.start_soon(run, key)
                return ChildEnded(" ".join(sorted(verdicts.values())))

        return run_children

    def _obeys(self, machine: Machine[Task]) -> Activity:
        async def obey(visit: Visit[Task]) -> Event | None:
            with self._working(visit) as work:
                try:
                    await self._by_itself(machine, visit)
                    if visit.context.habit == "quick":
                        return Stepped(self._watcher.number())
                    return await self._carry_out(machine, visit, work)
                except trio.Cancelled:
                    if visit.context.habit == "lingers":
                        with trio.CancelScope(shield=True):
                            await _checkpoints(3)
                            await self._send(visit, Poked(self._watcher.number()))
                    raise

        return obey

    async def _by_itself(self, machine: Machine[Task], visit: Visit[Task]) -> None:
        context = visit.context
        if context.secret:
            await self._reveal(visit)
        match context.habit:
            case "keeps":
                await visit.keep(KEPT, f"kept-{visit.flow}")
            case "raises" if visit.state == machine.initial:
                raise OrderedFailure("it always fails")
            case "announces" if machine.states[visit.state].effect is not None:
                for number in range(ANNOUNCED):
                    with trio.CancelScope(shield=number > 0):
                        await visit.announce(f"pay-{number}")
            case "loops":
                await self._loop(visit)
            case _:
                pass

    async def _carry_out(self, machine: Machine[Task], visit: Visit[Task], work: Work) -> Event | None:
        while True:
            match await work.next_order():
                case "step":
                    return Stepped(self._watcher.number())
                case "twice":
                    await self._send(visit, Stepped(self._watcher.number()))
                    await self._send(visit, Stepped(self._watcher.number()))
                case "raise":
                    raise OrderedFailure("it was ordered to fail")
                case "exit":
                    raise SystemExit("it was ordered to exit")
                case "announce" if machine.states[visit.state].effect is not None:
                    with trio.CancelScope(shield=True):
                        await visit.announce(f"pay{self._watcher.number()}")
                case "stop":
                    return None
                case _:
                    pass

    async def _reveal(self, visit: Visit[Task]) -> None:
        try:
            await visit.reveal(f"vault:{GIVEN}")
        except VaultMissing:
            if not visit.left and not self._watcher.has_ended(visit.flow):
                self._watcher.complain(f"the secret that {visit.flow} was started with is gone")
            raise

    async def _loop(self, visit: Visit[Task]) -> None:
        turn, row = self._watcher.turns, 0
        for _ in range(LOOPS):
            await self._send(visit, Poked(self._watcher.number()))
            row = row + 1 if self._watcher.turns == turn else 0
            turn = self._watcher.turns
            if row > IN_A_ROW:
                self._watcher.complain(f"{visit.flow} sent {row} events in a row, and no other task got a turn")
                await trio.lowlevel.checkpoint()
                return

    async def _send(self, visit: Visit[Task], event: Numbered) -> None:
        if await visit.send(event):
            self._watcher.taken(visit.flow, event.number)


def _program(machine: Machine[Task], *activities: Activity) -> Program[Any]:
    return Program(machine, {state.name: activities for state in machine.states.values() if not state.final})


def _kind(exc: BaseException) -> str:
    """The name of what an activity raised; of a group, that of what pauses a flow by itself, where there is such."""
    if not isinstance(exc, BaseExceptionGroup):
        return type(exc).__name__
    group = cast("BaseExceptionGroup[BaseException]", exc)
    kinds = {_kind(each) for each in group.exceptions}
    return next(iter(sorted(kinds - NO_TROUBLE)), "FlowParked" if "FlowParked" in kinds else "Cancelled")


async def _checkpoints(count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.checkpoint()
