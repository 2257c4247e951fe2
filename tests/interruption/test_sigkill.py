"""Pull the plug: a real process, killed at random moments, goes on where it stood."""

import json
import random
from pathlib import Path
from typing import Literal

import pytest
import trio
from systemprompt_cloud.sandbox import serve_sandbox
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.command import COMMAND, Ran, Running, along

KILLS = 20
INTERPRETER = (0.3, 1.1)
"""Within how many seconds a command is killed that first has to import everything."""
FORK = (0.01, 0.7)
"""And one that is forked from a process which has."""


def everything_written(directory: Path) -> bytes:
    """Every byte under the directory, except the files that are meant to hold secrets."""
    private = {"credentials.json", "tenants.json"}
    files = [path for path in directory.rglob("*") if path.is_file() and path.name not in private]
    return b"".join(path.read_bytes() for path in files)


class Person:
    """Somebody whose browser keeps its tabs while commands come and go: every address is opened once."""

    def __init__(self, browser: ScriptedBrowser, tabs: trio.Nursery) -> None:
        self._browser = browser
        self._tabs = tabs
        self._opened: set[str] = set()

    async def follow(self, command: Running) -> None:
        """Read along until the command has ended."""
        while not command.finished:
            await along(
                lambda: command.wait_until(lambda: command.finished or bool(self._new(command)), "show an address")
            )
            for url in self._new(command):
                self._opened.add(url)
                self._tabs.start_soon(self._browser.visit, url)

    def _new(self, command: Running) -> set[str]:
        return set(command.urls) - self._opened


@pytest.mark.parametrize("payment", ["pay", "pending"])
async def test_twenty_kills_lose_nothing_and_repeat_nothing(tmp_path: Path, payment: Literal["pay", "pending"]) -> None:
    """`up`, killed with SIGKILL at twenty random moments and resumed each time, ends ready with one checkout."""
    seed = random.SystemRandom().randrange(1_000_000)
    moments = random.Random(seed)  # noqa: S311 when to kill is no secret
    directory = tmp_path / ".systemprompt"
    log = tmp_path / "log.txt"
    said = ""
    killed = 0
    ran = Ran(-1, "", "")
    async with serve_sandbox(step_seconds=2.0, faults=["drop-stream:after=3,outage=1"]) as sandbox:
        ports = ("--login-port", "0", "--checkout-port", "0")
        begin = ("up", "--plan", "plan_sandbox_starter", "--region", "iad", *ports)
        options = ("--json", "--no-browser", "--dir", str(directory), "-vv", "--log-file", str(log))
        flow = ""
        async with trio.open_nursery() as tabs:
            person = Person(ScriptedBrowser(payment=payment, patience=60), tabs)
            for _ in range(KILLS * 2):
                arguments = ("flows", "resume", flow) if flow else (*begin, "--api-url", sandbox.url)
                real = killed % 5 == 0  # the others are forks: SIGKILL is the same to both
                with Running([*COMMAND, *arguments, *options], real=real) as command:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(person.follow, command)
                        with trio.move_on_after(
                            moments.uniform(*(INTERPRETER if real else FORK)) if killed < KILLS else 60
                        ):
                            await along(command.wait)
                        if command.process.poll() is None:
                            command.process.kill()
                            killed += 1
                        ran = await along(command.wait)
                        nursery.cancel_scope.cancel()
                flow = flow or next((line["flow"] for line in command.lines), "")
                said += ran.out + ran.err
                if ran.code >= 0:
                    break
            tabs.cancel_scope.cancel()
        ledger = sandbox.cloud.ledger

    why = f"seed {seed}, {killed} kills: {said[-3000:]}"
    assert ran.code == 0, why
    end = ran.lines[-1]
    assert (end["verdict"], end["state"], end["machine"]) == ("success", "ready", "onboarding"), why
    assert killed == KILLS, why
    assert ledger.checkouts == 1, why
    tenants = json.loads((directory / "tenants.json").read_text())["tenants"]
    assert len(tenants) == 1
    token = json.loads((directory / "credentials.json").read_text())["api_token"]
    secrets = [token, tenants[0]["sync_token"], tenants[0]["internal_database_url"]]
    written = everything_written(directory) + log.read_bytes() + said.encode()
    for secret in secrets:
        assert secret.encode() not in written
    assert list((directory / "vault").glob("*.json")) == []
