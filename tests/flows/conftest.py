"""What every test of the engine needs: directories of its own, and time it can skip."""

from __future__ import annotations

from pathlib import Path

import pytest
from systemprompt_cloud.io.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock


@pytest.fixture
def paths(tmp_path: Path) -> CloudPaths:
    """Directories nobody else uses."""
    directory = tmp_path / ".systemprompt"
    return CloudPaths(directory=directory, state_directory=directory, origin="explicit")


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that follows trio's, on New Year 2026."""
    return VirtualClock()
