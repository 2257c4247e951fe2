"""What the shell offers when Tab is pressed: ids of tenants and flows, read from the files that are there.

Completion runs the program without its callback, so the directory is found here again, from the words typed so far. It
must never fail or speak: what cannot be read is not offered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...base.errors import CloudError
from .names import ACCOUNT_VARIABLE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ...io.local.paths import CloudPaths

MACHINES = ("login", "checkout", "provisioning", "deployment", "onboarding")
FAULTS = (
    "drop-stream",
    "reset",
    "silence",
    "malformed",
    "bad-utf8",
    "huge-line",
    "trickle",
    "duplicate",
    "reorder",
    "replay-all",
    "no-content",
    "redirect",
    "error",
    "unauthorized",
    "content-type",
    "lose-answer",
    "proxy-page",
    "no-stream",
    "foreign-event",
    "false-event",
    "stale",
    "false-callback",
    "lost-callback",
    "secrets-once",
    "slow",
    "provisioning-failure",
    "needs-deploy",
    "deploy-failure",
    "no-idempotency",
)
"""What the machines and the sandbox's faults are called; a test compares them with those there are."""

OFFERED = 50
"""How many of the newest flows are offered."""


def completing_paths(ctx: click.Context) -> CloudPaths:
    """The directories the command would use that is being typed. Raises `Io` where there is no current one."""
    from ...io.local.paths import resolve_cloud_paths
    from ...io.local.project import current_directory

    given: dict[str, Any] = ctx.find_root().params
    directory: str | None = given.get("directory")
    paths = resolve_cloud_paths(Path(directory) if directory else None, os.environ, current_directory())
    if not (account := given.get("account") or os.environ.get(ACCOUNT_VARIABLE)):
        return paths
    from ...io.local.account_paths import account_paths, name_problem

    return paths if name_problem(account) else account_paths(paths, account)


def offers(found: Iterable[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    """Those that begin like this, as click has them; each with a few words about it."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(value, help=what) for value, what in found if value.startswith(incomplete)]


def complete_flows(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The newest flows whose id begins like this, with where they stand."""
    from ...engine.journal.journal import Journal

    try:
        with Journal(completing_paths(ctx).journal, create=False) as journal:
            rows = journal.flows(roots_only=True, limit=OFFERED)
    except CloudError:
        return []
    return offers(((row.id, f"{row.machine}, {row.state}") for row in rows), incomplete)


def complete_accounts(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The accounts that are logged in here; the active one says so."""
    from ...io.local.account_paths import active_name, other_names

    try:
        paths = completing_paths(ctx)
        active, others = active_name(paths), other_names(paths)
    except CloudError:
        return []
    return offers([*([(active, "active")] if active else []), *((name, "") for name in others)], incomplete)


def complete_from(
    found: Collection[str], about: Mapping[str, str] | None = None
) -> Callable[..., list[CompletionItem]]:
    """Completion of a value that is one of a few, with a few words about each where there are any."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return offers(((name, (about or {}).get(name, "")) for name in found), incomplete)

    return complete
