"""What a person can do about a flow that did not end well: a command to paste, where there is one.

A flow knows what happened, not how it was started; which option mends it is the command line's to say.
"""

from __future__ import annotations

from typing import Final

from ..errors import CLI
from .settings import Settings

_SENTENCES: Final = {"payment_declined": "the payment was declined", "access_denied": "the login was refused"}
"""Codes that come back in a browser's address, for people."""


def in_words(problem: str) -> str:
    """A problem as a sentence: a bare code becomes what it means, with the child flow it comes from left before it."""
    head, colon, last = problem.rpartition(": ")
    return f"{head}{colon}{_SENTENCES.get(last, last)}"


def mend(settings: Settings, machine: str, state: str, problem: str) -> str:
    """What to do about a flow's end; empty where nothing is known.

    Args:
        settings: The global options, and what was typed.
        machine: The flow's machine.
        state: The state it ended in.
        problem: Why, as the flow has it.
    """
    child, _, said = problem.partition(": ") if machine == "onboarding" else (machine, "", problem)
    if "choose another port" in said:
        option = f"--{child}-port" if machine == "onboarding" else "--port"
        if command := settings.again(option, "0"):
            return f"Take any free port: {command}"
        return f"Start it again with {option} 0, for any free one."
    if said.startswith("there is no plan"):
        return f"See what there is: {settings.mended(f'{CLI} plans')}"
    if child == "checkout" and state in {"declined", "denied"}:
        if command := settings.again():
            return f"Try another card: {command}"
        return "Start it again to try another card."
    return ""


def mend_stuck(kind: str, hint: str) -> str:
    """The hint of an error that stopped a flow on its way.

    Args:
        kind: The error's kind.
        hint: The error's own hint.
    """
    if kind == "PortBusy":
        # The redirect URI that the API was given names the port: another one is no choice any more.
        return "The browser comes back to this very port: end the program that holds it."
    return hint
