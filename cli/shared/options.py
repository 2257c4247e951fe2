"""Options that several commands share, and what follows from them, so that they mean the same everywhere."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable

import click
from typing_extensions import override

from ...base.errors import EXIT_FAILED
from ..screen.terminal import say
from .bounds import number, whole_number
from .parameters import checking
from .settings import Settings

Decorator = Callable[[Callable[..., None]], Callable[..., None]]

PORTS = whole_number(0, 65_535)
SECONDS = number(1, 86_400)
_NO_QR = "--qr needs the package segno, which is not installed. Install it: pip install 'systemprompt-cloud[qr]'"

no_browser_option = click.option("--no-browser", is_flag=True, help="Only show addresses; open no browser.")


def _drawable(wanted: bool) -> bool:
    if wanted and importlib.util.find_spec("segno") is None:
        raise click.UsageError(_NO_QR)
    return wanted


qr_option = click.option(
    "--qr", is_flag=True, callback=checking(_drawable), help="Show addresses as QR codes, too (extra `qr`)."
)
paste_option = click.option(
    "--paste", is_flag=True, help="The browser is elsewhere: paste the address it ends on here."
)
unbound_option = click.option(
    "--unbound-callback",
    is_flag=True,
    help="For an API that takes no query in its redirect URI; any program on this computer could then answer.",
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
external_db_option = click.option("--external-db", is_flag=True, help="Open the database to the outside.")


class Unasked(click.BadParameter):
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
        click.BadParameter: No person can be asked, and `--yes` was not given.
        click.exceptions.Exit: With 1, when the answer is no.
    """
    if yes:
        return
    from ..screen.ask import ask_yes_or_no, somebody_is_there
    from .signals import run

    if not somebody_is_there(settings):
        raise Unasked(f"{question} --yes is required when not running interactively.", param_hint="--yes")
    if not run(functools.partial(ask_yes_or_no, question)):
        say("Nothing was changed.")
        raise click.exceptions.Exit(EXIT_FAILED)


def check_paste(settings: Settings, *, paste: bool) -> None:
    """Refuse a question that must not be asked. Raises `click.BadParameter`."""
    if paste and settings.no_input:
        raise click.BadParameter(
            "--paste asks for an address, and --no-input allows no questions", param_hint="--paste"
        )


def warn_unbound() -> None:
    """Say what an unbound callback means (SECURITY 4), before anything is waited for."""
    say(
        "Warning: the way back is not bound to your browser: any program on this computer could answer in your place. "
        "Look closely at the account, or the tenant, that is found."
    )


def known_id(value: str) -> str:
    """The id, if the API could have given it. Raises `click.BadParameter`."""
    from ...io.http.urls import may_be_an_id

    if not may_be_an_id(value):
        raise click.BadParameter(f"{value!r} is not an id the API gives")
    return value


def port_option(name: str, default: int, what: str) -> Decorator:
    """An option for a loopback port."""
    about = f"The port {what} comes back to; 0 for any."
    return click.option(name, type=PORTS, default=default, metavar="PORT", help=about)


def seconds_option(name: str, default: float, what: str) -> Decorator:
    """An option for a time to wait."""
    about = f"How long to wait for {what}."
    return click.option(name, type=SECONDS, default=default, metavar="SECONDS", help=about)
