"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from ..io.wire import REGIONS, OAuthProvider
from .terminal import say

Provider = Annotated[OAuthProvider, typer.Option("--provider", help="Who you log in with.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only show addresses; open no browser.")]
Plan = Annotated[str, typer.Option("--plan", metavar="ID", help="The plan: its id, name or price id; see `plans`.")]
Unbound = Annotated[
    bool,
    typer.Option(
        "--unbound-callback",
        help="For an API that takes no query in its redirect URI; anybody on this computer could then answer.",
    ),
]


def warn_unbound() -> None:
    """Say what an unbound callback means (SECURITY 4), before anything is waited for."""
    say(
        "Warning: the way back is not bound to your browser: anybody on this computer could answer in your place. "
        "Look closely at the account, or the tenant, that is found."
    )


def known_region(value: str) -> str:
    """The region, if there is one of that name. Raises `typer.BadParameter` that lists what there is."""
    if value not in REGIONS:
        there = "; ".join(f"{name} {place}" for name, place in REGIONS.items())
        raise typer.BadParameter(f"there is no region {value!r}. There are: {there}")
    return value


Region = Annotated[
    str,
    typer.Option("--region", metavar="NAME", callback=known_region, help=f"Where it runs: {', '.join(REGIONS)}."),
]


def port_option(name: str, what: str) -> typer.models.OptionInfo:
    """An option for a loopback port."""
    return typer.Option(name, min=0, max=65_535, metavar="PORT", help=f"The port {what} comes back to; 0 for any.")


def seconds_option(name: str, what: str) -> typer.models.OptionInfo:
    """An option for a time to wait."""
    return typer.Option(name, min=1, max=86_400, metavar="SECONDS", help=f"How long to wait for {what}.")
