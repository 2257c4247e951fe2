"""A flow for programs: only JSON on stdout, one object per line, every line flushed.

There is a line for each committed change, then a last line with the result, or with the command to resume. Addresses
for a person to open go to stderr: they hold the nonce of the wait.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Self

from ...base.errors import CloudError
from ...base.redaction import redact
from ...engine.history import Change, Outcome
from ...engine.journal.records import FlowRow
from ...io.loopback.browser import is_remote
from ..shared.settings import Settings
from .errors import as_json, headline, stuck_code, tell
from .hints import problem_text, stuck_hint
from .terminal import clean, put_json, say


class Lines:
    """Shows a flow to a program."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to tidy up."""

    def invite(self, purpose: str, url: str, again: bool) -> None:
        """Show an address to open."""
        say(invitation(purpose, again))
        say(f"  {url}")

    def change(self, change: Change) -> None:
        """A committed change."""
        put_change(change)

    def tick(self) -> None:
        """Do nothing: nothing is held back from programs."""

    @contextmanager
    def paused(self) -> Generator[None, None, None]:
        """Do nothing: there is no drawing to stop."""
        yield

    def note(self, text: str) -> None:
        """A message that is not about a change of the flow."""
        say(text)

    def ended(self, outcome: Outcome, hint: str) -> None:
        """The flow reached an end."""
        fields: dict[str, Any] = {
            "flow": outcome.flow,
            "machine": outcome.machine,
            "state": outcome.state,
            "verdict": outcome.verdict,
            "result": dict(outcome.result),
        }
        if outcome.problem:
            fields["problem"] = redact(problem_text(outcome.problem))
        if outcome.code:
            fields["code"] = outcome.code
        if hint:
            fields["hint"] = clean(hint)
        put_json(fields)

    def interrupted(self, row: FlowRow | None) -> None:
        """Say that a signal stopped the flow, and how to resume it."""
        if row is not None:
            resume = self._settings.resume_command(row.id)
            more = {"hint": f"If the browser is on another computer: {resume} --paste"} if waits_elsewhere(row) else {}
            put_json(self._pending(row) | more)

    def stuck(self, row: FlowRow | None, error: CloudError) -> None:
        """Show the error that stopped the flow, and how to resume it."""
        hint = stuck_hint(self._settings, error, row)
        fields: dict[str, Any] = {} if row is None else self._pending(row)
        put_json(fields | as_json(error, hint, stuck_code(row, error)), whole=True)
        tell(error.user_message, hint, headline(error))

    def _pending(self, row: FlowRow) -> dict[str, Any]:
        return {
            "flow": row.id,
            "machine": row.machine,
            "state": row.state,
            "verdict": "pending",
            "resume": self._settings.resume_command(row.id),
        }


def waits_elsewhere(row: FlowRow) -> bool:
    """Whether a flow waits for a browser to log in that is on another computer."""
    waits = {("login", "awaiting_callback"), ("onboarding", "logging_in")}
    return (row.machine, row.state) in waits and is_remote(os.environ)


def invitation(purpose: str, again: bool) -> str:
    """The line before an address."""
    if again:
        return f"Use the tab that is already open to {purpose}, or open:"
    return f"Open this to {purpose}:"


def put_change(change: Change) -> None:
    """A committed change, as a line of JSON."""
    fields: dict[str, Any] = {
        "flow": change.flow,
        "seq": change.seq,
        "at": change.at,
        "machine": change.machine,
        "kind": change.kind,
        "event": change.event,
        "from": change.from_state,
        "to": change.to_state,
    }
    if change.message:
        fields["message"] = redact(change.message)
    put_json(fields)
