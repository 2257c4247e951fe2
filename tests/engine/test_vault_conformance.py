"""What every vault must keep: secrets, by flow and name, until their flow is discarded."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from systemprompt_cloud.engine.disk import Disk
from systemprompt_cloud.engine.errors import VaultMissing
from systemprompt_cloud.engine.journal.file_vault import FileVault
from systemprompt_cloud.engine.journal.vault import VaultFiles
from systemprompt_cloud.engine.store import Vault

from tests.support.memory_store import MemoryVault


@pytest.fixture(params=["files", "memory"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Vault:
    """A new vault."""
    files = partial(FileVault, VaultFiles(tmp_path / "vault"), Disk(inline=True))
    return files() if request.param == "files" else MemoryVault()


async def test_a_secret_is_held_until_its_flow_is_discarded(vault: Vault) -> None:
    """By flow and name; a second one of the same name replaces the first."""
    assert await vault.put("f", "token", "first-secret") == "vault:token"
    await vault.put("f", "token", "second-secret")
    await vault.put("g", "token", "another-secret")
    assert await vault.get("f", "vault:token") == "second-secret"
    await vault.discard("f")
    assert not await vault.has("f", "vault:token")
    with pytest.raises(VaultMissing):
        await vault.get("f", "vault:token")
    assert await vault.has("g", "vault:token")
    await vault.discard("f")


async def test_a_reference_is_what_put_returned(vault: Vault) -> None:
    """Anything else stands for no secret."""
    await vault.put("f", "token", "a-secret-value")
    for reference in ("token", "vault:other", "a-secret-value", ""):
        assert not await vault.has("f", reference)
