"""The vault of an engine: files of secrets, reached without holding up the loop."""

from __future__ import annotations

import trio

from ..disk import Disk
from .vault import VaultFiles


class FileVault:
    """A directory of secrets as the vault of an engine.

    Args:
        files: The directory.
        disk: Where blocking calls go.
    """

    def __init__(self, files: VaultFiles, disk: Disk) -> None:
        self._files = files
        self._disk = disk

    async def put(self, flow: str, name: str, secret: str) -> str:
        """Keep a secret, durably; see `VaultFiles.put`."""
        return await self._disk.run(self._files.put, flow, name, secret)

    async def get(self, flow: str, reference: str) -> str:
        """The secret a reference stands for. Raises `VaultMissing`."""
        return await self._disk.run(self._files.get, flow, reference)

    async def has(self, flow: str, reference: str) -> bool:
        """Whether `get` would return a secret."""
        return await self._disk.run(self._files.has, flow, reference)

    async def make_known(self, flow: str) -> None:
        """Have the redactor hide every secret of a flow that is taken up again; see `VaultFiles.make_known`."""
        await self._disk.run(self._files.make_known, flow)

    async def discard(self, flow: str) -> None:
        """Forget every secret of a flow."""
        # On the loop where nothing is waited for: a thread for each flow costs a third of the rate at which many flows
        # end. Never left out by a cancellation.
        if not self._files.discard_at_once(flow):
            with trio.CancelScope(shield=True):
                await self._disk.run(self._files.discard, flow)
