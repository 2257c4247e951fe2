"""A process finds its credentials once, by the rules, and everybody in it gets the same ones."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.errors import (
    CredentialsBootstrapError,
    CredentialsCorrupted,
    Network,
    NotAuthenticated,
    TokenExpired,
)
from systemprompt_cloud.io.local.bootstrap import Bootstrap, find_credentials
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.paths import CloudPaths
from typing_extensions import override

from tests.support.rehearsal import Rehearsal, open_rehearsal

NOW = datetime.now(UTC)
CONTAINER = {"FLY_APP_NAME": "app"}


@pytest.fixture
async def rehearsal(tmp_path: Path) -> AsyncGenerator[Rehearsal]:
    """A cloud to show credentials to."""
    async with open_rehearsal(tmp_path, nobody=True) as made:
        yield made


def handed(rehearsal: Rehearsal, token: str | None = None) -> dict[str, str]:
    """An environment with a login, good unless a token is given."""
    account = rehearsal.cloud.accounts[1]
    return {
        "SYSTEMPROMPT_API_TOKEN": rehearsal.cloud.tokens.issue(account.id, account.email) if token is None else token,
        "SYSTEMPROMPT_USER_EMAIL": account.email,
        "SYSTEMPROMPT_API_URL": rehearsal.url,
    }


def ending(when: timedelta) -> str:
    """A token that is nobody's, with this much time left."""
    return jwt.encode({"exp": NOW + when}, "k" * 32)


# --- where they come from ------------------------------------------------------------------------------------------


async def test_the_file_is_used_when_the_environment_holds_no_login(rehearsal: Rehearsal) -> None:
    """Who is logged in on this computer."""
    token = rehearsal.log_in()
    found = await Bootstrap({}, rehearsal.paths).init()
    assert found is not None
    assert found.api_token == token


async def test_a_token_alone_is_named_by_its_api(rehearsal: Rehearsal) -> None:
    """Whose it is comes from the API that the token is shown to."""
    environ = handed(rehearsal)
    address = environ.pop("SYSTEMPROMPT_USER_EMAIL")
    found = await Bootstrap(environ, rehearsal.paths).init()
    assert found is not None
    assert (found.user_email, found.api_token) == (address, environ["SYSTEMPROMPT_API_TOKEN"])


async def test_a_login_in_the_environment_goes_before_the_file(rehearsal: Rehearsal) -> None:
    """It was meant for this very process."""
    rehearsal.log_in()
    found = await Bootstrap(handed(rehearsal), rehearsal.paths).init()
    assert found is not None
    assert found.user_email == rehearsal.cloud.accounts[1].email


async def test_in_the_container_the_file_is_never_looked_at(rehearsal: Rehearsal) -> None:
    """Without a token in its environment there are no credentials, and that is not an error until they are needed."""
    rehearsal.log_in()
    bootstrap = Bootstrap(CONTAINER, rehearsal.paths)
    assert await bootstrap.init() is None
    assert bootstrap.get() is None
    assert not bootstrap.expires_within(timedelta(days=9999))
    with pytest.raises(CredentialsBootstrapError, match="no cloud credentials") as caught:
        bootstrap.require()
    assert caught.value.reason == "not_available"
    assert "SYSTEMPROMPT_API_TOKEN" in caught.value.recovery_hint


async def test_the_loop_does_not_wait_for_a_file_or_a_keyring(rehearsal: Rehearsal) -> None:
    """They are looked at in a thread: a keyring may take seconds to answer."""
    asked_in: set[int] = set()

    class Environment(dict[str, str]):
        @override
        def get(self, *name_and_default: Any) -> Any:
            asked_in.add(threading.get_ident())
            return super().get(*name_and_default)

    rehearsal.log_in()
    assert await Bootstrap(Environment(), rehearsal.paths).init() is not None
    assert asked_in
    assert threading.get_ident() not in asked_in


def test_without_any_login_it_is_an_error(tmp_path: Path) -> None:
    """It names the file that is not there."""
    paths = CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="user")
    with pytest.raises(NotAuthenticated, match=r"credentials\.json"):
        find_credentials({}, paths)


def test_the_file_is_found_by_the_environment_given(tmp_path: Path) -> None:
    """Not by that of the process."""
    with pytest.raises(NotAuthenticated, match=str(tmp_path)):
        find_credentials({"SYSTEMPROMPT_DIR": str(tmp_path)})


def test_a_broken_file_is_not_passed_over(tmp_path: Path) -> None:
    """Unreadable is an error that names it, never "nobody" (SECURITY 11)."""
    (tmp_path / "credentials.json").write_text("{")
    (tmp_path / "credentials.json").chmod(0o600)
    paths = CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="user")
    with pytest.raises(CredentialsCorrupted, match=r"credentials\.json"):
        find_credentials({}, paths)


# --- what is good enough -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["environment", "file"])
async def test_an_expired_token_is_refused_without_asking(rehearsal: Rehearsal, where: str) -> None:
    """Outside the container."""
    old = ending(-timedelta(seconds=1))
    if where == "file":
        CloudCredentials(
            api_token=old, api_url=rehearsal.url, authenticated_at=NOW, user_email="a@b.example"
        ).save_to_path(rehearsal.paths.credentials)
    bootstrap = Bootstrap(handed(rehearsal, old) if where == "environment" else {}, rehearsal.paths)
    with pytest.raises(TokenExpired, match="expired"):
        await bootstrap.init()
    assert not bootstrap.is_initialized


async def test_a_token_the_api_refuses_is_an_error(rehearsal: Rehearsal) -> None:
    """And nothing is initialised by it: a later `init` may do better."""
    environ = handed(rehearsal, ending(timedelta(hours=5)))
    bootstrap = Bootstrap(environ, rehearsal.paths)
    with pytest.raises(NotAuthenticated, match=rehearsal.url):
        await bootstrap.init()
    assert not bootstrap.is_initialized
    environ.update(handed(rehearsal))
    assert await bootstrap.init() is not None


@pytest.mark.parametrize("token_left", [timedelta(hours=5), -timedelta(hours=5)])
async def test_in_the_container_a_refusal_is_a_warning(
    rehearsal: Rehearsal, warned: list[str], token_left: timedelta
) -> None:
    """Nobody can log in there, and what does not need the API should still run."""
    environ = handed(rehearsal, ending(token_left))
    found = await Bootstrap({**environ, **CONTAINER}, rehearsal.paths).init()
    assert found is not None
    assert found.api_token == environ["SYSTEMPROMPT_API_TOKEN"]
    assert [message for message in warned if "could not be confirmed" in message]


async def test_an_api_that_is_down_is_an_error_outside_and_a_warning_inside(
    rehearsal: Rehearsal, warned: list[str]
) -> None:
    """Nobody knows whether the token is good."""
    environ = handed(rehearsal)
    await rehearsal.go_down()
    with pytest.raises(Network):
        await Bootstrap(environ, rehearsal.paths).init()
    assert warned == []
    assert await Bootstrap({**environ, **CONTAINER}, rehearsal.paths).init() is not None
    assert "could not be confirmed" in warned[0]


# --- once ----------------------------------------------------------------------------------------------------------


async def test_the_credentials_are_asked_for_too_early() -> None:
    """The hint says what to call."""
    bootstrap = Bootstrap({})
    assert not bootstrap.is_initialized
    assert not bootstrap.expires_within(timedelta(days=9999))
    for ask in (bootstrap.get, bootstrap.require):
        with pytest.raises(CredentialsBootstrapError) as caught:
            ask()
        assert caught.value.reason == "not_initialized"
        assert "init()" in caught.value.recovery_hint


async def test_a_second_init_is_a_mistake_and_try_init_is_not(rehearsal: Rehearsal) -> None:
    """What was found the first time stands."""
    rehearsal.log_in()
    bootstrap = Bootstrap({}, rehearsal.paths)
    first = await bootstrap.try_init()
    rehearsal.log_in(1)
    with pytest.raises(CredentialsBootstrapError) as caught:
        await bootstrap.init()
    assert caught.value.reason == "already_initialized"
    assert await bootstrap.try_init() is first is bootstrap.get() is bootstrap.require()


async def test_reload_takes_up_a_new_login(rehearsal: Rehearsal) -> None:
    """Everybody gets the new ones; when there is none any more, the old ones stay."""
    rehearsal.log_in()
    bootstrap = Bootstrap({}, rehearsal.paths)
    await bootstrap.init()
    token = rehearsal.log_in(1)
    assert bootstrap.reload().api_token == token == bootstrap.require().api_token
    assert bootstrap.expires_within(timedelta(days=2))
    assert not bootstrap.expires_within(timedelta(hours=2))
    rehearsal.paths.credentials.unlink()
    with pytest.raises(NotAuthenticated):
        bootstrap.reload()
    assert bootstrap.require().api_token == token
    with pytest.raises(CredentialsBootstrapError, match="SYSTEMPROMPT_API_TOKEN"):
        Bootstrap(CONTAINER).reload()


async def test_many_threads_get_one_answer(rehearsal: Rehearsal) -> None:
    """Each with an event loop of its own, all at once: `try_init` never fails and never disagrees."""
    rehearsal.log_in()
    bootstrap, together = Bootstrap({}, rehearsal.paths), threading.Barrier(8)
    found: list[CloudCredentials | None] = []

    def work() -> None:
        together.wait()
        found.append(trio.run(bootstrap.try_init))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(trio.to_thread.run_sync, work)
    assert len({id(each) for each in found}) == 1
    assert found[0] is bootstrap.require()


async def test_of_many_inits_at_once_one_succeeds(rehearsal: Rehearsal) -> None:
    """The others are told."""
    rehearsal.log_in()
    bootstrap = Bootstrap({}, rehearsal.paths)
    ends: list[str] = []

    async def init() -> None:
        try:
            await bootstrap.init()
        except CredentialsBootstrapError as exc:
            ends.append(exc.reason)
        else:
            ends.append("found")

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(init)
    assert sorted(ends) == ["already_initialized"] * 4 + ["found"]


PROGRAM = """
import trio
from datetime import timedelta
from systemprompt_cloud import CredentialsBootstrap, CredentialsBootstrapError
assert not CredentialsBootstrap.is_initialized()
try:
    CredentialsBootstrap.get()
except CredentialsBootstrapError as error:
    print(error.reason)
print(trio.run(CredentialsBootstrap.init).user_email)
assert CredentialsBootstrap.is_initialized()
assert CredentialsBootstrap.get() is CredentialsBootstrap.require() is trio.run(CredentialsBootstrap.try_init)
print(CredentialsBootstrap.expires_within(timedelta(days=2)), CredentialsBootstrap.reload().user_email)
"""


async def test_the_one_for_the_whole_process(rehearsal: Rehearsal) -> None:
    """The names of the Rust crate, with the process's own environment and directory."""
    environ = {**os.environ, **handed(rehearsal), "SYSTEMPROMPT_DIR": str(rehearsal.paths.directory)}
    ran = await trio.run_process(
        [sys.executable, "-c", PROGRAM], env=environ, capture_stdout=True, stderr=subprocess.STDOUT, check=False
    )
    email = rehearsal.cloud.accounts[1].email
    assert ran.stdout.decode().splitlines() == ["not_initialized", email, f"True {email}"]


def test_its_errors_are_errors_of_this_package() -> None:
    """Whoever catches `CloudError` catches them, with a hint for each."""
    assert issubclass(CredentialsBootstrapError, CloudError)
