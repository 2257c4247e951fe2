"""`--fields` and `--jq` choose what is shown of the JSON."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest
from systemprompt_cloud.cli.commands import COMMANDS, is_group
from systemprompt_cloud.cli.fields import FIELDS
from systemprompt_cloud.cli.screen.terminal import put_json, writing_for
from systemprompt_cloud.cli.shared.projection import projection_of
from systemprompt_cloud.cli.shared.settings import Invocation

from tests.support.command import CommandLine
from tests.support.missing import missing


def need_jq() -> None:
    if importlib.util.find_spec("jq") is None:
        missing("the package jq: pip install -r requirements-dev.lock")


def test_every_command_has_its_fields() -> None:
    """A command that is missing in the table would refuse every field."""
    assert FIELDS.keys() == {words for words in COMMANDS if not is_group(words)}


def test_fields_are_shown_in_the_order_they_were_asked_for(cli: CommandLine) -> None:
    """Also with spaces, or twice, and whatever the order of the line."""
    cli.login()
    ran = cli("plans", "--json", "--fields", "name, id,name").ended(0)
    assert ran.out.splitlines()[0] == '{"name":"Sandbox Starter","id":"plan_sandbox_starter"}'
    assert len(ran.lines) == 3


def test_a_line_without_any_of_the_fields_is_left_out(cli: CommandLine) -> None:
    """A flow's changes have no result, and its result has no sequence number: that is null."""
    ran = cli.play("login", "--port", "0", "--no-browser", "--json", "--fields", "verdict,seq").ended(0)
    *changes, end = ran.lines
    assert [each["verdict"] for each in changes] == [None] * len(changes)
    assert end == {"verdict": "success", "seq": None}
    resumed = cli("flows", "list", "--json", "--fields=verdict").ended(0)
    assert resumed.out == '{"verdict":"success"}\n'


def test_an_unknown_field_stops_the_command_before_it_does_anything(cli: CommandLine) -> None:
    """The message lists the fields there are."""
    cli.login()
    ran = cli("logout", "--json", "--fields", "removed,nope").ended(2)
    assert "`logout --json` has no field 'nope'. Fields: removed, sessions, reported, kept" in ran.err
    assert ran.lines[0]["error"] == "UsageError"
    cli("whoami").ended(0)


@pytest.mark.parametrize(("option", "value"), [("--fields", "id"), ("--jq", ".id")])
def test_without_json_they_are_a_mistake(cli: CommandLine, option: str, value: str) -> None:
    """As with the GitHub command line."""
    ran = cli("plans", option, value).ended(2)
    assert f"{option} needs --json" in ran.err
    assert ran.out == ""


def test_an_empty_name_is_a_mistake(cli: CommandLine) -> None:
    """A comma too many, or an unset variable."""
    for value in ("", "id,"):
        assert "--fields NAME,NAME" in cli("plans", "--json", "--fields", value).ended(2).err


def test_errors_are_shown_whole(cli: CommandLine) -> None:
    """A program that asks for some fields still learns what went wrong."""
    line = cli("plans", "--json", "--fields", "id").ended(4).lines[0]
    assert line["error"] == "NotAuthenticated"
    assert line["exit_code"] == 4


def test_jq_filters_every_line(cli: CommandLine) -> None:
    """Text is shown without quotes, everything else as JSON, as jq -r does."""
    need_jq()
    cli.login()
    ran = cli("plans", "--json", "--jq", "select(.volume_gb >= 10) | .id, {name}").ended(0)
    assert ran.out.splitlines() == [
        "plan_sandbox_team",
        '{"name":"Sandbox Team"}',
        "plan_sandbox_scale",
        '{"name":"Sandbox Scale"}',
    ]
    both = cli("plans", "--json", "--fields", "id", "--jq", "keys").ended(0)
    assert both.out.splitlines() == ['["id"]'] * 3


def test_a_wrong_jq_expression_stops_the_command_before_it_does_anything(cli: CommandLine) -> None:
    """The message shows what jq found."""
    need_jq()
    ran = cli("logout", "--json", "--jq", ".a |").ended(2)
    assert "invalid jq expression '.a |': syntax error" in ran.err


def test_a_jq_expression_that_does_not_fit_is_an_error(cli: CommandLine) -> None:
    """The command has done its work, but not all of its data was shown."""
    need_jq()
    ran = cli("flows", "check", "--json", "--jq", ".journal.x").ended(1)
    assert "Error: --jq: Cannot index string" in ran.err
    assert ran.out == ""


def test_without_the_extra_the_message_shows_how_to_install_it(cli: CommandLine) -> None:
    """Nothing is done."""
    (cli.home / "jq.py").write_text("raise ImportError")
    path = os.pathsep.join(filter(None, (str(cli.home), cli.environ.get("PYTHONPATH"))))
    cli.real = True
    ran = cli("flows", "check", "--json", "--jq", ".", PYTHONPATH=path).ended(2)
    assert "pip install 'systemprompt-cloud[jq]'" in ran.err


def test_jq_writes_no_escape_sequence_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON escapes them; text without quotes would repaint the screen. A pipe gets it as it is."""
    need_jq()
    invocation = Invocation(projection=projection_of(None, ".name", json=True))
    with writing_for(invocation):
        put_json({"name": "\x1b[2Jx\nsecond"})
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        put_json({"name": "\x1b[2Jx\nsecond"})
    assert capsys.readouterr().out == "\x1b[2Jx\nsecond\n [2Jx\nsecond\n"
