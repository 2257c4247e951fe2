"""Starting a flow that is there already goes on with it, and it keeps what it was started with."""

from __future__ import annotations

from collections.abc import Mapping

from ..flows.flow import Flow
from ..machines.machine import Context
from .settings import Settings
from .terminal import say


def mention_options_left_out(settings: Settings, flow: Flow, wanted: Context, options: Mapping[str, str]) -> None:
    """Say which options that were typed do not apply, since the flow was started before without them.

    Args:
        settings: What was typed.
        flow: The flow that was started, or goes on.
        wanted: What it was to be started with.
        options: The fields of the context that never change, and the option that sets each.
    """
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
