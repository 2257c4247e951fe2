"""`flows` and `diagram`: inspecting the journal, and resuming from it."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import sys
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.diagrams.svg import svg
from systemprompt_cloud.machines.login import LOGIN as LOGIN_MACHINE
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.command import CommandLine

from .conftest import Up

LOGIN = ("login", "--port", "0", "--no-browser")


def begun(cli: CommandLine) -> str:
    """A login that waits, with nobody driving it; its id."""
    running = cli.begin(*LOGIN)
    running.wait_invited()
    running.interrupt()
    running.wait().ended(130)
    return cli("flows", "list", "--json").ended(0).lines[0]["flow"]


def test_nothing_there(cli: CommandLine) -> None:
    """Looking makes no journal; there is nothing to list, nothing wrong, nothing to resume."""
    assert " ".join(cli("flows", "list").ended(0).err.split()) == f"No flows found in {cli.journal}."
    assert "No matching flows" in cli("flows", "list", "--status", "paused").ended(0).err
    assert cli("flows", "list", "--json").ended(0).out == ""
    assert cli("flows", "check", "--json").ended(0).lines[0]["flows"] == 0
    for words in (("show", "x"), ("history", "x"), ("resume",), ("cancel", "x")):
        assert cli("flows", *words, "--json").ended(1).lines[-1]["error"] == "FlowNotFound"
    assert not cli.journal.exists()


def test_list_and_show(cli: CommandLine) -> None:
    """A flow is listed with a short id, and shown under any beginning of it with what its state means."""
    flow = begun(cli)
    ran = cli("flows", "list", "--status", "interrupted", "--machine", "login").ended(0)
    assert ran.out.splitlines()[1].split()[:4] == [flow[:12], "login", "awaiting_callback", "interrupted"]
    assert cli("flows", "list", "--status", "ended").ended(0).out == ""
    assert [row["driven"] for row in cli("flows", "list", "--status", "interrupted", "--json").ended(0).lines] == [
        False
    ]
    assert "not one of running, interrupted, paused" in cli("flows", "list", "--status", "gone").ended(2).err
    shown = cli("flows", "show", flow[:6]).ended(0)
    assert "awaiting_callback: waiting for the browser to come back" in shown.out
    assert f"flows resume {flow[:12]}" in shown.err
    (as_json,) = cli("flows", "show", flow, "--json").ended(0).lines
    assert (as_json["flow"], as_json["driver"]) == (flow, None)
    assert "context" not in as_json


def test_one_status_everywhere(cli: CommandLine) -> None:
    """After kill -9 a flow and the one inside it are interrupted: for people and programs, shown, listed, filtered."""
    running = cli.begin(*Up, "--no-browser")
    running.wait_invited()
    driven = cli("flows", "show", "--json").ended(0).lines[0]
    assert [each["status"] for each in (driven, *driven["children"])] == ["running", "running"]
    running.kill()
    (shown,) = cli("flows", "show", "--json").ended(0).lines
    assert [each["status"] for each in (shown, *shown["children"])] == ["interrupted", "interrupted"]
    assert "login awaiting_callback (interrupted)" in cli("flows", "show").ended(0).out
    listed = cli("flows", "list", "--children", "--status", "interrupted", "--json").ended(0).lines
    assert [each["status"] for each in listed] == ["interrupted", "interrupted"]
    assert "No matching flows" in cli("flows", "list", "--children", "--status", "running").ended(0).err
    both = cli("flows", "list", "--children", "--status", "running", "--status", "interrupted", "--json").ended(0)
    assert both.lines == listed


def test_show_says_why_a_flow_failed(cli: CommandLine) -> None:
    """The flow, and the one inside it: the reason, and not only that there was one."""
    cli.play(*Up, "--no-browser", browser=ScriptedBrowser(consent="deny")).ended(5)
    shown = cli("flows", "show").ended(0).out.splitlines()
    child = next(number for number, line in enumerate(shown) if line.startswith("Child:    login denied (failure)"))
    (as_json,) = cli("flows", "show", "--json").ended(0).lines
    reason, inside = (each["problem"] for each in (as_json, *as_json["children"]))
    assert "Login denied" in inside
    assert reason == f"login: {inside}"
    assert f"Problem:  {reason}" in shown
    assert shown[child + 1] == f"          {inside}"


def test_history_text_and_json(cli: CommandLine) -> None:
    """A line a state for people, everything with --verbose, and a change a line for programs."""
    flow = begun(cli)
    short = cli("flows", "history", flow[:8]).ended(0).out
    assert "has not ended" in short
    assert "waiting for the browser" in short
    assert "AuthorizationOffered" not in short
    assert "AuthorizationOffered" in cli("flows", "history", flow[:8], "--verbose").ended(0).out
    lines = cli("flows", "history", flow, "--json").ended(0).lines
    assert [line["event"] for line in lines] == ["started", "AuthorizationOffered", "BrowserNotOpened"]


def test_resume(cli: CommandLine) -> None:
    """Without an id the newest goes on; an ended flow says again how it ended."""
    flow = begun(cli)
    last = cli.play("flows", "resume", "--no-browser", "--json").ended(0).lines[-1]
    assert (last["flow"], last["verdict"]) == (flow, "success")
    assert cli("flows", "resume", flow[:8], "--json").ended(0).lines == [last]
    ran = cli("flows", "resume").ended(1)
    assert "can be resumed by this command" in ran.err


def test_another_api_does_not_apply(cli: CommandLine, cloud: str) -> None:
    """A flow keeps the API it was started with, and says so when another one is named."""
    begun(cli)
    ran = cli.play("flows", "resume", "--no-browser", "--api-url", "https://cloud.example").ended(0)
    assert f"The flow uses its own API, {cloud}; --api-url does not apply." in ran.err
    begun(cli)
    assert "does not apply" not in cli.play("flows", "resume", "--no-browser", "--api-url", cloud + "/").ended(0).err


def test_second_process(cli: CommandLine) -> None:
    """A flow that is driven is named with its driver and left alone; `cancel` reaches it there."""
    running = cli.begin(*LOGIN)
    running.wait_invited()
    for words in (("flows", "resume"), LOGIN):
        ran = cli(*words, "--json").ended(1)
        assert ran.lines[-1]["error"] == "FlowBusy"
        assert f"process {running.process.pid} on" in ran.lines[-1]["message"]
    flow = cli("flows", "list", "--json").ended(0).lines[0]["flow"]
    assert f"driven by process {running.process.pid} on" in cli("flows", "show", flow).ended(0).out
    assert cli("flows", "list", "--json").ended(0).lines[0]["driven"] is True
    assert cli("flows", "list", "--status", "interrupted", "--json").ended(0).lines == []
    cancelled = cli("flows", "cancel", flow[:8], "--reason", "wrong account").ended(0)
    assert "was asked to stop" in cancelled.err
    assert "Login cancelled: wrong account" in running.wait().ended(1).err


def test_cancel(cli: CommandLine) -> None:
    """A flow nobody drives is cancelled here; once ended, saying it again is no error."""
    flow = begun(cli)
    ran = cli("flows", "cancel", flow, "--json").ended(0)
    (after,) = ran.lines
    assert "without its table" not in ran.err
    assert (after["state"], after["status"]) == ("cancelled", "ended")
    assert "had ended already" in cli("flows", "cancel", flow).ended(0).err


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit, to fill the disk for one process")
def test_disk_that_fills_up_on_the_way(cli: CommandLine) -> None:
    """A journal that cannot be written any more leaves the flow to be gone on with: 8, as for any other that stops."""
    running = cli.begin(*LOGIN, "--json")
    url = running.wait_invited()
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    with contextlib.suppress(CloudError):
        trio.run(ScriptedBrowser(patience=0.5).visit, url)
    last = running.wait().ended(8).lines[-1]
    assert (last["verdict"], last["exit_code"]) == ("pending", 8)
    assert last["error"].startswith("Journal")
    assert "awaiting_callback" in cli("flows", "show", last["flow"]).ended(0).out


def test_check(cli: CommandLine) -> None:
    """A sound journal has no problems; a row that is not what its records say is named, exit 1."""
    flow = begun(cli)
    assert "1 flow, 0 problems" in cli("flows", "check").ended(0).err
    with sqlite3.connect(cli.journal) as journal:
        journal.execute("UPDATE flows SET state = 'verifying_token'")
    journal.close()
    assert flow in cli("flows", "check").ended(1).out
    (found,) = cli("flows", "check", "--json").ended(1).lines
    assert any("verifying_token" in problem for problem in found["problems"])


def test_damaged_journal(cli: CommandLine) -> None:
    """A damaged journal is set aside and named; the next command starts a new one."""
    begun(cli)
    cli.journal.write_bytes(b"not a database" * 100)
    for path in cli.journal.parent.glob("journal.sqlite3-*"):
        path.unlink()
    ran = cli("flows", "list", "--json").ended(1)
    assert ran.lines[-1]["error"] == "JournalCorrupted"
    assert "set aside" in ran.lines[-1]["message"]
    (aside,) = cli.journal.parent.glob("journal.sqlite3.unreadable-*")
    said = f"A damaged journal was set aside, and unfinished flows may be in it: {aside}\n"
    assert cli("flows", "list").ended(0).err.startswith(said)
    assert said in cli("whoami").ended(4).err
    aside.unlink()
    assert "A damaged journal" not in cli("whoami").ended(4).err


def test_whoami_with_a_journal_that_cannot_be_read(cli: CommandLine) -> None:
    """Who is logged in is said all the same; that something is wrong shows in the exit code."""
    cli.login()
    cli.journal.unlink()
    cli.journal.mkdir()
    ran = cli("whoami").ended(1)
    assert "ada@sandbox.example" in ran.out
    assert f"cannot open the journal {cli.journal}" in ran.err
    (shown,) = cli("whoami", "--json").ended(1).lines
    assert shown["user_email"] == "ada@sandbox.example"


def test_diagram(cli: CommandLine, tmp_path: Path) -> None:
    """A machine is drawn as Mermaid or text, to stdout or a file; a flow with its path."""
    assert cli("diagram", "login").ended(0).out.startswith("stateDiagram-v2")
    assert "awaiting_callback" in cli("diagram", "login", "--format", "text").ended(0).out
    file = tmp_path / "machine.mmd"
    ran = cli("diagram", "-o", str(file)).ended(0)
    assert ran.out == ""
    assert "checking_credentials" in file.read_text()
    (drawn,) = cli("diagram", "--json").ended(0).lines
    assert drawn == {"format": "mermaid", "diagram": file.read_text()}
    text = cli("diagram", "--format", "text").ended(0).out
    assert cli("diagram", "--format", "text", "--json").ended(0).lines == [{"format": "text", "diagram": text}]
    written = cli("diagram", "-o", str(file), "--json").ended(0).lines
    assert written == [{"format": "mermaid", "file": str(file)}]
    assert "cannot write" in cli("diagram", "-o", str(tmp_path)).ended(1).err
    assert cli("diagram", "login", "--format", "dot").ended(0).out.startswith('digraph "login" {')
    for refused in (("--theme", "dark"), ("--full",), ("--format", "dot", "--flow", "01")):
        assert refused[0 if len(refused) < 4 else 2] in cli("diagram", "login", *refused).ended(2).err
    picture = tmp_path / "login.svg"
    assert (
        cli("diagram", "login", "--format", "svg", "--theme", "dark", "--full", "-o", str(picture)).ended(0).out == ""
    )
    assert picture.read_text() == svg(LOGIN_MACHINE, theme="dark", full=True)
    flow = begun(cli)
    assert "Now in awaiting_callback." in cli("diagram", "--flow", flow, "--format", "svg").ended(0).out
    path = cli("diagram", "--flow", flow[:8]).ended(0).out
    assert "awaiting_callback" in path
    assert path != cli("diagram", "login").ended(0).out
    assert "AuthorizationOffered" in cli("diagram", "--flow", flow, "--format", "text").ended(0).out
    assert cli("diagram", "checkout", "--flow", flow, "--json").ended(1).lines[-1]["error"] == "FlowNotFound"
