"""What every test of the engine needs: directories of its own, and time it can skip."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.io.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from systemprompt_cloud.testing.deploying import Desk, open_desk


@pytest.fixture
def paths(tmp_path: Path) -> CloudPaths:
    """Directories nobody else uses."""
    directory = tmp_path / ".systemprompt"
    return CloudPaths(directory=directory, state_directory=directory, origin="explicit")


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that follows trio's, on New Year 2026."""
    return VirtualClock()


@pytest.fixture
async def desk(paths: CloudPaths) -> AsyncGenerator[Desk]:
    """Somebody who is logged in at a cloud that does as it is told."""
    with trio.fail_after(20):
        async with open_desk(paths) as made:
            yield made
