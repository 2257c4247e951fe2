"""However badly a story is told, the wait for its end ends when its time is up; on trio's clock, which is skipped."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import trio
import trio.testing
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.flows.provisioning import provisioning_program
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.machines.provisioning import PROVISIONING, ProvisioningContext
from systemprompt_cloud.testing.clock import VirtualClock

from tests.support.story import TENANT, Happening, StoryServer, Telling, story_services

API = "http://127.0.0.1:1"


@pytest.mark.parametrize("retry_after", [None, 1000.0])
@pytest.mark.parametrize("latency", [0.0, 50.0])
def test_a_deadline_is_not_overshot(retry_after: float | None, latency: float) -> None:
    """No stream, a status that is refused or slow, waits as long as you like: asked one last time at the deadline."""
    story = [Happening(500.0, "tenant_ready", "1: ready")]
    away = ((0.0, 1e6),)
    refused = ((0.0, 99.0),) if retry_after else ()
    telling = Telling(away=away, refused=refused, retry_after=retry_after, latencies=(latency,) * 60 + (0.0,))
    context = ProvisioningContext(api_url=API, tenant_id=TENANT, timeout=100.0)

    async def main() -> None:
        with tempfile.TemporaryDirectory() as home:
            paths = CloudPaths(directory=Path(home) / "d", state_directory=Path(home) / "d", origin="explicit")
            server, clock = StoryServer(story, telling), VirtualClock()
            services = story_services(paths, server)
            async with open_engine(paths, [provisioning_program(services)], clock=clock, inline=True) as engine:
                await until_overdue(engine, context)
            assert server.time == pytest.approx(100.0 + latency)
            assert max(server.questions) == pytest.approx(100.0)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.0))


async def until_overdue(engine: Engine, context: ProvisioningContext) -> None:
    """Wait until the flow stands still because its time is up."""
    flow = await engine.start(PROVISIONING, context)
    with pytest.raises(FlowParked) as parked:
        await flow.wait()
    assert parked.value.state == "overdue"
