"""People at terminals: Ctrl-C, a closed window, a second window on the same flow."""

import json
import re
import shlex
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.sandbox import serve_sandbox
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.command import COMMAND, URL, CommandLine, along, clean_environ
from tests.support.terminal import open_window

PORTS = ("--login-port", "0", "--checkout-port", "0")
UP = ("up", "--plan", "plan_sandbox_starter", "--region", "iad", *PORTS, "--no-browser")
RESUME = re.compile(r"systemprompt-cloud [^\n`]*flows resume[^\n`]*")


@pytest.fixture
def cli(tmp_path: Path) -> Generator[CommandLine, None, None]:
    """The command line in an empty home."""
    made = CommandLine(tmp_path, clean_environ() | {"HOME": str(tmp_path)})
    yield made
    made.close()


def resume_words(text: str) -> list[str]:
    """The command a person is told to paste, without the program's name."""
    found = RESUME.search(text)
    assert found, text
    return shlex.split(found[0].rstrip(". "))[1:]


def shown_url(text: str, where: str) -> str:
    """The address with `where` in it that a window shows."""
    return next(url for url in URL.findall(text) if where in url)


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
async def test_an_interrupted_command_says_how_to_go_on_and_that_works(
    cli: CommandLine, tmp_path: Path, stop: signal.Signals, code: int
) -> None:
    """128 and the signal's number, with a resume command; pasting it ends where the first would have ended."""
    directory = tmp_path / "my files"
    async with serve_sandbox(step_seconds=0.05) as sandbox, trio.open_nursery() as tabs:
        options = ("--json", "--dir", str(directory), "--api-url", sandbox.url)
        command = cli.begin(*UP, *options)
        url = await along(command.wait_invited)
        command.interrupt(stop)
        last = (await along(command.wait)).ended(code).lines[-1]
        assert (last["verdict"], last["machine"]) == ("pending", "onboarding")
        going_on = ["--dir", str(directory), "--api-url", sandbox.url, "flows", "resume", last["flow"]]
        assert resume_words(last["resume"]) == going_on

        tabs.start_soon(ScriptedBrowser().visit, url)
        again = cli.begin(*resume_words(last["resume"]), "--no-browser", "--json")
        tabs.start_soon(ScriptedBrowser().visit, await along(lambda: again.wait_invited("/pay/")))
        assert (await along(again.wait)).ended(0).lines[-1]["state"] == "ready"
        assert sandbox.cloud.ledger.checkouts == 1


async def test_ctrl_c_in_a_terminal_window_and_the_pasted_resume(tmp_path: Path) -> None:
    """In a real terminal window Ctrl-C gives the resume command, and typing it there goes on to the end."""
    directory = tmp_path / ".systemprompt"
    async with serve_sandbox(step_seconds=0.05) as sandbox, trio.open_nursery() as tabs:
        with open_window(columns=300) as window:
            window.run([*COMMAND, *UP, "--dir", str(directory), "--api-url", sandbox.url])
            url = shown_url(await window.wait_for("/sandbox/consent/"), "/consent/")
            window.type("C-c")
            shown = await window.wait_for("flows resume")
            window.run(["sh", "-c", "echo left with $?"])
            window.type("echo was $?", "Enter")
            window.run([*COMMAND, *resume_words(shown)])
            tabs.start_soon(ScriptedBrowser().visit, url)
            pay = shown_url(await window.wait_for("/sandbox/pay/"), "/pay/")
            tabs.start_soon(ScriptedBrowser().visit, pay)
            await window.wait_for(str(directory / "tenants.json"))
            window.run(["sh", "-c", "echo all done"])
            assert "Traceback" not in await window.wait_for("all done")


async def test_ctrl_c_in_a_terminal_window_exits_130(tmp_path: Path) -> None:
    """The shell in the window sees exit code 130."""
    async with serve_sandbox() as sandbox:
        with open_window() as window:
            line = shlex.join([*COMMAND, *UP, "--dir", str(tmp_path / "d"), "--api-url", sandbox.url])
            window.tmux("send-keys", "-l", f"{line}; echo code=$?")
            window.type("Enter")
            await window.wait_for("/sandbox/consent/")
            window.type("C-c")
            await window.wait_for("code=130")


async def test_a_login_whose_window_was_closed_accepts_the_tab_that_is_still_open(
    cli: CommandLine, tmp_path: Path
) -> None:
    """Close the window while the browser is open, log in again: the old tab, same nonce and port, is accepted."""
    directory = tmp_path / ".systemprompt"
    async with serve_sandbox() as sandbox, trio.open_nursery() as tabs:
        options = ("login", "--port", "0", "--no-browser", "--dir", str(directory), "--api-url", sandbox.url)
        with open_window(columns=300) as window:
            window.run([*COMMAND, *options])
            url = shown_url(await window.wait_for("/sandbox/consent/"), "/consent/")
        # Nobody listens now; the tab's way back fails until somebody does.
        tabs.start_soon(ScriptedBrowser(patience=30).visit, url)
        command = cli.begin(*options, "--json")
        assert (await along(command.wait)).ended(0).lines[-1]["state"] == "authenticated"
        assert command.urls[:1] == [url]
        assert json.loads((directory / "credentials.json").read_text())["api_url"] == sandbox.url


async def test_a_second_process_is_told_who_drives_the_flow_and_disturbs_nothing(cli: CommandLine) -> None:
    """Two processes on one flow: the second exits 1 naming the first's pid; the first goes on to its end."""
    async with serve_sandbox() as sandbox, trio.open_nursery() as tabs:
        options = ("login", "--port", "0", "--no-browser", "--api-url", sandbox.url)
        first = cli.begin(*options, "--json")
        url = await along(first.wait_invited)
        for words in (options, ("flows", "resume")):
            second = (await along(cli.begin(*words).wait)).ended(1)
            assert str(first.process.pid) in second.err
        tabs.start_soon(ScriptedBrowser().visit, url)
        (await along(first.wait)).ended(0)


async def test_a_flow_cancelled_from_another_window_ends_in_its_own(cli: CommandLine) -> None:
    """`flows cancel` reaches the process that drives the flow: it ends as cancelled, exit code 1."""
    async with serve_sandbox() as sandbox:
        first = cli.begin("login", "--port", "0", "--no-browser", "--json", "--api-url", sandbox.url)
        await along(first.wait_invited)
        flow = first.lines[0]["flow"]
        (await along(cli.begin("flows", "cancel", flow[:12], "--api-url", sandbox.url).wait)).ended(0)
        assert (await along(first.wait)).ended(1).lines[-1]["state"] == "cancelled"
