"""A flow for people: its progress on stderr.

`People` prints a line for each relevant change, on or off a terminal. `live.LivePeople` adds a status line on
terminals. The text of a state comes from the machine's own table.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Literal, Self

import msgspec

from ...base.errors import CloudError
from ...base.moments import parse_moment
from ...base.texts import with_cause
from ...engine.history import Change, Outcome
from ...engine.journal.records import FlowRow
from ...engine.machine.machine import Machine
from ...engine.machine.parts import Verdict
from ...machines import every
from ...machines.parts.vocabulary import NOT_WANTED
from ..shared.settings import Settings
from .columns import terminal_columns
from .errors import decided, headline, tell
from .hints import problem_text, stuck_hint
from .lines import invitation, waits_elsewhere
from .steady import Steady
from .terminal import clean, mark, say, shortened

MACHINES: Mapping[str, Machine[Any]] = {each.name: each for each in every.MACHINES}

NARROW: Final = 60
"""Columns below which a line of progress has only the time and the text."""

Tone = Literal["plain", "good", "bad", "quiet"]


class Line(msgspec.Struct, frozen=True):
    """A line about a change: its text, style and leading sign."""

    text: str
    tone: Tone = "plain"
    sign: str = ""

    @property
    def words(self) -> str:
        """The text behind its sign."""
        return f"{self.sign} {self.text}" if self.sign else self.text


class RunningFlow(msgspec.Struct):
    """The state of a running flow, since when it is in it (monotonic seconds), and how long it may be."""

    machine: str
    state: str
    since: float
    steps: int = 0
    limit: float | None = None


def meaning(machine: str, state: str) -> str:
    """A state's text in its machine's table; its name where the machine is unknown."""
    table = MACHINES.get(machine)
    return table.states[state].meaning if table is not None and state in table.states else state


def place(machine: str, state: str) -> str:
    """A state's name, and its text where the machine is known."""
    words = meaning(machine, state)
    return state if words == state else f"{state}: {words}"


def clock(seconds: float) -> str:
    """Elapsed time as minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


def time_left(change: Change) -> float | None:
    """How long the state that a change led to is waited in, in seconds; None where nothing bounds it."""
    if change.deadline is None:
        return None
    return max((parse_moment(change.deadline) - parse_moment(change.at)).total_seconds(), 0.0)


def up_to(change: Change) -> str:
    """How long the state that a change led to is waited in, as the end of a line; empty where nothing bounds it."""
    left = time_left(change)
    if left is None:
        return ""
    minutes, seconds = divmod(max(round(left), 1), 60)
    amounts = [f"{amount} {unit}" for amount, unit in ((minutes, "min"), (seconds, "s")) if amount]
    return f" (up to {' '.join(amounts)})"


class People:
    """Shows a flow to a person, a line at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._began = time.monotonic()
        self._root: str | None = None
        self._said: set[str] = set()
        self._steady = Steady()
        self._questions = 0
        self._held: list[Callable[[], None]] = []
        self.running: dict[str, RunningFlow] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to tidy up."""

    # --- on the way -------------------------------------------------------------------------------------------------

    def invite(self, purpose: str, url: str, again: bool) -> None:
        """Show an address to open, before any browser is opened; at once, as a question may be about it (`--paste`)."""
        questions, self._questions = self._questions, 0
        try:
            self._invite(purpose, url, again)
        finally:
            self._questions = questions

    def _invite(self, purpose: str, url: str, again: bool) -> None:
        self.show("")
        self.show(f"  {invitation(purpose, again)}")
        self.show_address(f"  {url}")
        if again and self._root:
            # The page may have been answered and its redirect lost with the tab: only a new flow gets a new page.
            cancel = self._settings.command(f"flows cancel {shortened(self._root)}")
            self.show(f"  If that page has expired, start over: {cancel}")
            self.show("  and run the same command again.")
        self.show("")

    def change(self, change: Change) -> None:
        """A committed change."""
        self._root = self._root or change.flow
        if self._steady.offer(change):
            self._tell(change)

    def _tell(self, change: Change) -> None:
        for line in self._lines_of(change):
            self.line(change.machine, line)
        table = MACHINES.get(change.machine)
        if (table is not None and table.states[change.to_state].final) or change.kind == "paused":
            self.running.pop(change.flow, None)
        elif change.from_state != change.to_state or change.flow not in self.running:
            steps = self.running[change.flow].steps if change.flow in self.running else 0
            self.running[change.flow] = RunningFlow(
                change.machine, change.to_state, time.monotonic(), steps, time_left(change)
            )

    def tick(self) -> None:
        """Show what was held back and has lasted; called regularly."""
        for change in self._steady.settled():
            self._tell(change)

    @contextmanager
    def paused(self) -> Generator[None, None, None]:
        """Hold every line back inside the block, while the person is asked something; they are printed after it."""
        self._questions += 1
        try:
            yield
        finally:
            self._questions -= 1
            if not self._questions:
                held, self._held = self._held, []
                for draw in held:
                    draw()

    def after_question(self, draw: Callable[[], None]) -> None:
        """Print something now, or when the question that is open is answered: on its line the answer is typed."""
        if self._questions:
            self._held.append(draw)
        else:
            draw()

    def note(self, text: str) -> None:
        """A message that is not about a change of the flow."""
        self.show(text)

    def line(self, machine: str, line: Line) -> None:
        """Print a line about a change, with the time since the start."""
        before = self.before(machine, terminal_columns(sys.stderr))
        self.after_question(partial(say, "".join(before) + line.words, hang=len("".join(before))))

    def before(self, machine: str, columns: int | None) -> tuple[str, str]:
        """The time and the machine, which a line begins with; a narrow terminal has no room for the machine."""
        return f"{self.elapsed:>6}  ", "" if columns is not None and columns < NARROW else f"{machine:<12}  "

    def show(self, text: str) -> None:
        """Print a line on stderr."""
        self.after_question(partial(say, text))

    def show_address(self, text: str) -> None:
        """Print an address to open."""
        self.after_question(partial(say, text))

    @property
    def elapsed(self) -> str:
        """Time since the command began."""
        return clock(time.monotonic() - self._began)

    def _lines_of(self, change: Change) -> list[Line]:
        message = clean(change.message)
        brief = clean(change.brief) or message
        where = meaning(change.machine, change.to_state) + up_to(change)
        lines: list[Line] = []
        match change.kind, change.event:
            case "resumed", _ if change.flow == self._root:
                lines.append(Line(f"resuming {change.machine} {shortened(change.flow)} ({change.to_state}): {where}"))
            case "started", "queued":
                until = f"until {change.deadline[:19].replace('T', ' ')} UTC" if change.deadline else "for its turn"
                lines.append(Line(f"queued, waiting {until}"))
            case "retried", _:
                lines.append(Line(f"{change.event} failed, to be tried again: {message}", "quiet"))
            case (("started" | "resumed" | "begun"), _):
                lines.append(Line(where))
            case "event", ("StepObserved" | "TenantBecameReady" | "TenantAnnounced"):
                # Not by flow: a checkout and the provisioning after it watch the same tenant.
                if message and message not in self._said:
                    self._said.add(message)
                    if flow := self.running.get(change.flow):
                        flow.steps += 1
                    lines.append(Line(message, "good", mark(good=True)))
            case "event", "StreamLost":
                lines += self._trouble("Stream lost, polling", brief)
            case "event", "StreamReturned":
                lines.append(Line("Stream is back", "good", mark(good=True)))
            case "event", "StatusNotAnswered":
                lines += self._trouble("No status from the API yet, asking again", brief)
            case "event", "ForeignEventDropped":
                lines += self._trouble("", message)
            case "event", "PaymentDeclined" if change.from_state == change.to_state:
                lines.append(Line(f"the browser reported {message}; the API is asked", "quiet"))
            case "event", "BrowserNotOpened" if change.code != NOT_WANTED:
                lines.append(Line(f"no browser was opened: {message}", "quiet"))
            case _:
                pass
        if change.kind == "event" and change.from_state != change.to_state:
            lines.append(self._arrival(change, where))
        return lines

    def _trouble(self, what: str, why: str) -> list[Line]:
        """A line about a trouble; the same trouble is one line."""
        text = with_cause(what, why)
        if text in self._said:
            return []
        self._said.add(text)
        return [Line(text, "bad", "!")]

    @staticmethod
    def _arrival(change: Change, where: str) -> Line:
        verdict = MACHINES[change.machine].states[change.to_state].verdict if change.machine in MACHINES else None
        if verdict is None:
            return Line(where)
        good = verdict is Verdict.SUCCESS
        return Line(where, "good" if good else "bad", mark(good))

    # --- at the end -------------------------------------------------------------------------------------------------

    def ended(self, outcome: Outcome, hint: str) -> None:
        """The flow reached an end."""
        say()
        result = {name: clean(str(value)) for name, value in outcome.result.items() if value}
        if not outcome.succeeded:
            problem = problem_text(outcome.problem) or meaning(outcome.machine, outcome.state)
            # A state may begin with its machine's name, to differ from the others in a drawing of all.
            what = f"{outcome.machine} {outcome.state.removeprefix(f'{outcome.machine}_')}: {problem}"
            history = f"See what happened: {self._settings.command(f'flows history {shortened(outcome.flow)}')}"
            if decided(outcome):
                tell(f"{what[0].upper()}{what[1:]}", history, "")
            else:
                tell(what, history)
            if hint:
                say(clean(hint))
            return
        for text in reached(self._settings, outcome.machine, result):
            say(text)

    def interrupted(self, row: FlowRow | None) -> None:
        """Say that a signal stopped the flow, and how to continue it."""
        say()
        if row is None:
            say("Interrupted before a flow was started.")
            return
        how = self._settings.resume_command(row.id)
        elsewhere = waits_elsewhere(row)
        what = "To continue, and paste the address a browser elsewhere ended on," if elsewhere else "To continue,"
        say(f"Interrupted. {row.machine} {shortened(row.id)} is {meaning(row.machine, row.state)}. {what} run:")
        say(f"  {how} --paste" if elsewhere else f"  {how}")

    def stuck(self, row: FlowRow | None, error: CloudError) -> None:
        """Show the error that stopped the flow, and how to continue it."""
        say()
        tell(error.user_message, stuck_hint(self._settings, error, row), headline(error))
        if row is not None and row.status != "ended":
            say(f"Progress saved: {row.machine} is in {row.state}. Then, to continue, run:")
            say(f"  {self._settings.resume_command(row.id)}")


def reached(settings: Settings, machine: str, result: Mapping[str, str]) -> list[str]:
    """The lines about a flow's result and where it was saved."""
    lines: list[str] = []
    if machine == "login":
        lines.append(f"Logged in as {result.get('user_email')} at {result.get('api_url')}.")
        lines.append(f"Credentials: {result.get('credentials')} (only you can read it)")
    elif machine == "checkout":
        lines.append(f"Paid: tenant {result.get('tenant_name') or ''} ({result.get('tenant_id')}).")
        tenant_id = result.get("tenant_id", "")
        lines.append(f"Wait for it: {settings.command('provision ' + shlex.quote(tenant_id))}")
    elif machine == "deployment":
        at = f" at {result['app_url']}" if result.get("app_url") else ""
        lines.append(f"The tenant {result.get('tenant_id')} runs {result.get('image')}{at}.")
    else:
        tenant = f"{result.get('tenant_name')} ({result.get('tenant_id')})"
        if result.get("needs_deploy"):
            lines.append(f"The tenant {tenant} is paid for and built. To run it, deploy an image.")
        else:
            at = f" at {result['app_url']}" if result.get("app_url") else ""
            lines.append(f"The tenant {tenant} is running{at}.")
        lines.append(f"Tenants: {result.get('tenants')} (only you can read it)")
        if machine == "onboarding":
            lines.append(f"Credentials: {settings.paths.credentials} (only you can read it)")
    if result.get("warning"):
        lines.append(f"Warning: {result['warning']}")
    if result.get("secrets_missing"):
        tenant = shlex.quote(result.get("tenant_id", ""))
        lines.append(f"To fetch the secrets again: {settings.command(f'provision {tenant}')}")
        rotated = settings.command(f"tenants rotate-credentials {tenant}")
        lines.append(f"If they were given out already, get new ones: {rotated}")
    lines.append(settings.directory_line)
    return lines
