"""A login whose token is kept in the system's keyring, from the flow that saves it to the flow that uses it."""

from __future__ import annotations

from pathlib import Path

from systemprompt_cloud.flows.checkout import start_checkout
from systemprompt_cloud.flows.cloud import Cloud
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.local.credentials import CloudCredentials

from tests.support.rehearsal import open_rehearsal
from tests.support.secret_service import SecretService


async def test_a_flow_saves_into_the_keyring_and_the_next_one_reads_from_it(
    tmp_path: Path, keyring: SecretService
) -> None:
    """The choice is the login's; whoever needs the token afterwards need not know."""
    async with (
        open_rehearsal(tmp_path) as rehearsal,
        rehearsal.open_engine() as engine,
        Services(rehearsal.paths) as services,
    ):
        login = await Cloud(rehearsal.url, engine, services).log_in(port=0, keyring=True)
        assert (await login.wait()).succeeded
        assert CloudCredentials.peek_at_path(rehearsal.paths.credentials).in_keyring
        assert len(keyring.accounts()) == 1
        bought = await start_checkout(engine, rehearsal.checkout())
        assert (await bought.wait()).succeeded


async def test_a_token_that_is_there_already_goes_where_it_is_asked_to(tmp_path: Path, keyring: SecretService) -> None:
    """Also without a browser."""
    async with (
        open_rehearsal(tmp_path) as rehearsal,
        rehearsal.open_engine() as engine,
        Services(rehearsal.paths) as services,
    ):
        token = rehearsal.log_in()
        login = await Cloud(rehearsal.url, engine, services).log_in(token=token, keyring=True)
        assert (await login.wait()).succeeded
        assert CloudCredentials.peek_at_path(rehearsal.paths.credentials).in_keyring
        assert CloudCredentials.load_from_path(rehearsal.paths.credentials).api_token == token
