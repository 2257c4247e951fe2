"""The secrets of flows that have ended."""

from __future__ import annotations

from ..base.errors import CloudError
from ..base.log import get_logger
from .store import Vault

logger = get_logger(__name__)


async def discard_secrets(vault: Vault, flow: str) -> None:
    """Remove the secrets of a flow that has ended; a failure is logged, and the flow has ended all the same."""
    try:
        await vault.discard(flow)
    except CloudError as exc:
        logger.warning("the secrets of flow %s are still kept: %s", flow, exc)
