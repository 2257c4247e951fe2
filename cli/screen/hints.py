"""Hints for flows that failed or stopped: a command to run, where there is one.

A flow knows what happened, but not the options it was started with, so these hints are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ...base.errors import CloudError
from ...base.remedies import Remedy
from ...engine.history import Outcome
from ...engine.journal.records import FlowRow
from ...errors import REMEDY_OF_CODE
from ...machines.login import REDIRECT_ERRORS
from ...machines.parts.order import DECLINED
from ..shared.settings import Settings
from .remedies import hint_of, remedy_text

_SENTENCES: Final = {DECLINED: "the payment was declined", **REDIRECT_ERRORS}
"""What the codes mean that flows of earlier versions kept in place of a sentence."""


def problem_text(problem: str) -> str:
    """A flow's problem as a sentence."""
    return _SENTENCES.get(problem, problem)


class _Login(msgspec.Struct):
    token: str = ""


_LOGIN: Final = msgspec.json.Decoder(_Login)


def token_was_refused(family: Sequence[FlowRow]) -> bool:
    """Whether a login among these failed because the API did not take its token: only then one that failed has one."""
    logins = (row for row in family if (row.machine, row.state) == ("login", "failed"))
    return any(_token_of(row) for row in logins)


def _token_of(row: FlowRow) -> str:
    from ...engine.machine.stored import decoded

    try:
        return decoded(_LOGIN, row.context).token
    except msgspec.DecodeError:
        return ""  # it is damaged: whether there was one is not known


def outcome_hint(settings: Settings, outcome: Outcome, family: Sequence[FlowRow]) -> str:
    """The hint for a flow that ended; empty where there is none.

    Args:
        settings: The global options and the command line.
        outcome: How it ended.
        family: The rows of the flow and its child flows.
    """
    if outcome.succeeded:
        return ""
    if token_was_refused(family):
        return f"Log in: {settings.command('login')}"
    inside = outcome.machine == "onboarding"
    unsuccessful = [row.machine for row in family if row.parent is not None and row.verdict not in {None, "success"}]
    child = unsuccessful[-1] if inside and unsuccessful else outcome.machine
    code = outcome.code.rpartition(".")[2]
    if code == "port_taken":
        option = f"--{child}-port" if inside else "--port"
        if command := settings.again(option, "0"):
            return f"Take any free port: {command}"
        return f"Start it again with {option} 0, for any free one."
    if remedy := REMEDY_OF_CODE.get(code):
        return remedy_text(settings, remedy) or ""
    if code == "redirect_uri_refused":
        command = settings.again() or settings.command("login")
        return f"If the API takes no redirect URI with a query: {command} --unbound-callback"
    if code == "unknown_plan":
        return remedy_text(settings, Remedy("list_plans")) or ""
    if child == "login" and outcome.state == "timed_out":
        # The page may have been answered after the timeout; only a new login gets a new page.
        if command := settings.again():
            return f"Start it again, and you get a new page: {command}"
        return "Start it again: you get a new page."
    return ""


def _another_port(settings: Settings, row: FlowRow) -> str:
    """The commands that give a flow up for one on another port. Its page was never shown: nothing was paid there."""
    inside = row.machine == "onboarding"
    option = ("--login-port" if row.state == "logging_in" else "--checkout-port") if inside else "--port"
    again = settings.again(option, "0") or settings.command(f"{'up' if inside else row.machine} {option} 0")
    return f"{settings.command(f'flows cancel {row.id}')}; then: {again}"


def stuck_hint(settings: Settings, error: CloudError, row: FlowRow | None = None) -> str:
    """The hint for an error that stopped a flow."""
    if error.kind == "PortBusy":
        # The redirect URI that the API was given names the port, so it cannot be changed any more.
        stop = "The browser is redirected to this port: stop the program, or your other flow, that uses it."
        return stop if row is None else f"{stop} Or take another port: {_another_port(settings, row)}"
    if row is not None and error.kind == "DirectoryUnusable":
        # A flow stays with its directory: with another --dir it would not be found.
        return f"Fix that, then run: {settings.resume_command(row.id)}"
    return hint_of(settings, error, flow="" if row is None else row.id.partition(".")[0])
