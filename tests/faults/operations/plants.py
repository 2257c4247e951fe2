"""Faults planted in the engine, one of each kind that the model is there to find.

Each takes something out of the engine, or puts it back as it was before it was right. A model that does not find them
in a few hundred histories proves nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from typing import Any, Final, TypeAlias

import trio
from systemprompt_cloud.base.moments import parse_moment
from systemprompt_cloud.engine import drive
from systemprompt_cloud.engine import engine as engine_module
from systemprompt_cloud.engine.claims import Claims
from systemprompt_cloud.engine.countdown import Countdown
from systemprompt_cloud.engine.driving import Driving
from systemprompt_cloud.engine.endings import Endings
from systemprompt_cloud.engine.errors import FlowParked, JournalError
from systemprompt_cloud.engine.gates import Gates
from systemprompt_cloud.engine.history import NO_BODY
from systemprompt_cloud.engine.inbox import Inbox
from systemprompt_cloud.engine.journal import commits
from systemprompt_cloud.engine.journal.commits import Commits
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import FlowRow, Record
from systemprompt_cloud.engine.ledger import Ledger
from systemprompt_cloud.engine.live import LiveFlow
from systemprompt_cloud.engine.run import Run
from systemprompt_cloud.engine.secrets import Removal
from systemprompt_cloud.engine.visit import Intent

Plant: TypeAlias = Callable[[ExitStack], None]
Function: TypeAlias = Callable[..., Any]


@contextmanager
def planted(name: str) -> Generator[None]:
    """The engine with one fault, for as long as the block runs."""
    with ExitStack() as stack:
        PLANTS[name](stack)
        yield


def _replace(stack: ExitStack, place: Any, name: str, fault: Callable[[Any], Any]) -> None:
    """Put `fault` in the place of something, which it gets as its first argument, until the stack is closed."""
    original = getattr(place, name)
    setattr(place, name, fault(original))
    stack.callback(setattr, place, name, original)


def _leave_out(stack: ExitStack, place: Any, name: str) -> None:
    """Put an async function that does nothing in the place of one."""

    async def nothing(*_: object, **__: object) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()

    _replace(stack, place, name, lambda _: nothing)


@asynccontextmanager
async def _open(*_: object) -> AsyncGenerator[None]:
    yield


# --- one at a time ----------------------------------------------------------------------------------------------------


def flows_without_gates(stack: ExitStack) -> None:
    """Calls that resume, cancel or send do not wait for each other when they are about one flow."""
    _replace(stack, Gates, "flow", lambda _: _open)


def keys_without_gates(stack: ExitStack) -> None:
    """Two starts with one key do not wait for each other, and the second one does not see that the first has begun."""
    _replace(stack, Gates, "key", lambda _: _open)
    flows_without_gates(stack)


def cancels_what_is_driven(stack: ExitStack) -> None:
    """A flow is ended beside the task that drives it, which goes on."""

    def fault(_: Function) -> Function:
        async def cancel_driven(endings: Endings, live: LiveFlow, reason: str, **_: object) -> bool:
            return await endings._end_here(live.row.id, reason)  # pyright: ignore[reportPrivateUsage]

        return cancel_driven

    _replace(stack, Endings, "cancel_driven", fault)


def claims_first(stack: ExitStack) -> None:
    """A flow is claimed in a transaction of its own; a resume that is cancelled before the next one keeps it."""

    def fault(original: Function) -> Function:
        async def take_over(claims: Claims, flow: str, write: Callable[[LiveFlow], Awaitable[object]]) -> LiveFlow:
            row = await claims.existing(flow)
            if row.status != "ended" and row.owner is None:
                await claims._owned.claim(row, claims.owner)  # pyright: ignore[reportPrivateUsage]
                await trio.lowlevel.checkpoint()
            return await original(claims, flow, write)

        return take_over

    _replace(stack, Claims, "take_over", fault)
    _replace(stack, engine_module, "trio", lambda _: _NoShields())


class _NoShields:
    """The module `trio`, whose shields keep nothing off."""

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)

    def CancelScope(self, **options: Any) -> trio.CancelScope:  # noqa: N802 as trio names it
        return trio.CancelScope(**{**options, "shield": False})


# --- pausing and resuming ---------------------------------------------------------------------------------------------


def pauses_and_takes_events(stack: ExitStack) -> None:
    """A flow that was just paused takes events still, and nobody drives the state they lead to."""

    def fault(original: Function) -> Function:
        async def park(live: LiveFlow, exc: BaseException) -> FlowParked | None:
            paused = await original(live, exc)
            live.stopped = False
            await trio.lowlevel.cancel_shielded_checkpoint()
            return paused

        return park

    _replace(stack, LiveFlow, "park", fault)


def resumes_what_is_pausing(stack: ExitStack) -> None:
    """A resume that comes while a flow is being paused returns, and the flow is paused all the same."""

    def fault(_: Function) -> Function:
        async def ask_again(*_: object, **__: object) -> bool:
            await trio.lowlevel.checkpoint()
            return True

        return ask_again

    _replace(stack, LiveFlow, "ask_again", fault)


def pauses_are_written_once(stack: ExitStack) -> None:
    """A pause that could not be written is not tried again: the flow belongs to a process that does not drive it."""
    _leave_out(stack, Driving, "_see_to")


def inbox_waits_for_the_next_look(stack: ExitStack) -> None:
    """A flow that is resumed does not take what waits in its inbox before its activities begin."""
    _leave_out(stack, Inbox, "take_waiting")


def kept_events_stay(stack: ExitStack) -> None:
    """A state that is entered does not take the events that were kept for it."""
    _leave_out(stack, LiveFlow, "_take_kept")


def deadlines_follow_the_wall_clock(stack: ExitStack) -> None:
    """A state that is entered after the wall clock was set reads its deadline as a moment of that clock."""

    def fault(_: Function) -> Function:
        def moment(countdown: Countdown) -> datetime | None:
            text = countdown._text  # pyright: ignore[reportPrivateUsage]
            return None if text is None else parse_moment(text)

        return moment

    _replace(stack, Countdown, "moment", fault)


# --- what is written --------------------------------------------------------------------------------------------------


def intents_after_the_end(stack: ExitStack) -> None:
    """An effect is announced without a look at whether its visit is over."""

    def fault(_: Function) -> Function:
        async def announce(live: LiveFlow, effect: str, incarnation: int) -> Intent:
            key = f"{live.row.id}:{incarnation}:{effect}"
            async with live.lock:
                await live.record("intent", key, NO_BODY)
            return Intent(key, uncertain=False)

        return announce

    _replace(stack, LiveFlow, "announce", fault)


def errors_are_swallowed(stack: ExitStack) -> None:
    """A step that could not be written is acknowledged."""

    def fault(original: Function) -> Function:
        async def advance(*args: Any) -> None:
            with suppress(JournalError):
                await original(*args)

        return advance

    _replace(stack, Ledger, "advance", fault)


def groups_fail_silently(stack: ExitStack) -> None:
    """Of a group of writes that fails none is tried again alone, and none of the writers learns of it."""

    def fault(original: Function) -> Function:
        def commit_all(journal: Journal, group: Any) -> None:
            if len(group.operations) == 1:
                original(journal, group)
                return
            with suppress(Exception):
                journal.write(group.operations)

        return commit_all

    _replace(stack, commits, "_commit_all", fault)


def signals_stay_in_the_inbox(stack: ExitStack) -> None:
    """A signal that was taken stays in the inbox, and is taken again."""

    def fault(original: Function) -> Function:
        def advance(journal: Journal, before: FlowRow, after: FlowRow, record: Record, _signal: object = None) -> None:
            original(journal, before, after, record)

        return advance

    _replace(stack, Journal, "advance", fault)


def sends_without_a_turn(stack: ExitStack) -> None:
    """An activity that sends in a loop lets no other task run."""

    def fault(_: Function) -> Function:
        async def write(writes: Commits, operation: Callable[[], None]) -> None:
            writes._journal.write([operation])  # pyright: ignore[reportPrivateUsage]

        return write

    _replace(stack, Commits, "write", fault)


# --- ends -------------------------------------------------------------------------------------------------------------


def secrets_after_the_end(stack: ExitStack) -> None:
    """The secrets of a flow that has ended are kept."""
    _leave_out(stack, Removal, "discard")


def children_go_on(stack: ExitStack) -> None:
    """A child flow goes on when its parent has left the state that ran it."""
    _leave_out(stack, drive, "cancel_strays")


def exits_end_the_engine(stack: ExitStack) -> None:
    """A `SystemExit` of one activity ends every flow."""

    def fault(fail: Function) -> Function:
        def pass_on(run: Run, trouble: BaseException) -> None:
            if isinstance(trouble, SystemExit):
                raise trouble
            fail(run, trouble)

        return pass_on

    _replace(stack, Run, "fail", fault)


PLANTS: Final[dict[str, Plant]] = {
    plant.__name__: plant
    for plant in (
        flows_without_gates,
        keys_without_gates,
        cancels_what_is_driven,
        claims_first,
        pauses_and_takes_events,
        resumes_what_is_pausing,
        pauses_are_written_once,
        inbox_waits_for_the_next_look,
        kept_events_stay,
        deadlines_follow_the_wall_clock,
        intents_after_the_end,
        errors_are_swallowed,
        groups_fail_silently,
        signals_stay_in_the_inbox,
        sends_without_a_turn,
        secrets_after_the_end,
        children_go_on,
        exits_end_the_engine,
    )
}
