"""People at terminals: Ctrl-C, a closed window, a second window on the same flow."""

import json
import re
import shlex
import signal
import sys
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.sandbox import serve_sandbox
from systemprompt_cloud.testing.browser import ScriptedBrowser
from systemprompt_cloud.testing.processes import URL, Command, command_line, run_command
from systemprompt_cloud.testing.terminal import open_window

PORTS = ("--login-port", "0", "--checkout-port", "0")
UP = ("up", "--plan", "plan_sandbox_starter", "--region", "iad", *PORTS, "--no-browser")
RESUME = re.compile(r"systemprompt-cloud [^\n`]*flows resume[^\n`]*")


def resume_command(text: str) -> list[str]:
    """The command a person is told to paste, run with this interpreter."""
    found = RESUME.search(text)
    assert found, text
    return [sys.executable, "-m", "systemprompt_cloud", *shlex.split(found[0].rstrip(". "))[1:]]


async def address(command: Command) -> str:
    """The address the command shows first."""
    while not command.urls:
        assert command.process.returncode is None, command.stderr
        await command.wait_words()
    return command.urls[0]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_command_says_how_to_go_on_and_that_works(tmp_path: Path, stop: signal.Signals) -> None:
    """Ctrl-C (and SIGTERM) exits 130 with a resume command; pasting it ends where the first would have ended."""
    directory = tmp_path / "my files"
    async with serve_sandbox(step_seconds=0.05) as sandbox, trio.open_nursery() as tabs:
        options = ("--json", "--dir", str(directory), "--api-url", sandbox.url)
        async with run_command(*UP, *options) as command:
            url = await address(command)
            command.process.send_signal(stop)
            code = await command.wait()
        assert code == 130, command.stderr
        assert "Traceback" not in command.stderr
        last = json.loads(command.stdout.splitlines()[-1])
        assert (last["verdict"], last["machine"]) == ("pending", "onboarding")
        assert last["resume"] in command.stderr or RESUME.search(last["resume"])

        tabs.start_soon(ScriptedBrowser().visit, url)
        async with run_command(argv=[*resume_command(last["resume"]), "--no-browser", "--json"]) as again:
            pay = ""
            while not pay:
                await again.wait_words()
                pay = next((each for each in again.urls if "/pay/" in each), "")
            tabs.start_soon(ScriptedBrowser().visit, pay)
            assert await again.wait() == 0, again.stderr
        assert again.changes[-1].state == "ready"
        assert sandbox.cloud.ledger.checkouts == 1


async def test_ctrl_c_in_a_terminal_window_and_the_pasted_resume(tmp_path: Path) -> None:
    """In a real terminal window Ctrl-C gives the resume command, and typing it there goes on to the end."""
    directory = tmp_path / ".systemprompt"
    async with serve_sandbox(step_seconds=0.05) as sandbox, trio.open_nursery() as tabs:
        with open_window(columns=300) as window:
            window.run(command_line(*UP, "--dir", str(directory), "--api-url", sandbox.url))
            shown = await window.wait_for("/sandbox/consent/")
            url = next(each for each in URL.findall(shown) if "/sandbox/consent/" in each)
            window.type("C-c")
            shown = await window.wait_for("flows resume")
            window.run(["sh", "-c", "echo left with $?"])
            window.type("echo was $?", "Enter")
            window.run(resume_command(shown))
            tabs.start_soon(ScriptedBrowser().visit, url)
            shown = await window.wait_for("/sandbox/pay/")
            pay = next(each for each in URL.findall(shown) if "/sandbox/pay/" in each)
            tabs.start_soon(ScriptedBrowser().visit, pay)
            await window.wait_for(str(directory / "tenants.json"))
            window.run(["sh", "-c", "echo all done"])
            assert "Traceback" not in await window.wait_for("all done")


async def test_ctrl_c_in_a_terminal_window_exits_130(tmp_path: Path) -> None:
    """The shell in the window sees exit code 130."""
    async with serve_sandbox() as sandbox:
        with open_window() as window:
            line = shlex.join(command_line(*UP, "--dir", str(tmp_path / "d"), "--api-url", sandbox.url))
            window.tmux("send-keys", "-l", f"{line}; echo code=$?")
            window.type("Enter")
            await window.wait_for("/sandbox/consent/")
            window.type("C-c")
            await window.wait_for("code=130")


async def test_a_login_whose_window_was_closed_accepts_the_tab_that_is_still_open(tmp_path: Path) -> None:
    """Close the window while the browser is open, log in again: the old tab, same nonce and port, is accepted."""
    directory = tmp_path / ".systemprompt"
    async with serve_sandbox() as sandbox, trio.open_nursery() as tabs:
        options = ("login", "--port", "0", "--no-browser", "--dir", str(directory), "--api-url", sandbox.url)
        with open_window(columns=300) as window:
            window.run(command_line(*options))
            shown = await window.wait_for("/sandbox/consent/")
            url = next(each for each in URL.findall(shown) if "/sandbox/consent/" in each)
        # Nobody listens now; the tab's way back fails until somebody does.
        tabs.start_soon(ScriptedBrowser(patience=30).visit, url)
        async with run_command(*options, "--json") as command:
            assert await command.wait() == 0, command.stderr
        assert command.urls[:1] == [url]
        assert command.changes[-1].state == "authenticated"
        assert json.loads((directory / "credentials.json").read_text())["api_url"] == sandbox.url


async def test_a_second_process_is_told_who_drives_the_flow_and_disturbs_nothing(tmp_path: Path) -> None:
    """Two processes on one flow: the second exits 1 naming the first's pid; the first goes on to its end."""
    async with serve_sandbox() as sandbox, trio.open_nursery() as tabs:
        options = ("login", "--port", "0", "--no-browser", "--dir", str(tmp_path / "d"), "--api-url", sandbox.url)
        async with run_command(*options, "--json") as first:
            url = await address(first)
            for arguments in (options, ("flows", "resume", "--dir", str(tmp_path / "d"))):
                async with run_command(*arguments) as second:
                    assert await second.wait() == 1, second.stderr
                assert str(first.process.pid) in second.stderr
            tabs.start_soon(ScriptedBrowser().visit, url)
            assert await first.wait() == 0, first.stderr


async def test_a_flow_cancelled_from_another_window_ends_in_its_own(tmp_path: Path) -> None:
    """`flows cancel` reaches the process that drives the flow: it ends as cancelled, exit code 1."""
    async with serve_sandbox() as sandbox:
        options = ("--dir", str(tmp_path / "d"), "--api-url", sandbox.url)
        async with run_command("login", "--port", "0", "--no-browser", "--json", *options) as first:
            await address(first)
            flow = first.changes[0].flow
            async with run_command("flows", "cancel", flow[:12], *options) as second:
                assert await second.wait() == 0, second.stderr
            assert await first.wait() == 1
        assert first.changes[-1].state == "cancelled"
