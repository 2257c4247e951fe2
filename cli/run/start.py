"""Start a flow, or resume the unfinished one of the same key, which keeps its options."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NoReturn, TypeVar

import click

from ...engine.engine import Engine
from ...engine.flow import Flow
from ...engine.history import Change
from ...engine.machine.parts import Context
from ...machines.onboarding import CredentialsFound, LoginSucceeded, OnboardingContext
from ..screen.terminal import clean, say
from ..shared.settings import Settings
from .drive import drive

C = TypeVar("C", bound=Context)

CONTINUES: Final = frozenset({CredentialsFound.__name__, LoginSucceeded.__name__})
"""The events that lead an onboarding to a tenant without a checkout."""


def start(
    settings: Settings,
    starting: Callable[[Engine, C], Awaitable[Flow]],
    wanted: C,
    options: Mapping[str, str],
    *,
    no_browser: bool = False,
    paste: bool = False,
    qr: bool = False,
    stores: bool = True,
) -> NoReturn:
    """Start or resume a flow, run it to its end, and exit with its exit code.

    Args:
        settings: The global options and the command line.
        starting: Starts the flow.
        wanted: The context to start it with.
        options: The context fields that never change, and the option that sets each.
        no_browser: Only show addresses.
        paste: Also read the address that a browser on another computer was redirected to from stdin.
        qr: Show addresses as QR codes, too.
        stores: Whether the flow stores credentials or tenants.

    Raises:
        click.exceptions.Exit: Always, with the flow's exit code.
    """

    async def begin(engine: Engine) -> Flow:
        flow = await starting(engine, wanted)
        _mention_options_left_out(settings, flow, wanted, options)
        return flow

    def notes(flow: Flow, change: Change) -> Sequence[str]:
        return _paid_tenant(settings, flow, change)

    code = drive(settings, begin, no_browser=no_browser, paste=paste, qr=qr, notes=notes, stores=stores)
    raise click.exceptions.Exit(code)


def _mention_options_left_out(settings: Settings, flow: Flow, wanted: Context, options: Mapping[str, str]) -> None:
    """Name the typed options that do not apply because the flow was started earlier without them."""
    context = flow.context
    typed = {word.partition("=")[0] for word in settings.arguments}
    left_out = [
        option
        for field, option in options.items()
        if option in typed and getattr(context, field) != getattr(wanted, field) and not _any_port(field, wanted)
    ]
    if left_out:
        say(f"This flow keeps the options it was started with; these do not apply: {', '.join(left_out)}.")
        say(f"To use them, cancel the flow, then run this command again: {settings.command(f'flows cancel {flow.id}')}")


def _any_port(field: str, wanted: Context) -> bool:
    """Whether any port is wanted: then the one the flow has is right."""
    return field.endswith("port") and getattr(wanted, field) == 0


def _paid_tenant(settings: Settings, flow: Flow, change: Change) -> Sequence[str]:
    """What to say where a command continues with a tenant that was paid for earlier: its name, how to buy another."""
    context = flow.context
    continues = change.kind == "resumed" or change.event in CONTINUES
    if change.flow != flow.id or not continues or change.to_state != "provisioning":
        return ()
    if not isinstance(context, OnboardingContext):
        return ()
    order = f"checkout --plan {shlex.quote(context.plan)} --region {shlex.quote(context.region)}"
    return (
        f"Continuing with the tenant {clean(context.tenant_id)}, which is paid for.",
        f"To buy another one: {settings.command(order)}",
    )
