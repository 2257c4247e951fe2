"""Starting a flow that is there already goes on with it, and it keeps what it was started with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn, TypeVar

import typer

from ...engine.engine import Engine
from ...engine.flow import Flow
from ...engine.machine.parts import Context
from ..screen.terminal import say
from ..shared.settings import Settings
from .drive import drive

C = TypeVar("C", bound=Context)


def start(
    settings: Settings,
    starting: Callable[[Engine, C], Awaitable[Flow]],
    wanted: C,
    options: Mapping[str, str],
    *,
    no_browser: bool = False,
    paste: bool = False,
) -> NoReturn:
    """Start a flow, or go on with the one there is, drive it to its end, and end the command with its exit code.

    Args:
        settings: The global options, and what was typed.
        starting: Starts it.
        wanted: What it is to be started with.
        options: The fields of the context that never change, and the option that sets each.
        no_browser: Only show addresses.
        paste: Also take the address a browser elsewhere ended on, from stdin.
    """

    async def begin(engine: Engine) -> Flow:
        flow = await starting(engine, wanted)
        _mention_options_left_out(settings, flow, wanted, options)
        return flow

    raise typer.Exit(drive(settings, begin, no_browser=no_browser, paste=paste))


def _mention_options_left_out(settings: Settings, flow: Flow, wanted: Context, options: Mapping[str, str]) -> None:
    """Say which options that were typed do not apply, since the flow was started before without them."""
    context = flow.context
    typed = {word.partition("=")[0] for word in settings.arguments}
    left_out = [
        option
        for field, option in options.items()
        if option in typed and getattr(context, field) != getattr(wanted, field)
    ]
    if left_out:
        say(f"This flow goes on as it was started; these options do not apply to it: {', '.join(left_out)}.")
        say(f"To start anew with them, end it first: {settings.command(f'flows cancel {flow.id}')}")
