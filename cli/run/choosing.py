"""The plan and the region of an order, chosen from a list on a terminal where the options do not name them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import click
import msgspec

from ...base.columns import measure, padded
from ...base.errors import CloudError
from ...errors import NotAuthenticated
from ...io.cloud.wire import DEFAULT_REGION, REGIONS, Plan
from ..screen.ask import ask, somebody_is_there
from ..screen.terminal import clean, say
from ..shared.api import ask_api
from ..shared.options import Unasked
from ..shared.settings import Settings
from ..shared.signals import run

PLANS_SECONDS: Final = 10.0
"""How long the API may take to list its plans."""


class OrderChoice(NamedTuple):
    """What to buy, and the settings with it in their command line, for the commands that are printed."""

    plan: str
    region: str
    settings: Settings


def chosen_order(settings: Settings, command: str, plan: str | None, region: str | None) -> OrderChoice:
    """The plan and the region: as given, else chosen on a terminal. Off one the region has a default.

    Args:
        settings: The global options and the command line.
        command: The command's word.
        plan: The value of `--plan`, if given.
        region: The value of `--region`, if given.

    Raises:
        click.UsageError: No plan was given or chosen; the message lists those there are.
        CloudError: The plans could not be listed for a person to choose.
    """
    if plan is None:
        plan = _chosen_plan(settings, command)
        settings = _with(settings, "--plan", plan)
    if region is None and somebody_is_there(settings) and sys.stderr.isatty() and not settings.json:
        region = _chosen("region", dict(REGIONS), DEFAULT_REGION)
        settings = settings if region is None else _with(settings, "--region", region)
    return OrderChoice(plan, region or DEFAULT_REGION, settings)


def _chosen_plan(settings: Settings, command: str) -> str:
    is_asked = somebody_is_there(settings)
    try:
        plans = ask_api(settings, lambda api: api.plans(), seconds=PLANS_SECONDS)
    except CloudError as exc:
        if is_asked and not isinstance(exc, NotAuthenticated):
            raise
        raise _missing(settings, command, (), exc) from exc
    chosen = _chosen("plan", {plan.id: _described(plan) for plan in plans}) if is_asked else None
    if chosen is None:
        raise _missing(settings, command, plans)
    return chosen


def _described(plan: Plan) -> str:
    return f"{plan.name}, {plan.memory_mb_default} MB, {plan.volume_gb} GB"


def _missing(
    settings: Settings, command: str, plans: Sequence[Plan], why: CloudError | None = None
) -> click.UsageError:
    """What is missing, what there is to choose from, and the command."""
    lines = ["Missing option '--plan'."]
    if plans:
        lines[0] += f" Plans: {', '.join(clean(plan.id) for plan in plans)}."
        lines.append(f"Run: {settings.command(f'{command} --plan {shlex.quote(clean(plans[0].id))}')}")
    elif isinstance(why, NotAuthenticated):
        lines[0] += " Plans are listed after a login."
        lines.append(f"Run: {settings.command('login')}")
    else:
        lines[0] += f" To list the plans, run: {settings.command('plans')}"
    return Unasked("\n".join(lines))


def _chosen(what: str, choices: Mapping[str, str], default: str | None = None) -> str | None:
    """Which of several things a person chooses, by number or name; None at the end of the input.

    Args:
        what: The kind of thing.
        choices: Each name, and what it is.
        default: What Enter alone means.
    """
    names = [*choices]
    if not names:
        return None
    wide = max(map(measure, names))
    for number, (name, about) in enumerate(choices.items(), 1):
        say(f"  {number}  {padded(name, wide)}  {about}".rstrip(), hang=5)
    hint = f"1-{len(names)}" if default is None else f"1-{len(names)}, Enter for {default}"
    while True:
        line = run(partial(ask, f"Which {what}? [{hint}]"))
        if line is None:
            say()
            return None
        answer = line.strip() or default or ""
        if answer in choices:
            return answer
        if answer.isascii() and answer.isdigit() and 1 <= int(answer[:9]) <= len(names):
            return names[int(answer) - 1]


def _with(settings: Settings, option: str, value: str) -> Settings:
    return msgspec.structs.replace(settings, arguments=(*settings.arguments, option, value))
