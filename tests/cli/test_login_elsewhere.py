"""A login whose browser is on another computer, or comes back with something of no use: what the terminal says."""

from __future__ import annotations

import codecs
import io
import os
import pty
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from systemprompt_cloud.cli.account.secret_input import read_piped

from tests.support.command import COMMAND, CommandLine, Running

from .conftest import decide_elsewhere

LOGIN = ("login", "--port", "0")
SSH = {"SSH_CONNECTION": "192.0.2.7 1 192.0.2.8 22", "SSH_TTY": "/dev/pts/9"}
OFFER = "If your browser is on another computer, press Ctrl-C, run this, and paste the address it ends on:"


@contextmanager
def at_keyboard(cli: CommandLine, *words: str, **environ: str) -> Generator[tuple[Running, int]]:
    """A command with a terminal as its stdin, and the descriptor to type at."""
    leader, follower = pty.openpty()
    try:
        with Running([*COMMAND, *words], environ=cli.environ | environ, cwd=cli.home, stdin=follower) as running:
            yield running, leader
    finally:
        os.close(leader)
        os.close(follower)


def redirect_of(url: str) -> str:
    """Where the local cloud sends the browser that opens this address."""
    return decide_elsewhere(url, "approve")


# --- over SSH ------------------------------------------------------------------------------------------------------


def test_paste_is_offered_over_ssh(cli: CommandLine) -> None:
    """Where nobody can be asked, `--paste` is named while waiting and after Ctrl-C; the open tab finishes it."""
    cli.environ |= SSH
    first = cli.begin(*LOGIN)
    where = redirect_of(first.wait_invited())
    first.wait_for(f"{OFFER}\n  systemprompt-cloud login --port 0 --paste\n")
    first.interrupt()
    ran = first.wait().ended(130)
    assert "To continue, and paste the address a browser elsewhere ended on, run:" in ran.err
    command = ran.err.strip().splitlines()[-1].split()
    assert (command[1:3], command[-1]) == (["flows", "resume"], "--paste")
    again = cli.begin(*command[1:], listening=True)
    again.wait_for("paste the address")
    again.say(f"{where}\n")
    done = again.wait().ended(0)
    assert "Logged in as ada@sandbox.example" in done.err
    assert OFFER not in done.err


def test_paste_is_offered_over_ssh_in_json(cli: CommandLine) -> None:
    """A program gets the offer as a hint of its last line; stdout stays JSON."""
    cli.environ |= SSH
    first = cli.begin(*LOGIN, "--json")
    first.wait_for(OFFER)
    first.interrupt()
    last = first.wait().ended(130).lines[-1]
    assert last["hint"] == f"If the browser is on another computer: {last['resume']} --paste"


@pytest.mark.parametrize("words", [LOGIN, ("up", "--plan", "plan_sandbox_starter", "--login-port", "0")])
def test_address_is_asked_for_over_ssh(cli: CommandLine, words: tuple[str, ...]) -> None:
    """At a terminal nobody has to know the option: the address is asked for, at any length."""
    with at_keyboard(cli, *words, **SSH) as (running, keyboard):
        where = redirect_of(running.wait_invited())
        running.wait_for("paste the address it ended on:")
        os.write(keyboard, f"{where}&more={'x' * 6000}\n".encode())
        running.wait_for("\u2713 logged in")
        assert OFFER not in running.err


@pytest.mark.parametrize("environ", [{}, SSH | {"DISPLAY": ":0"}, SSH | {"BROWSER": "true"}])
def test_nothing_is_offered_where_a_browser_can_be(cli: CommandLine, environ: dict[str, str]) -> None:
    """At this computer, or with a display or a browser of the person's choice, the usual words do."""
    cli.environ |= environ
    first = cli.begin(*LOGIN, "--no-browser")
    first.wait_invited()
    first.interrupt()
    ran = first.wait().ended(130)
    assert "--paste" not in ran.err


def test_paste_is_offered_where_there_is_no_browser(cli: CommandLine) -> None:
    """A container, say: the address is opened elsewhere, and ends elsewhere."""
    first = cli.begin(*LOGIN, "--no-input")
    first.wait_for(f"{OFFER}\n  systemprompt-cloud login --port 0 --paste\n")
    first.interrupt()
    first.wait().ended(130)


def test_paste_is_refused_where_nobody_may_be_asked(cli: CommandLine) -> None:
    """`--no-input` forbids the question, in every command that has it."""
    for words in (LOGIN, ("up", "--plan", "x"), ("flows", "resume")):
        assert "--no-input allows no questions" in cli(*words, "--paste", "--no-input").ended(2).err


# --- tokens that are typed -----------------------------------------------------------------------------------------


def test_token_of_any_length_is_typed(cli: CommandLine) -> None:
    """A terminal cuts lines off at 4,095 characters; a token is taken whole, and the API judges it."""
    with at_keyboard(cli, "login", "--token-stdin") as (running, keyboard):
        running.wait_for("it is not shown")
        os.write(keyboard, b"x" * 9000 + b"\n")
        assert "the token was not accepted" in running.wait().ended(4).err


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("\n", "stdin holds no token"),
        ("one two\n", "the token on stdin holds a space or a line end"),
        ("Bearer abc", "the token on stdin begins with `Bearer`"),
    ],
)
def test_what_is_no_token_is_refused_by_name(cli: CommandLine, given: str, problem: str) -> None:
    """Before anything is sent, in text and in JSON."""
    assert problem in cli("login", "--token-stdin", given=given).ended(2).err
    assert problem in cli("login", "--token-stdin", "--json", given=given).ended(2).lines[-1]["message"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
def test_bytes_of_a_pipe_are_read_as_they_were_written(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PowerShell begins a file with a mark: it tells how to read the rest, and is no part of it."""
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    given = io.TextIOWrapper(io.BytesIO(mark + "t\u00f6ken\r\n".encode(encoding)))
    monkeypatch.setattr("sys.stdin", given)
    assert read_piped(100, "--token-stdin") == "t\u00f6ken\r\n"


# --- callbacks of no use -------------------------------------------------------------------------------------------

CANNOT = "the browser came back, but its answer cannot be used: "


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "json"])
def test_answer_of_no_use_is_shown(cli: CommandLine, words: tuple[str, ...]) -> None:
    """A form, and an answer with nothing in it: a line each in the terminal, none on stdout; then the login ends."""
    running = cli.begin(*LOGIN, "--no-browser", *words)
    where = redirect_of(running.wait_invited())
    bare = f"{where.partition('?')[0]}?state={_state(where)}"
    with httpx.Client(trust_env=False) as browser:
        form = browser.post(where, headers={"Origin": "null"}, data={"access_token": "x"})
        assert "The answer has to be a redirect, not a form" in form.text
        running.wait_for(f"{CANNOT}Another site sent it with a form")
        assert "neither a token nor an error" in browser.get(bare).text
        running.wait_for(f"{CANNOT}It carried neither a token nor an error. Open the address again.")
        assert browser.get(where).status_code == 200
    ran = running.wait().ended(0)
    assert CANNOT not in ran.out
    assert _state(where) not in ran.out


def test_denial_ends_the_login_whatever_stands_beside_it(cli: CommandLine) -> None:
    """Exit code 5 and the reason on one line, in text; the same in JSON."""
    for words in ((), ("--json",)):
        running = cli.begin(*LOGIN, "--no-browser", *words)
        where = redirect_of(running.wait_invited())
        query = f"state={_state(where)}&error=access_denied&error_description=Not%0D%0Aallowed&access_token=%ff"
        with httpx.Client(trust_env=False) as browser:
            assert "The login was refused" in browser.get(f"{where.partition('?')[0]}?{query}").text
        ran = running.wait().ended(5)
        assert ran.lines[-1]["problem"] == "Not allowed" if words else "Login denied: Not allowed\n" in ran.err


def _state(address: str) -> str:
    (state,) = parse_qs(urlsplit(address).query)["state"]
    return state
