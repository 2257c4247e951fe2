"""Running one flow to its end: the one place of the command line where trio runs flows.

The engine, its feed and the signals meet here. A signal that ends the command (`shared/signals.py`) leaves the engine,
which stops every flow in its state, resumable.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol

import msgspec
import trio

from ...base.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_LOGIN_NEEDED,
    EXIT_REFUSED,
    CloudError,
    DirectoryUnusable,
)
from ...engine.engine import Engine, open_engine
from ...engine.flow import Flow
from ...engine.history import Change, Outcome
from ...engine.journal.records import FlowRow
from ...flows.onboarding import all_programs
from ...flows.outside import OpenBrowser
from ...flows.services import Services
from ...io.http.polling import Backoff
from ...io.local.places import try_places
from ..screen.ask import ask, ask_yes_or_no, somebody_is_there
from ..screen.errors import stuck_code
from ..screen.hints import outcome_hint, token_was_refused
from ..screen.lines import Lines
from ..screen.money import not_undone
from ..screen.presenter import presenter
from ..screen.qr import show_qr
from ..screen.terminal import say, shortened
from ..shared.settings import Settings
from ..shared.signals import until_interrupted
from .elsewhere import asks_unasked, paste_note
from .opening import opening
from .superseded import end_superseded

TICK_SECONDS = 0.125
NO_PASTE = "\nThe input has ended, so no address can be pasted. Still waiting for a browser on this computer."

Notes = Callable[[Flow, Change], Sequence[str]]
"""What else there is to say about a change of a flow."""

Begin = Callable[[Engine], Awaitable[Flow]]
"""Starts or resumes a flow."""


class Presenter(Protocol):
    """Shows a flow to a person or a program."""

    def invite(self, purpose: str, url: str, again: bool) -> None: ...
    def change(self, change: Change) -> None: ...
    def tick(self) -> None: ...
    def paused(self) -> AbstractContextManager[None]: ...
    def note(self, text: str) -> None: ...
    def ended(self, outcome: Outcome, hint: str) -> None: ...
    def interrupted(self, row: FlowRow | None) -> None: ...
    def stuck(self, row: FlowRow | None, error: CloudError) -> None: ...


class End(msgspec.Struct):
    """How a run of the engine ended: with an outcome, an error, or neither when it was stopped.

    `family` is the flow that came to an outcome, with those inside it; `stopped` is the exit code of the signal that
    stopped it.
    """

    row: FlowRow | None = None
    outcome: Outcome | None = None
    family: Sequence[FlowRow] = ()
    error: CloudError | None = None
    stopped: int = 0

    @property
    def code(self) -> int:
        """The exit code."""
        if self.outcome is not None:
            return code_of(self.outcome, self.family)
        return (self.stopped or EXIT_INTERRUPTED) if self.error is None else stuck_code(self.row, self.error)


def code_of(outcome: Outcome, family: Sequence[FlowRow]) -> int:
    """The exit code of a flow's end; `family` is its row and those of its child flows."""
    if outcome.succeeded:
        return EXIT_DONE
    if token_was_refused(family):
        return EXIT_LOGIN_NEEDED
    return EXIT_REFUSED if outcome.state in {"denied", "declined"} else EXIT_FAILED


def drive(
    settings: Settings,
    begin: Begin,
    *,
    no_browser: bool = False,
    paste: bool = False,
    qr: bool = False,
    notes: Notes | None = None,
    stores: bool = True,
    row: FlowRow | None = None,
) -> int:
    """Run a flow to its end, or to a signal, and show its progress and result.

    Args:
        settings: The global options.
        begin: Starts or resumes the flow.
        no_browser: Only show addresses.
        paste: Also read the address that a browser on another computer was redirected to from stdin.
        qr: Show addresses as QR codes, too.
        notes: What else to say about a change.
        stores: Whether the flow stores credentials or tenants.
        row: The flow, where there is one already.

    Returns:
        The exit code.
    """
    end = End()
    paste = paste or asks_unasked(settings)

    def said(flow: Flow, change: Change) -> Sequence[str]:
        more = () if notes is None else notes(flow, change)
        return more if paste else (*more, *paste_note(settings, change))

    async def main() -> None:
        with showing(settings) as shown:

            async def work() -> None:
                browser = None if no_browser or paste else opening(settings, shown.note)
                await run_flow(
                    settings, begin, shown, end, browser=browser, paste=paste, qr=qr, notes=said, stores=stores
                )

            end.stopped = await until_interrupted(work, shown.paused)
            if isinstance(end.error, DirectoryUnusable):  # found before the flow was
                end.row = row
            tell_end(settings, shown, end)

    trio.run(main)
    return end.code


@contextmanager
def showing(settings: Settings) -> Generator[Presenter, None, None]:
    """The presenter for the global options: JSON for a program, or text for a person."""
    with Lines(settings) if settings.json else presenter(settings) as shown:
        yield shown


def tell_end(settings: Settings, shown: Presenter, end: End) -> None:
    """Show how the run ended."""
    if end.outcome is not None:
        shown.ended(end.outcome, outcome_hint(settings, end.outcome, end.family))
        for text in not_undone(settings, end.family):
            shown.note(text)
    elif end.error is not None:
        shown.stuck(end.row, end.error)
    else:
        shown.interrupted(end.row)


async def run_flow(
    settings: Settings,
    begin: Begin,
    shown: Presenter,
    end: End,
    *,
    browser: OpenBrowser | None,
    paste: bool = False,
    qr: bool = False,
    poll_seconds: float = 2.0,
    backoff: Backoff | None = None,
    until: Callable[[Change], bool] | None = None,
    notes: Notes | None = None,
    stores: bool = True,
) -> None:
    """Open an engine, run one flow in it, and put the result into `end`.

    Args:
        settings: The global options.
        begin: Starts or resumes the flow.
        shown: Shows the progress.
        end: Filled in, also when the run is cancelled.
        browser: Opens addresses; None only shows them.
        paste: Also read the address that a browser on another computer was redirected to from stdin.
        qr: Show addresses as QR codes, too.
        poll_seconds: Seconds between two requests for a tenant's status.
        backoff: Delays between attempts to reopen a lost stream; None for the default.
        until: Stop, as a signal would, after the first change for which this returns true.
        notes: What else to say about a change.
        stores: Whether the flow stores credentials or tenants.
    """

    async def confirm(question: str) -> bool:
        with shown.paused():
            return await ask_yes_or_no(question)

    async def ask_line(question: str) -> str | None:
        with shown.paused():
            line = await ask(question)
            if line is None:
                say(NO_PASTE)
            return line

    def invite(purpose: str, url: str, again: bool) -> None:
        if qr:
            show_qr(url)
        shown.invite(purpose, url, again)

    services = Services(
        settings.paths,
        show_url=invite,
        open_browser=browser,
        read_line=ask_line if paste else None,
        confirm=confirm if somebody_is_there(settings) else None,
        poll_seconds=poll_seconds,
        backoff=backoff,
        environ=os.environ,
    )
    scope = trio.CancelScope()
    try:
        with scope:
            # Before a person is sent anywhere: what they do there could not be kept.
            await trio.to_thread.run_sync(partial(try_places, settings.paths, stores=stores))
            async with services, open_engine(settings.paths, all_programs(services)) as engine:
                await _run_in(engine, begin, shown, end, scope, until, notes)
                if end.row is not None and end.outcome is not None and end.outcome.succeeded:
                    for ended in await end_superseded(settings, engine, end.row):
                        shown.note(f"Ended an earlier login that was not finished: {shortened(ended)}")
    except CloudError as exc:
        end.error = exc


async def _run_in(
    engine: Engine,
    begin: Begin,
    shown: Presenter,
    end: End,
    scope: trio.CancelScope,
    until: Callable[[Change], bool] | None,
    notes: Notes | None,
) -> None:
    flow: Flow | None = None

    def tell(change: Change) -> None:
        shown.change(change)
        if flow is not None and notes is not None:
            for text in notes(flow, change):
                shown.note(text)
        if until is not None and until(change):
            scope.cancel()

    try:
        with engine.feed.subscribe() as changes:
            flow = await begin(engine)
            async with trio.open_nursery() as nursery:

                async def follow() -> None:
                    async for change in changes:
                        tell(change)

                nursery.start_soon(follow)
                nursery.start_soon(_tick, shown)
                try:
                    end.outcome = await flow.wait()
                    end.family = await engine.family(flow.id)
                except CloudError as exc:
                    end.error = exc
                nursery.cancel_scope.cancel()
            for _ in range(changes.statistics().current_buffer_used):
                tell(changes.receive_nowait())
    finally:
        if flow is not None:
            end.row = flow.row


async def _tick(shown: Presenter) -> None:
    while True:
        shown.tick()
        await trio.sleep(TICK_SECONDS)
