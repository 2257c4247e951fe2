"""`flows send`, `watch`, `export`, `prune`, `backup`: another terminal's view of flows that somebody drives."""

from __future__ import annotations

import json
import sqlite3
import stat
from pathlib import Path

from tests.support.command import CommandLine

from .conftest import at_terminal

LOGIN = ("login", "--port", "0", "--no-browser")


def flow_of(cli: CommandLine) -> str:
    return cli("flows", "list", "--json").ended(0).lines[0]["flow"]


def begun(cli: CommandLine) -> str:
    """A login that waits, with nobody driving it; its id."""
    running = cli.begin(*LOGIN)
    running.wait_invited()
    running.interrupt()
    running.wait().ended(130)
    return flow_of(cli)


def test_send_reaches_a_running_flow(cli: CommandLine) -> None:
    """The sender is told what became of it; the flow's own terminal sees it happen."""
    running = cli.begin(*LOGIN)
    running.wait_invited()
    flow = flow_of(cli)
    (sent,) = (
        cli("flows", "send", flow[:8], "CancelRequested", "--data", '{"reason": "from afar"}', "--json").ended(0).lines
    )
    assert (sent["taken"], sent["state"], sent["event"]) == (True, "cancelled", "CancelRequested")
    assert "Login cancelled: from afar" in running.wait().ended(1).err


def test_send_to_a_flow_nobody_drives_waits_for_it(cli: CommandLine) -> None:
    """Exit 8 and the command that goes on; the flow takes it then."""
    flow = begun(cli)
    ran = cli("flows", "send", flow, "CancelRequested").ended(8)
    assert f"flows resume {flow[:12]}" in ran.err
    assert cli("flows", "show", flow, "--json").ended(0).lines[0]["state"] == "awaiting_callback"
    assert cli("flows", "resume", "--no-browser", "--json").ended(1).lines[-1]["state"] == "cancelled"


def test_send_refuses_what_cannot_be_meant(cli: CommandLine) -> None:
    """With the reason, before anything is written."""
    flow = begun(cli)
    for words, code, said in (
        (("Nonsense",), 2, "it knows"),
        (("CancelRequested", "--data", '{"raeson": ""}'), 2, "no field raeson; its fields: reason"),
        (("CancelRequested", "--data", '{"reason": 1}'), 2, "reason is not text"),
        (("CancelRequested", "--data", '{"reason": "Bearer abcdefgh"}'), 2, "looks like a secret"),
        (("PortTaken", "--data", '{"problem": "taken"}'), 1, "does not accept PortTaken"),
        (("DeadlinePassed",), 1, "only the engine sends it"),
    ):
        assert said in " ".join(cli("flows", "send", flow, *words).ended(code).err.split())
    with sqlite3.connect(cli.journal) as journal:
        assert journal.execute("SELECT count(*) FROM inbox").fetchone() == (0,)
    journal.close()


def test_watch_follows_a_flow_of_another_process(cli: CommandLine) -> None:
    """Its past and its future, to its end, with its exit code; for people and for programs the same changes."""
    running = cli.begin(*LOGIN)
    running.wait_invited()
    flow = flow_of(cli)
    watching = [cli.begin("flows", "watch", flow[:10], *more) for more in ((), ("--json",))]
    for each in watching:
        assert "started" in each.wait_line()
    cli("flows", "cancel", flow, "--reason", "enough").ended(0)
    people, programs = (each.wait().ended(1) for each in watching)
    assert "CancelRequested (enough) -> cancelled" in people.out
    lines = programs.lines
    assert [line["seq"] for line in lines[:-1]] == list(range(1, len(lines)))
    assert (lines[-1]["flow"], lines[-1]["state"], lines[-1]["status"]) == (flow, "cancelled", "ended")


def test_watch_ends_when_nobody_drives_the_flow(cli: CommandLine) -> None:
    """What happened so far, then how to go on, exit 8."""
    flow = begun(cli)
    ran = cli("flows", "watch", flow).ended(8)
    assert "AuthorizationOffered" in ran.out
    assert f"flows resume {flow[:12]}" in ran.err
    assert cli("flows", "watch", flow, "--json").ended(8).lines[-1]["resume"].endswith(f"flows resume {flow}")


def test_watch_of_everything_shows_what_begins_later(cli: CommandLine) -> None:
    """Any flow, until Ctrl-C; what happened before is not repeated."""
    begun(cli)
    watching = cli.begin("flows", "watch", "--json")
    watching.wait_for("Watching")
    cli.begin(*LOGIN).wait_invited()
    line = json.loads(watching.wait_line())
    assert (line["flow"], line["event"]) == (flow_of(cli), "resumed")
    watching.interrupt()
    watching.wait().ended(130)


def test_export(cli: CommandLine) -> None:
    """Indented for people, one line with --json; no value of the vault in it."""
    flow = begun(cli)
    document = json.loads(cli("flows", "export", flow[:8]).ended(0).out)
    (line,) = cli("flows", "export", flow, "--json").ended(0).lines
    assert line["flows"] == document["flows"]
    assert [record["name"] for record in document["flows"][0]["records"]][:2] == ["started", "AuthorizationOffered"]
    (vault,) = (cli.journal.parent / "vault").glob("*.json")
    text = json.dumps(document)
    assert not [value for value in json.loads(vault.read_text()).values() if value in text]


def test_prune(cli: CommandLine) -> None:
    """Looks first when asked to, needs a yes, removes what has ended and keeps what has not."""
    old = begun(cli)
    cli("flows", "cancel", old).ended(0)
    kept = begun(cli)
    assert "To remove: 0 flows" in cli("flows", "prune").ended(0).err
    now = ("flows", "prune", "--older-than", "0m")
    assert "To remove: 1 flows" in cli(*now, "--dry-run").ended(0).err
    assert "--yes is required" in " ".join(cli(*now).ended(2).err.split())
    assert "Nothing was changed." in at_terminal(cli, *now, typed=b"n\n").ended(1).err
    assert "is not an age" in cli("flows", "prune", "--older-than", "soon").ended(2).err
    assert cli(*now, "--keep", "1", "--yes", "--json").ended(0).lines[0]["flows"] == 0
    (done,) = cli(*now, "--yes", "--json").ended(0).lines
    assert (done["removed"], done["flows"], done["children"]) == (True, 1, 0)
    assert [line["flow"] for line in cli("flows", "list", "--json").ended(0).lines] == [kept]
    assert cli("flows", "check").ended(0)


def test_backup(cli: CommandLine, tmp_path: Path) -> None:
    """Private, whole, while a flow is driven; never over another file."""
    running = cli.begin(*LOGIN)
    running.wait_invited()
    target = tmp_path / "copy.sqlite3"
    (done,) = cli("flows", "backup", str(target), "--json").ended(0).lines
    assert done["bytes"] == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with sqlite3.connect(target) as copy:
        assert copy.execute("SELECT id FROM flows").fetchall() == [(flow_of(cli),)]
    copy.close()
    assert "it exists" in cli("flows", "backup", str(target)).ended(1).err


def test_restore_on_another_machine(cli: CommandLine, tmp_path: Path) -> None:
    """Journal and secrets, under another home; the person is warned of the file that holds secrets."""
    flow = begun(cli)
    saved, secrets, there = str(tmp_path / "copy.sqlite3"), str(tmp_path / "secrets.json"), str(tmp_path / "there")
    told = cli("flows", "backup", saved, "--secrets", secrets).ended(0).err
    assert f"{secrets} holds secrets in plain text" in " ".join(told.split())
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert "it exists" in cli("flows", "restore", saved).ended(1).err
    elsewhere = ("--dir", there)
    (done,) = cli(*elsewhere, "flows", "restore", saved, "--secrets", secrets, "--json").ended(0).lines
    assert (done["unfinished"], done["flows_with_secrets"]) == (1, 1)
    (line,) = cli(*elsewhere, "flows", "list", "--json").ended(0).lines
    assert line["flow"] == flow
    assert cli(*elsewhere, "flows", "check").ended(0)
    (vault,) = (cli.journal.parent / "vault").glob("*.json")
    (restored,) = Path(there).rglob("vault/*.json")
    before, after = (json.loads(file.read_text()) for file in (vault, restored))
    assert before.pop("@journal") != after.pop("@journal")  # the copy is another journal, and its secrets are its own
    assert before == after
    without = cli("--dir", str(tmp_path / "third"), "flows", "restore", saved).ended(0).err
    assert "Secrets were not restored" in without
