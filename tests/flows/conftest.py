"""What every test of the engine needs: directories of its own, and time it can skip."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import loguru
import pytest
import trio
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.paths import CloudPaths
from systemprompt_cloud.io.polling import Backoff
from systemprompt_cloud.testing.clock import VirtualClock
from systemprompt_cloud.testing.deploying import Desk, open_desk
from systemprompt_cloud.testing.watched import Longest


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
def logged() -> Iterator[list[str]]:
    """Every line of the log, tracebacks too."""
    lines: list[str] = []
    sink = loguru.logger.add(lines.append, level="DEBUG", format="{message}\n{exception}")
    yield lines
    loguru.logger.remove(sink)


@pytest.fixture
def services(paths: CloudPaths) -> Services:
    """Services of which only the waits are used: polls every 10 s, backs off 1, 2, 4 … s."""
    return Services(paths, poll_seconds=10.0, backoff=Backoff(base=1.0, cap=60.0, rng=Longest()))


@pytest.fixture
async def desk(paths: CloudPaths) -> AsyncGenerator[Desk]:
    """Somebody who is logged in at a cloud that does as it is told."""
    with trio.fail_after(20):
        async with open_desk(paths) as made:
            yield made
