"""The real command as a process of its own, in an empty home, against a local cloud that is one too."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from systemprompt_cloud.sandbox.browser import FormReader

from tests.support.command import COMMAND, CommandLine, Ran, Running, clean_environ

Clouds = Callable[..., str]
Owner = tuple[CommandLine, str]


@pytest.fixture(scope="session")
def clouds() -> Generator[Clouds, None, None]:
    """Starts a local cloud with the options given, and gives its address."""
    everyone = CommandLine(Path.cwd(), clean_environ())
    yield lambda *options: everyone.begin("sandbox", "--step", "0.02", *options).wait_line()
    for running in everyone.running:
        running.interrupt(signal.SIGTERM)
    for running in everyone.running:
        running.wait().ended(0)
    everyone.close()


@pytest.fixture(scope="session")
def cloud(clouds: Clouds) -> str:
    """The address of a local cloud where nothing goes wrong."""
    return clouds()


@pytest.fixture
def cli(tmp_path: Path, cloud: str) -> Generator[CommandLine, None, None]:
    """The command line in an empty home, speaking to the local cloud."""
    home = tmp_path / "home"
    home.mkdir()
    made = CommandLine(home, clean_environ() | {"HOME": str(home), "SYSTEMPROMPT_API_URL": cloud})
    yield made
    made.close()


def at_terminal(cli: CommandLine, *words: str, typed: bytes = b"") -> Ran:
    """Run a command whose stdin is a terminal, with something typed there before it asks."""
    leader, follower = pty.openpty()
    try:
        os.write(leader, typed)
        with Running([*COMMAND, *words], environ=cli.environ, cwd=cli.home, stdin=follower) as running:
            return running.wait()
    finally:
        os.close(leader)
        os.close(follower)


def decide_elsewhere(url: str, decision: str) -> str:
    """Press a button in a browser on another computer: the way back ends nowhere. Its address is the answer."""
    with httpx.Client(trust_env=False) as client:
        page = client.get(url)
        reader = FormReader()
        reader.feed(page.text)
        form = next(form for form in reader.forms if ("decision", decision) in form.buttons)
        here = f"{page.url.scheme}://{page.url.netloc.decode()}"
        answer = client.post(
            page.url.join(form.action),
            data=form.fields | {"decision": decision},
            headers={"Origin": here, "Referer": url},
        )
        return answer.headers["location"]


def offered(cli: CommandLine, *words: str) -> list[str]:
    """What bash is offered after these words, of which the last is unfinished."""
    ran = cli(
        _SYSTEMPROMPT_CLOUD_COMPLETE="complete_bash",
        COMP_WORDS=" ".join(("systemprompt-cloud", *words)),
        COMP_CWORD=str(len(words)),
    ).ended(0)
    assert ran.err == ""
    return ran.out.split()


Up = ("up", "--plan", "plan_sandbox_starter", "--region", "fra", "--login-port", "0", "--checkout-port", "0")


def buy(cli: CommandLine) -> str:
    """Log in and buy a tenant; its id."""
    cli.play(*Up, "--no-browser").ended(0)
    stored = json.loads((cli.directory / "tenants.json").read_text())["tenants"]
    return str(stored[-1]["id"])


@pytest.fixture(scope="session")
def bought(tmp_path_factory: pytest.TempPathFactory, cloud: str) -> tuple[Path, str]:
    """A home with a login and one tenant, and the tenant's id."""
    home = tmp_path_factory.mktemp("bought") / "home"
    home.mkdir()
    made = CommandLine(home, clean_environ() | {"HOME": str(home), "SYSTEMPROMPT_API_URL": cloud})
    tenant = buy(made)
    made.close()
    return home, tenant


@pytest.fixture
def owner(bought: tuple[Path, str], cli: CommandLine) -> tuple[CommandLine, str]:
    """The command line of somebody who has a tenant, in a home of its own, and the tenant's id."""
    home, tenant = bought
    shutil.copytree(home, cli.home, dirs_exist_ok=True)
    return cli, tenant


def stored(cli: CommandLine) -> list[dict[str, Any]]:
    """What tenants.json holds."""
    return json.loads((cli.directory / "tenants.json").read_text())["tenants"]


def secrets_of(cli: CommandLine) -> list[str]:
    """Every credential that is stored of any tenant."""
    names = ("database_url", "internal_database_url", "sync_token")
    return [tenant[name] for tenant in stored(cli) for name in names if tenant.get(name)]
