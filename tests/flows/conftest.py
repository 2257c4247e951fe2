"""What every test of the flows needs."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.deploying import Desk, open_desk
from tests.support.watched import Longest


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
