"""Logins that a later one has made needless."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...base.errors import CloudError
from ...engine.engine import Engine
from ...engine.journal.records import UNFINISHED, FlowRow
from ...machines.login import LOGIN
from ..flows.status import driver_of
from ..shared.settings import Settings


async def end_superseded(settings: Settings, engine: Engine, done: FlowRow) -> Sequence[str]:
    """End the earlier logins to the same API and account that are not finished and that no process drives.

    Args:
        settings: Where the processes that drive flows are known.
        engine: Where they are.
        done: A flow that has succeeded; only a login supersedes others.

    Returns:
        The ids of those that were ended.
    """
    if done.machine != LOGIN.name:
        return []
    ended: list[str] = []
    for row in await engine.flows(status=UNFINISHED, machine=LOGIN, parent=None):
        if _target(row) != _target(done) or row.id > done.id or driver_of(settings, row):
            continue
        try:
            if await engine.cancel(row.id, f"superseded by the login {done.id}"):
                ended.append(row.id)
        except CloudError:
            continue  # it stays, as it was
    return ended


def _target(row: FlowRow) -> tuple[object, object]:
    """The API and the account of a login."""
    context = msgspec.json.decode(row.context)
    return context["api_url"], context.get("account", "")
