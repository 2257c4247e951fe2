"""The door: quick answers without imports, help that is true, errors of usage."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import pytest
from systemprompt_cloud import __version__
from systemprompt_cloud.cli.app import app, run
from systemprompt_cloud.cli.commands import COMMANDS, is_group
from systemprompt_cloud.cli.help import FILE, live_help
from systemprompt_cloud.cli.quick import mistake
from systemprompt_cloud.cli.shared.names import CLI
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.command import CommandLine, Running

HEAVY = {"trio", "httpx", "hypercorn", "starlette", "rich", "typer", "loguru", "msgspec", "transitions", "stamina"}
WATCH = """
import json, runpy, sys
from systemprompt_cloud.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as exc:
    code = exc.code
print(json.dumps([code, sorted(name for name in sys.modules if "." not in name)]), file=sys.stderr)
"""

SLOW = {"typer", "pydantic", "jwt", "cryptography", "asyncio", "httpx", "trio", "loguru"}
"""What took most of the time of a command that only looks at files."""

HUGE = "x" * 70_000
NO_TEXT = os.fsdecode(b"a\xff")


def imports(cli: CommandLine, *words: str) -> tuple[int, set[str]]:
    """What a command imports, and its exit code."""
    ended = subprocess.run(
        [sys.executable, "-c", WATCH, *words], capture_output=True, text=True, env=cli.environ, cwd=cli.home, check=True
    )
    code, names = json.loads(ended.stderr.splitlines()[-1])
    return code, set(names)


@pytest.mark.parametrize("words", [["--version"], ["--help"], [], ["flows", "list", "--help"], ["login", "-h"]])
def test_version_and_help_import_nothing_heavy(cli: CommandLine, words: list[str]) -> None:
    """What is asked most often costs hardly more than a bare interpreter."""
    code, names = imports(cli, *words)
    assert code == 0
    assert names & HEAVY == set()


@pytest.mark.parametrize(
    "words",
    [["flows", "list", "--api-url", "https://h.example"], ["logout"], ["whoami"], ["login", "--dir", "x", "--help"]],
)
def test_looking_imports_no_network(cli: CommandLine, words: list[str]) -> None:
    """Commands that only look at files pay neither for trio nor for httpx."""
    _, names = imports(cli, *words)
    assert names & {"trio", "httpx", "hypercorn", "starlette"} == set()


def asks(line: str) -> dict[str, str]:
    """The environment in which bash asks what may follow this line."""
    number = str(line.count(" "))
    return {"_SYSTEMPROMPT_CLOUD_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": number}


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        (["whoami"], {}),
        (["flows", "list"], {}),
        (["tenants", "list"], {}),
        ([], asks("systemprompt-cloud flows show ")),
        ([], asks("systemprompt-cloud tenants show ")),
        ([], asks("systemprompt-cloud flo")),
        (["nonsense"], {}),
    ],
    ids=["whoami", "flows list", "tenants list", "Tab of flows", "Tab of tenants", "Tab of names", "unknown word"],
)
def test_looking_imports_nothing_slow(
    owner: tuple[CommandLine, str], words: list[str], environ: dict[str, str]
) -> None:
    """A real process, for somebody who has a login, a tenant and a flow."""
    cli, tenant = owner
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "systemprompt_cloud", *words],
        capture_output=True,
        text=True,
        env=cli.environ | environ,
        cwd=cli.home,
        check=False,
    )
    imported = set[str]()
    for line in ended.stderr.splitlines():
        if line.startswith("import time:"):
            imported.add(line.rpartition("|")[2].strip().partition(".")[0])
    assert "systemprompt_cloud" in imported
    assert imported & SLOW == set()
    if words == ["nonsense"] or environ.get("COMP_WORDS", "").endswith("flo"):
        assert imported & {*HEAVY, "click", "pathlib"} - by_itself() == set()
    if words == ["whoami"]:
        assert "sandbox.example" in ended.stdout
    if environ.get("COMP_WORDS", "").endswith("tenants show "):
        assert ended.stdout == f"plain,{tenant}\n"


def by_itself() -> set[str]:
    """What an interpreter has imported before it is told what to run."""
    names = "import sys; print(*sys.modules)"
    return {*subprocess.run([sys.executable, "-c", names], capture_output=True, text=True, check=True).stdout.split()}


def test_a_login_imports_no_web_framework(cli: CommandLine) -> None:
    """The browser's way back is served by h11 alone."""
    argv = [sys.executable, "-c", WATCH, "login", "--port", "0", "--no-browser"]
    with Running(argv, environ=cli.environ, cwd=cli.home, browser=ScriptedBrowser()) as running:
        ended = running.wait().ended(0)
    code, names = json.loads(ended.err.splitlines()[-1])
    assert (code, {"trio", "h11", "hypercorn", "starlette"} & {*names}) == (0, {"trio", "h11"})


def test_committed_help_is_current() -> None:
    """The file behind `--help` says what the commands say; `python -m systemprompt_cloud.cli.help` writes it anew."""
    assert FILE.read_text(encoding="utf-8") == live_help()


def test_lists_of_commands_are_whole() -> None:
    """In 80 columns no sentence about a command is cut off."""
    assert [line for line in live_help().splitlines() if line.startswith("  ") and line.endswith("...")] == []


def test_version(cli: CommandLine) -> None:
    """`--version` names the version, before and after a command."""
    for words in (["--version"], ["login", "--version"]):
        assert cli(*words).ended(0).out == f"systemprompt-cloud {__version__}\n"
        assert cli(*words, "--json").ended(0).lines == [{"version": __version__}]


def test_no_arguments_is_help(cli: CommandLine) -> None:
    """Nothing typed is a question, not a mistake."""
    assert cli().ended(0).out == cli("--help").ended(0).out


def commands() -> list[tuple[str, ...]]:
    return sorted(tuple(words.split()) for words in COMMANDS if not is_group(words))


def test_the_table_says_what_the_commands_say() -> None:
    """The sentences of `commands.py`, which are shown without importing a command, are those of the commands."""
    with app.make_context(CLI, ["-"], resilient_parsing=True) as context:
        for words, (_, what) in COMMANDS.items():
            group, _, name = words.rpartition(" ")
            here = app if not group else app.get_command(context, group)
            assert isinstance(here, click.Group)
            found = here.get_command(context, name)
            assert found is not None
            assert found.name == name
            assert found.get_short_help_str(limit=80) == what


@pytest.mark.parametrize("words", [["nonsense"], ["logn"], ["logn", "x"], ["flows", "lst"], ["flows", "lst", "01jq"]])
def test_a_word_that_is_no_command_is_answered_the_same_quickly(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer of the entry, which imports nothing, is the one of the commands."""
    for name in ("systemprompt-cloud", "spc"):
        assert run(words, name=name) == 2
        assert capsys.readouterr().err == mistake(words, name) != ""


@pytest.mark.parametrize("words", [[], ["login"], ["flows", "list"], ["-x"], ["a" * 40], ["a.b"], ["--json", "logn"]])
def test_what_is_more_than_a_wrong_word_is_left_to_the_commands(words: list[str]) -> None:
    """An option, a long word (it may be a secret) and a command that is there get no quick answer."""
    assert mistake(words, "systemprompt-cloud") == ""


def test_every_command_is_there() -> None:
    """The commands this version promises."""
    looking, doing = ("list", "show", "history", "watch", "check", "export"), ("resume", "cancel", "send")
    flows = {("flows", name) for name in (*looking, *doing, "prune", "backup", "restore")}
    single = {"demo", "login", "whoami", "logout", "plans", "checkout", "provision", "up", "diagram", "sandbox"}
    single |= {"deploy", "registry-token", "doctor"}
    reading, changing = ("list", "show", "select", "sync", "status"), ("restart", "retry", "delete", "external-db")
    paid = ("rotate-credentials", "rotate-sync-token", "cancel-subscription")
    groups = {
        "tenants": (*reading, *changing, *paid),
        "secrets": ("list", "set", "unset"),
        "domain": ("show", "set", "delete"),
        "config": ("get", "list", "set", "unset"),
        "auth": ("login", "logout", "status", "token", "refresh", "list", "switch"),
        "sessions": ("list", "show", "switch", "remove", "prune"),
    }
    grouped = {(group, name) for group, names in groups.items() for name in names}
    assert set(commands()) == flows | grouped | {(name,) for name in single}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_everywhere_with_an_example(cli: CommandLine, words: tuple[str, ...]) -> None:
    """Every command's help has an example of it."""
    shown = cli(*words, "--help").ended(0).out
    assert f"Example: systemprompt-cloud {' '.join(words)}" in " ".join(shown.split())
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "nonsense"),
        (["login", "--port", "70000"], "'--port': '70000' is not a whole number from 0 to 65535"),
        (["login", "--port", "web"], "'--port': 'web' is not a whole number from 0 to 65535"),
        (["login", "--timeout", "soon"], "'--timeout': 'soon' is not a number from 1 to 86400"),
        (["login", "--timeout", "nan"], "'--timeout': 'nan' is not a number from 1 to 86400"),
        (["flows", "list", "--limit", "9" * 30], "is not a whole number from 1 to 1000000000"),
        (["flows", "prune", "--keep", "-1"], "'-1' is not a whole number from 0 to 1000000000"),
        (["login", "--provider", "moon"], "'moon' is not one of 'github', 'google'"),
        (["tenants", "external-db", "maybe"], "'maybe' is not one of 'on', 'off'"),
        (["login", "--json=3"], "'--json' does not take a value"),
        (["logn"], "Did you mean 'login', 'logout'?"),
        (["flows", "lst"], "Did you mean 'list'?"),
        (["login", "--dir"], "--dir"),
        (["whoami", "--env", "moon"], "production, sandbox, local"),
        (["whoami", "--env", "local", "--api-url", "http://127.0.0.1:1"], "either --env or --api-url"),
        (["login", "--env", "local"], "systemprompt-cloud sandbox"),
        (["up", "--plan", "x", "--region", "moon"], "fra Europe (Frankfurt)"),
        (["up"], "--plan"),
        (["flows", "list", "--status", "odd"], "running, interrupted, paused, queued, waiting, ended"),
        (["diagram", "toaster"], "onboarding"),
        (["login", "--token-stdin"], "no token"),
        (["up", "--plan", ""], "it is empty; `plans` lists"),
        (["checkout", "--plan", " "], "it is empty; `plans` lists"),
        (["provision", ""], "'' is not an id"),
        (["provision", ".."], "'..' is not an id"),
        (["provision", HUGE], "is not an id"),
        (["tenants", "status", ""], "'' is not an id"),
        (["tenants", "status", HUGE], "is not an id"),
        (["domain", "show", "--tenant", HUGE], "is not an id"),
    ],
)
def test_usage_errors_say_what_there_is(cli: CommandLine, words: list[str], said: str) -> None:
    """A mistake in the command line ends with 2 and names the way out."""
    ran = cli(*words, SYSTEMPROMPT_API_URL="").ended(2)
    assert said in " ".join(ran.err.split())
    assert ran.out == ""
    assert not cli.journal.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json", "up"], "--plan"),
        (["flows", "list", "--status", "gone", "--json"], "'gone' is not one of"),
        (["whoami", "--json", "--api-url", "ftp://x"], "--api-url must be https"),
        (["--json", "nonsense"], "nonsense"),
        (["--json", "--env"], "--env"),
        (["flows", "show", NO_TEXT, "--json"], r"'a\xff' is not UTF-8 text"),
        (["--json", "up", "--plan", NO_TEXT], r"'a\xff' is not UTF-8 text"),
        (["--json", "--dir", NO_TEXT, "whoami"], r"'a\xff' is not UTF-8 text"),
        (["--json", NO_TEXT], r"'a\xff' is not UTF-8 text"),
    ],
)
def test_usage_error_for_programs(cli: CommandLine, words: list[str], said: str) -> None:
    """With --json a mistake in the usage is an object on stdout, as any other error; the words stay on stderr."""
    ran = cli(*words).ended(2)
    (found,) = ran.lines
    assert (found["error"], found["exit_code"]) == ("UsageError", 2)
    assert said in found["message"]
    assert found["hint"].startswith("See systemprompt-cloud")
    assert "Error:" in ran.err
    assert not cli.journal.exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["up", "--plan", "x", "--region", HUGE], 2),
        (["domain", "set", HUGE], 2),
        ([f"--{HUGE}"], 2),
        ([HUGE], 2),
        (["flows", "show", HUGE], 1),
    ],
    ids=["value", "argument", "option", "command", "no mistake of usage"],
)
def test_a_huge_mistake_is_told_in_short(owner: tuple[CommandLine, str], words: list[str], code: int) -> None:
    """What was wrong is shown by its beginning and its end, to people as to programs."""
    cli, _ = owner
    ran = cli("--json", *words).ended(code)
    assert len(ran.err) < 3000
    (found,) = ran.lines
    assert len(found["message"]) < 2100
    assert "xxx … xxx" in found["message"]
    assert "xxx … xxx" in ran.err


def test_a_group_alone_is_answered_with_its_whole_help(cli: CommandLine) -> None:
    """That answer is a message too, and is not cut or put on one line."""
    assert cli("flows").ended(2).err.strip() == cli("flows", "--help").ended(0).out.strip()


def test_a_file_that_was_written_is_named_on_one_line(cli: CommandLine) -> None:
    """A name with escape sequences in it repaints no terminal."""
    assert cli("diagram", "-o", "a\x1b[31m\nb").ended(0).err == "Wrote a [31m b\n"
