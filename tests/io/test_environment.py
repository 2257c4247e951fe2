"""What the environment says about the cloud is understood in one way, and complained about by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from systemprompt_cloud.errors import CredentialsCorrupted
from systemprompt_cloud.io.cloud.accounts import UNKNOWN_EMAIL
from systemprompt_cloud.io.cloud.wire import PRODUCTION_URL
from systemprompt_cloud.io.local.environment import environment_api_url, environment_credentials, in_container
from systemprompt_cloud.testing.scripted import make_token

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LOGIN = {"SYSTEMPROMPT_API_TOKEN": "token", "SYSTEMPROMPT_USER_EMAIL": "ann@example.com"}


def test_a_login_in_the_environment() -> None:
    """Token and address of the variables, the API they name or production, made at this moment."""
    found = environment_credentials(LOGIN, NOW)
    assert found is not None
    assert (found.api_token, found.user_email, found.api_url) == ("token", "ann@example.com", PRODUCTION_URL)
    assert found.authenticated_at == NOW
    named = environment_credentials({**LOGIN, "SYSTEMPROMPT_API_URL": "https://cloud.example/"}, NOW)
    assert named is not None
    assert named.api_url == "https://cloud.example"


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {} ", "\ufeff{}\r\n", '"{}"', "'{}'\n"])
def test_what_files_and_shells_put_around_a_value_is_no_part_of_it(around: str) -> None:
    """Secret files end with a line end, env files keep quotes, Windows begins with a byte order mark."""
    named = {**LOGIN, "SYSTEMPROMPT_API_URL": "https://cloud.example/"}
    found = environment_credentials({name: around.format(value) for name, value in named.items()}, NOW)
    assert found is not None
    assert (found.api_token, found.user_email, found.api_url) == ("token", "ann@example.com", "https://cloud.example")


@pytest.mark.parametrize("beside", [{}, {"SYSTEMPROMPT_USER_EMAIL": ""}, {"SYSTEMPROMPT_USER_EMAIL": "\n"}])
def test_a_token_alone_is_a_login(beside: dict[str, str]) -> None:
    """Whose it is, its API knows."""
    found = environment_credentials({"SYSTEMPROMPT_API_TOKEN": "token", **beside}, NOW)
    assert found is not None
    assert (found.api_token, found.user_email) == ("token", UNKNOWN_EMAIL)


@pytest.mark.parametrize("token", [{}, {"SYSTEMPROMPT_API_TOKEN": ""}, {"SYSTEMPROMPT_API_TOKEN": " \r\n"}])
def test_no_token_is_no_login(token: dict[str, str]) -> None:
    """An empty variable counts as unset, whatever stands beside it."""
    assert environment_credentials({"SYSTEMPROMPT_USER_EMAIL": "ann@example.com", **token}, NOW) is None


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"SYSTEMPROMPT_USER_EMAIL": "ann"}, "SYSTEMPROMPT_USER_EMAIL.*user_email"),
        ({"SYSTEMPROMPT_API_URL": "ftp://cloud.example"}, "SYSTEMPROMPT_API_URL.*api_url"),
        ({"SYSTEMPROMPT_API_TOKEN": "two words"}, "SYSTEMPROMPT_API_TOKEN holds a space or a line end"),
        ({"SYSTEMPROMPT_API_TOKEN": "Bearer abc"}, "SYSTEMPROMPT_API_TOKEN begins with `Bearer`"),
    ],
)
def test_half_a_login_is_an_error_that_names_the_variables(changed: dict[str, str], named: str) -> None:
    """And does not repeat the token."""
    with pytest.raises(CredentialsCorrupted, match=named) as caught:
        environment_credentials({**LOGIN, **changed}, NOW)
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize(
    ("minutes", "remote", "warns"), [(59, "", True), (-1, "", True), (61, "", False), (59, "true", False)]
)
def test_a_token_that_ends_soon_is_said_unless_nobody_would_hear(
    warned: list[str], minutes: int, remote: str, warns: bool
) -> None:
    """Under an hour is a warning; a process that another CLI started says nothing."""
    token = make_token(exp=NOW + timedelta(minutes=minutes))
    environment_credentials({**LOGIN, "SYSTEMPROMPT_API_TOKEN": token, "SYSTEMPROMPT_CLI_REMOTE": remote}, NOW)
    assert ["less than an hour" in message for message in warned] == [True] * warns


def test_the_container_and_the_api_are_recognised() -> None:
    """By one variable each; empty counts as unset."""
    assert in_container({"FLY_APP_NAME": "app"})
    assert not in_container({"FLY_APP_NAME": ""})
    assert environment_api_url({"SYSTEMPROMPT_API_URL": "http://127.0.0.1:1//"}) == "http://127.0.0.1:1"
    assert environment_api_url({"SYSTEMPROMPT_API_URL": ""}) is None
