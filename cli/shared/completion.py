"""What the shell offers when Tab is pressed: ids of tenants and flows, read from the files that are there.

Completion runs the program without its callback, so the directory is found here again, from the words typed so far. It
must never fail or speak: what cannot be read is not offered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ...base.errors import CloudError

if TYPE_CHECKING:
    from ...io.local.paths import CloudPaths

OFFERED = 50
"""How many of the newest flows are offered."""


def completing_paths(ctx: typer.Context) -> CloudPaths:
    """The directories the command would use that is being typed. Raises `Io` where there is no current one."""
    from ...io.local.paths import resolve_cloud_paths
    from ...io.local.project import current_directory

    given: dict[str, Any] = ctx.find_root().params
    directory: Path | None = given.get("directory")
    return resolve_cloud_paths(directory, os.environ, current_directory())


def complete_flows(ctx: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """The newest flows whose id begins like this, with where they stand."""
    from ...engine.journal.journal import Journal

    try:
        with Journal(completing_paths(ctx).journal, create=False) as journal:
            rows = journal.flows(roots_only=True, limit=OFFERED)
    except CloudError:
        return
    yield from ((row.id, f"{row.machine}, {row.state}") for row in rows if row.id.startswith(incomplete))
