"""What processes that were killed could not remove: secrets of flows that ended or never began, lock files.

A journal that is set aside or moved leaves the secrets of its flows in the vault, so that they are there when it is put
back. So the journal that is opened in its place removes only what was put there for its own flows.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from ..base.errors import CloudError
from ..base.log import get_logger
from .journal.journal import Journal
from .journal.owners import sweep_owners
from .journal.vault import VaultFiles, file_name, flow_of_file, is_temporary

logger = get_logger(__name__)

ORPHANED_SECONDS: Final = 60.0
"""Secrets without a flow are younger than this while a flow is being started."""


def sweep(journal: Journal, vault: VaultFiles, owners: Path) -> None:
    """Remove what was left behind. What cannot be removed is logged.

    Args:
        journal: Says which flows there are.
        vault: Where their secrets are.
        owners: The directory of the lock files.
    """
    try:
        sweep_owners(owners)
        _sweep_vault(journal, vault)
    except (OSError, CloudError) as exc:
        logger.warning("what killed processes left behind in %s cannot be removed: %s", vault.directory.parent, exc)


def _sweep_vault(journal: Journal, vault: VaultFiles) -> None:
    paths = [(path, flow_of_file(path.name)) for path in vault.directory.glob("*.json*")]
    flows = [flow for _, flow in paths if flow is not None]
    statuses = journal.statuses(flows)
    hashed = len(flows) < len(paths)
    needed = {file_name(flow) for flow in journal.unfinished_ids()} if hashed else set[str]()
    for path, flow in paths:
        status = None if flow is None else statuses.get(flow)
        if status is None and path.name.partition(".json")[0] + ".json" in needed:
            continue
        try:
            orphaned = status is None and time.time() - path.lstat().st_mtime > ORPHANED_SECONDS
            # A flow that is not in this journal may be in another one, which was set aside or moved, and be put back.
            if status == "ended" or (orphaned and (is_temporary(path.name) or vault.is_ours(path))):
                path.unlink()
        except OSError as exc:
            logger.warning("%s holds secrets no flow needs and cannot be removed: %s", path, exc)
