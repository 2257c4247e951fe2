"""Which API is meant, and commands that work when they are pasted."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from systemprompt_cloud.base.remedies import Remedy
from systemprompt_cloud.cli.screen.remedies import remedy_text
from systemprompt_cloud.cli.shared.settings import (
    Settings,
    choose_api,
    is_well_known,
    named_api_url,
    refuse_untrusted,
    trusted_api_url,
)
from systemprompt_cloud.errors import UnsafeUrl, UntrustedApi
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.cloud.wire import PRODUCTION_URL, SANDBOX_URL
from systemprompt_cloud.io.http.urls import Origin, check_api_url
from systemprompt_cloud.io.local.paths import CloudPaths

FOREIGN = "https://cloud.example"


@pytest.fixture
def project(tmp_path: Path) -> Settings:
    """Settings in a project that brought credentials for a foreign API along."""
    directory = tmp_path / ".systemprompt"
    directory.mkdir(mode=0o700)
    stored = {
        "api_token": "token",
        "api_url": FOREIGN,
        "authenticated_at": "2026-01-01T00:00:00Z",
        "user_email": "ada@example.com",
    }
    file = directory / "credentials.json"
    file.write_text(json.dumps(stored))
    file.chmod(0o600)
    return Settings(paths=CloudPaths(directory=directory, state_directory=directory, origin="project"))


@pytest.mark.parametrize(
    ("named", "environ", "url"),
    [
        ({"api_url": "https://a.example"}, {"SYSTEMPROMPT_API_URL": "https://b.example"}, "https://a.example"),
        ({"env": "sandbox"}, {"SYSTEMPROMPT_API_URL": "https://b.example"}, SANDBOX_URL),
        ({"env": "local"}, {"SYSTEMPROMPT_LOCAL_URL": "http://127.0.0.1:1/"}, "http://127.0.0.1:1"),
        ({}, {"SYSTEMPROMPT_API_URL": "https://b.example/"}, "https://b.example"),
        ({}, {}, FOREIGN),
    ],
)
def test_first_that_names_an_api_decides(
    project: Settings, named: dict[str, str], environ: dict[str, str], url: str
) -> None:
    """`--api-url`, `--env`, the environment, the stored credentials: in this order."""
    settings = Settings(paths=project.paths, api_url=named.get("api_url"), env=named.get("env"))
    assert choose_api(settings, environ).url == url


def test_nobody_named_one(tmp_path: Path) -> None:
    """Without anything, and with credentials that cannot be understood, it is production."""
    settings = Settings(paths=CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="user"))
    assert choose_api(settings, {}).url == PRODUCTION_URL
    (tmp_path / "credentials.json").write_text("{")
    assert choose_api(settings, {}).url == PRODUCTION_URL


def test_local_without_an_address_says_how_to_start_one(project: Settings) -> None:
    """`--env local` needs to know where."""
    with pytest.raises(click.BadParameter, match="systemprompt-cloud sandbox"):
        choose_api(Settings(paths=project.paths, env="local"), {})


@pytest.mark.parametrize(
    "url",
    [
        "",
        "garbage",
        "api.example",
        "//api.example",
        "https://",
        "https:api.example",
        "file:///etc/passwd",
        "ftp://127.0.0.1",
        "http://[",
        "http://example.com",
        "http://0.0.0.0:1",
        "http://127.0.0.1.evil.example",
        "http://localhost@evil.example",
        "http://①27.0.0.1",
        "https://u:secret1@h",
        "https://h\\@evil.example",
        "https://h/?q=1",
        "https://h/v1?",
        "https://h/v1#",
        "https://a b",
        "https://\tapi.example",
        "https://api.example\n",
        "https://api.example/\u200b",
        "https://b\u00fccher.example",
        "https://api..example",
        "https://" + "a" * 64 + ".example",
        "https://api%2eexample",
        "https://[fe80::1%25eth0]",
        "https://api.example:0",
        "https://api.example:65536",
        "https://api.example:+443",
    ],
)
def test_apis_no_token_may_go_to(url: str) -> None:
    """What is a mistake of usage to the command line, the library refuses by the same rule; no password is shown."""
    with pytest.raises(click.BadParameter, match="--api-url must ") as typed:
        named_api_url(url, "--api-url")
    with pytest.raises(UnsafeUrl, match="the API URL must ") as given:
        CloudApiClient(url)
    assert "secret1" not in typed.value.message + given.value.user_message


@pytest.mark.parametrize("url", ["https://xn--.example", "https://h/" + "x" * 70_000])
def test_apis_only_httpx_refuses(url: str) -> None:
    """What the rule cannot know is found out before anything is sent."""
    with pytest.raises(UnsafeUrl):
        CloudApiClient(url)


@given(st.text(st.sampled_from("htps:/.-_@[]?#%1a0\\"), max_size=25).map("https://{}".format))
def test_what_is_checked_is_what_is_called(url: str) -> None:
    """Whatever passes is read by httpx as the same place."""
    try:
        called = CloudApiClient(url).api_url
    except UnsafeUrl:
        return
    assert Origin.parse(called) == check_api_url(url)


def test_api_that_a_project_brought_along_is_not_trusted(project: Settings) -> None:
    """A clone's credentials do not decide where a person logs in; naming the API does."""
    with pytest.raises(UntrustedApi, match=r"cloud\.example") as caught:
        trusted_api_url(project, {})
    assert f"--api-url {FOREIGN}" in caught.value.recovery_hint
    assert trusted_api_url(Settings(paths=project.paths, api_url=FOREIGN), {}) == FOREIGN
    explicit = Settings(
        paths=CloudPaths(
            directory=project.paths.directory, state_directory=project.paths.state_directory, origin="explicit"
        )
    )
    assert trusted_api_url(explicit, {}) == FOREIGN


@pytest.mark.parametrize(
    ("url", "known"),
    [
        (PRODUCTION_URL, True),
        (SANDBOX_URL + "/", True),
        ("http://127.0.0.1:8800", True),
        ("http://[::1]:1", True),
        ("https://api.systemprompt.io.evil.example", False),
        ("https://localhost.evil.example", False),
        ("https://127.0.0.1@evil.example", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_well_known_apis(project: Settings, url: str, known: bool) -> None:
    """Ours and this computer's need no confirmation, and nothing else passes for them."""
    assert is_well_known(url) is known
    if known:
        refuse_untrusted(project, url, "file")
    else:
        with pytest.raises(UntrustedApi):
            refuse_untrusted(project, url, "file")


def test_printed_commands_name_directory_and_api(tmp_path: Path) -> None:
    """What was named on the command line is named again in a command to be pasted, quoted for a shell."""
    directory = tmp_path / "with space"
    settings = Settings(
        paths=CloudPaths(directory=directory, state_directory=directory, origin="explicit"),
        directory=Path("with space"),
        api_url="http://127.0.0.1:1",
    )
    wanted = ["systemprompt-cloud", "--dir", str(directory), "--api-url", "http://127.0.0.1:1", "flows", "resume", "x"]
    assert shlex.split(settings.resume_command("x")) == wanted
    resumed = remedy_text(settings, Remedy("resume", {"flow": "x"}))
    assert resumed == f"To continue, run: {settings.resume_command('x')}"
    there = remedy_text(settings, Remedy("log_in_there", {"api_url": "https://b.example"})) or ""
    assert there.count("--api-url") == 1
    assert "--dir" in there
    local = replace(settings, api_url=None, env="local")
    assert shlex.split(local.command("plans"))[3:] == ["--env", "local", "plans"]
    assert "--env" not in (remedy_text(local, Remedy("log_in_there", {"api_url": "https://b.example"})) or "")
