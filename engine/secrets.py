"""The secrets of flows that have ended."""

from __future__ import annotations

from functools import partial

import trio

from ..base.errors import CloudError
from ..base.log import get_logger
from .nursery import try_again
from .store import Vault

logger = get_logger(__name__)


async def discard_secrets(vault: Vault, flow: str) -> bool:
    """Remove the secrets of a flow that has ended; False when that failed, which is logged."""
    try:
        await vault.discard(flow)
    except CloudError as exc:
        logger.warning("the secrets of flow %s are still kept: %s", flow, exc)
        return False
    return True


class Removal:
    """Removes secrets that no flow needs any more; what cannot be removed at once is removed later.

    Args:
        vault: Where they are.
        nursery: Where later removals run; what is left when it is closed is removed when the journal is opened again.
    """

    def __init__(self, vault: Vault, nursery: trio.Nursery) -> None:
        self._vault = vault
        self._nursery = nursery

    async def discard(self, flow: str) -> None:
        """Remove every secret of a flow that has ended, or never began."""
        if not await discard_secrets(self._vault, flow):
            self._nursery.start_soon(try_again, partial(discard_secrets, self._vault, flow))
