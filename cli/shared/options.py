"""Options that several commands share, and what follows from them, so that they mean the same everywhere."""

from __future__ import annotations

import functools
from typing import Annotated

import typer
from typing_extensions import override

from ...base.errors import EXIT_FAILED
from ...io.cloud.wire import REGIONS, OAuthProvider
from ..screen.terminal import say
from .bounds import number, whole_number
from .settings import Settings

PORTS = whole_number(0, 65_535)
SECONDS = number(1, 86_400)

Provider = Annotated[OAuthProvider, typer.Option("--provider", help="Who you log in with.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only show addresses; open no browser.")]
Paste = Annotated[bool, typer.Option("--paste", help="The browser is elsewhere: paste the address it ends on here.")]
Unbound = Annotated[
    bool,
    typer.Option(
        "--unbound-callback",
        help="For an API that takes no query in its redirect URI; any program on this computer could then answer.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ExternalDb = Annotated[bool, typer.Option("--external-db", help="Open the database to the outside.")]


class Unasked(typer.BadParameter):
    """A question that could not be asked. No value was wrong, so the words stand alone."""

    @override
    def format_message(self) -> str:
        return self.message


def confirm(settings: Settings, question: str, *, yes: bool) -> None:
    """Let a person say no before something is destroyed.

    Args:
        settings: Whether a person can be asked.
        question: What is about to happen, as a question.
        yes: `--yes` was given; nothing is asked.

    Raises:
        typer.BadParameter: No person can be asked, and `--yes` was not given.
        typer.Exit: With 1, when the answer is no.
    """
    if yes:
        return
    from ..screen.ask import ask_yes_or_no, somebody_is_there
    from .signals import run

    if not somebody_is_there(settings):
        raise Unasked(f"{question} --yes is required when not running interactively.", param_hint="--yes")
    if not run(functools.partial(ask_yes_or_no, question)):
        say("Nothing was changed.")
        raise typer.Exit(EXIT_FAILED)


def check_paste(settings: Settings, *, paste: bool) -> None:
    """Refuse a question that must not be asked. Raises `typer.BadParameter`."""
    if paste and settings.no_input:
        raise typer.BadParameter("--paste asks for an address, and --no-input forbids to ask", param_hint="--paste")


def warn_unbound() -> None:
    """Say what an unbound callback means (SECURITY 4), before anything is waited for."""
    say(
        "Warning: the way back is not bound to your browser: any program on this computer could answer in your place. "
        "Look closely at the account, or the tenant, that is found."
    )


def known_id(value: str) -> str:
    """The id, if the API could have given it. Raises `typer.BadParameter`."""
    from ...io.http.urls import may_be_an_id

    if not may_be_an_id(value):
        raise typer.BadParameter(f"{value!r} is not an id the API gives")
    return value


def known_plan(value: str) -> str:
    """The plan, if anything could be called that. Raises `typer.BadParameter`."""
    if not value.strip():
        raise typer.BadParameter("it is empty; `plans` lists what there is")
    return value


PlanOption = Annotated[
    str,
    typer.Option("--plan", metavar="ID", callback=known_plan, help="The plan: its id, name or price id; see `plans`."),
]


def known_region(value: str) -> str:
    """The region, if there is one of that name. Raises `typer.BadParameter` that lists what there is."""
    if value not in REGIONS:
        there = "; ".join(f"{name} {place}" for name, place in REGIONS.items())
        raise typer.BadParameter(f"no region {value!r}. Regions: {there}")
    return value


Region = Annotated[
    str,
    typer.Option("--region", metavar="NAME", callback=known_region, help=f"Where it runs: {', '.join(REGIONS)}."),
]


def port_option(name: str, what: str) -> typer.models.OptionInfo:
    """An option for a loopback port."""
    return typer.Option(name, parser=PORTS, metavar="PORT", help=f"The port {what} comes back to; 0 for any.")


def seconds_option(name: str, what: str) -> typer.models.OptionInfo:
    """An option for a time to wait."""
    return typer.Option(name, parser=SECONDS, metavar="SECONDS", help=f"How long to wait for {what}.")
