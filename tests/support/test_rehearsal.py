"""A rehearsal is what it says: a cloud that can go away, a person who can be replaced, errors as they were raised."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from systemprompt_cloud.errors import NotAuthenticated
from systemprompt_cloud.flows.login import start_login

from tests.support.rehearsal import interrupt_after, open_rehearsal, wait_for_state


async def test_a_cloud_that_was_away_is_the_same_cloud(tmp_path: Path) -> None:
    """Connections are refused while it is down; then it answers at the same URL and knows what it knew."""
    async with open_rehearsal(tmp_path) as rehearsal, httpx.AsyncClient(trust_env=False) as client:
        url, tenant = rehearsal.url, rehearsal.buy()
        await rehearsal.go_down()
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
        await rehearsal.come_up()
        assert rehearsal.url == url
        assert (await client.get(url)).status_code == 200
        assert rehearsal.cloud.tenants == {tenant.id: tenant}


async def test_an_error_in_the_block_comes_out_as_it_was(tmp_path: Path) -> None:
    """No exception group around it: a test that expects an error names that error."""
    with pytest.raises(NotAuthenticated):
        async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine():
            raise NotAuthenticated("as it was")


async def test_waiting_for_a_state_that_never_comes_ends(tmp_path: Path) -> None:
    """A flow that ended elsewhere is an error, not a hang."""
    async with open_rehearsal(tmp_path) as rehearsal, rehearsal.open_engine() as engine:
        flow = await start_login(engine, rehearsal.login())
        with pytest.raises(LookupError, match="authenticated"):
            await wait_for_state(flow, "confirming_account")


async def test_an_interruption_after_the_end_is_none(tmp_path: Path) -> None:
    """Told to stop after a thousand changes, a login is simply over; after one, it is not."""
    async with open_rehearsal(tmp_path) as rehearsal:
        async with rehearsal.open_engine() as engine:
            assert await interrupt_after(engine, lambda engine: start_login(engine, rehearsal.login()), 1)
        async with rehearsal.open_engine() as engine:
            assert not await interrupt_after(engine, lambda engine: start_login(engine, rehearsal.login()), 1000)
