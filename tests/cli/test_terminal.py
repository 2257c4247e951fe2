"""What reaches a terminal, and what happens when nobody reads."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.cli.screen.render import clock
from systemprompt_cloud.cli.screen.terminal import clean, shortened
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.command import SECONDS, CommandLine
from tests.support.process import COMMAND, start


@given(st.text())
def test_clean_text_is_one_harmless_line(text: str) -> None:
    """No control character survives: none can move the cursor, repaint the screen or begin a new line."""
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", clean(text))
    assert clean(text).isprintable()


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\u00ad", "\U000e0041"])
def test_clean_text_hides_nothing(hidden: str) -> None:
    """Bidirectional overrides and zero-width characters are made visible: no name can look like another."""
    assert clean(f"ada{hidden}@example") == "ada @example"


def test_clean_text_holds_no_token() -> None:
    """What looks like a secret is taken out on the way."""
    assert clean("Bearer abc.def.ghi\x1b[2J") == "Bearer *** [2J"


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3600, "60:00")])
def test_clock(seconds: float, shown: str) -> None:
    """Elapsed time is minutes and seconds."""
    assert clock(seconds) == shown


def test_shortened() -> None:
    """A flow's id is cut, a child's is not: its end says which it is."""
    assert shortened("0" * 18) == "0" * 12
    assert shortened("0" * 18 + ".login-2") == "0" * 18 + ".login-2"


def test_reader_that_went_away(cli: CommandLine) -> None:
    """With nobody reading stdout the flow still reaches its end, and there is no traceback."""
    read, write = os.pipe()
    os.close(read)
    cli.login()
    file = cli.directory / "credentials.json"
    token = json.loads(file.read_text())["api_token"]
    file.unlink()
    with os.fdopen(write, "w") as nobody:
        ended = subprocess.run(
            [*COMMAND, "login", "--token-stdin", "--json"],
            input=token,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            env=cli.environ,
            cwd=cli.home,
            timeout=SECONDS,
            check=False,
        )
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    assert "Broken" not in ended.stderr
    assert file.exists()


def test_help_for_a_reader_that_went_away(cli: CommandLine) -> None:
    """`--help | head -0` ends quietly."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        ended = subprocess.run(
            [*COMMAND, "--help"], stdout=nobody, stderr=subprocess.PIPE, text=True, env=cli.environ, check=False
        )
    assert ended.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a device that is always full")  # noqa: PTH110
@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["diagram"], ["whoami", "--dir", "x", "--help"], ["login", "--token-stdin"]]
)
def test_stdout_that_cannot_be_written(cli: CommandLine, words: list[str]) -> None:
    """A full disk under stdout is one line on stderr and 1, never a traceback; a flow still reaches its end."""
    cli.login()
    file = cli.directory / "credentials.json"
    token = json.loads(file.read_text())["api_token"]
    file.unlink()
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ended = subprocess.run(
            [*COMMAND, *words, *(["--json"] if words[0] == "login" else [])],
            input=token,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=cli.environ,
            cwd=cli.home,
            timeout=SECONDS,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == ["Error: cannot write to stdout: No space left on device"]
    assert file.exists() is (words[0] == "login")


@pytest.mark.parametrize("how", [">&-", "1</dev/null"], ids=["closed", "for reading"])
def test_stdout_that_is_closed(owner: tuple[CommandLine, str], how: str) -> None:
    """What is said there is lost: a line on stderr, and 1. Who says nothing there ends as ever."""
    cli, _ = owner
    cli.before = ("sh", "-c", f'exec "$@" {how}', "sh")
    for words in (["--version"], ["diagram"], ["plans", "--json"]):
        assert cli(*words).ended(1).err == "Error: cannot write to stdout: Bad file descriptor\n"
    cli("logout").ended(0)


def at_a_terminal(
    cli: CommandLine,
    *words: str,
    until: str,
    keys: bytes,
    browser: ScriptedBrowser | None = None,
    environ: Mapping[str, str] | None = None,
    real: bool = False,
) -> tuple[int, str]:
    """Run a command on a terminal, type the keys once it has said `until`, give its exit code and what was shown.

    Somebody at the `browser` opens the first address that is shown.
    """
    leader, follower = pty.openpty()
    process = start(
        [*COMMAND, *words],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        environ=cli.environ | {"TERM": "xterm-256color"} | dict(environ or {}),
        cwd=cli.home,
        terminal=True,
        real=real,
    )
    os.close(follower)
    shown = b""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if not select.select([leader], [], [], 1)[0]:
            continue
        try:
            chunk = os.read(leader, 65_536)
        except OSError:  # Linux: the other side is closed
            break
        if not chunk:
            break
        shown += chunk
        if browser is not None and (found := ADDRESS.search(shown)):
            trio.run(browser.visit, found[1].decode())
            browser = None
        if keys and until.encode() in shown:
            os.write(leader, keys)
            keys = b""
    os.close(leader)
    return process.wait(SECONDS), shown.decode()


ADDRESS = re.compile(rb"(https?://[^\s\x1b]+)[\s\x1b]")
LOGIN = ("login", "--port", "0", "--no-browser")
ORDER = ("--plan", "plan_sandbox_starter", "--region", "iad")


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["colour", "NO_COLOR", "dumb"])
def test_terminal_moves_unless_told_not_to(cli: CommandLine, environ: dict[str, str]) -> None:
    """On a terminal the last line moves, in colour; Ctrl-C is 130 with the way on; NO_COLOR and dumb are plain."""
    # Seen on the moving line, or the address off it.
    code, shown = at_a_terminal(cli, *LOGIN, until="/sandbox/consent/", keys=b"\x03", environ=environ, real=True)
    assert code == 130
    assert ("\x1b[" in shown) is (environ == {})
    assert "systemprompt-cloud flows resume" in shown
    assert "Traceback" not in shown
    if environ == {}:
        assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back


def test_a_drawing_for_a_file_or_a_program_has_no_colour(cli: CommandLine, tmp_path: Path) -> None:
    """Only what the terminal itself shows is coloured for it."""
    drawing = ("diagram", "login", "--format", "text")
    file = tmp_path / "login.txt"
    assert "\x1b[" in at_a_terminal(cli, *drawing, until="", keys=b"")[1]
    assert "u001b" not in at_a_terminal(cli, *drawing, "--json", until="", keys=b"")[1]
    at_a_terminal(cli, *drawing, "-o", str(file), until="", keys=b"")
    assert "\x1b[" not in file.read_text()


def test_token_is_asked_for_unseen(cli: CommandLine) -> None:
    """`login --token-stdin` at a terminal asks, and does not show what is typed."""
    code, shown = at_a_terminal(
        cli, "login", "--token-stdin", "--json", until="it is not shown", keys=b"not-a-jwt-but-secret\n"
    )
    assert code == 4
    assert "not-a-jwt-but-secret" not in shown


def test_nothing_is_typed_unseen(owner: tuple[CommandLine, str]) -> None:
    """Enter alone is no value, and it is said as what it was."""
    code, shown = at_a_terminal(owner[0], "secrets", "set", "ZED", until="it is not shown", keys=b"\n")
    assert code == 2
    assert "there is no value for ZED: nothing was typed" in shown


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [(b"what\ny\n", 0, "Logged in as ada@sandbox.example"), (b"n\n", 5, "was not confirmed"), (b"\x03", 130, "resume")],
    ids=["yes", "no", "ctrl-c"],
)
def test_question_at_a_terminal(cli: CommandLine, keys: bytes, code: int, said: str) -> None:
    """An unbound login asks whose account it is: yes saves it, no does not, Ctrl-C leaves it to be gone on with."""
    cli.play(*LOGIN, "--unbound-callback").ended(8)
    ended, shown = at_a_terminal(cli, "flows", "resume", until="[y/n]", keys=keys)
    assert ended == code, shown
    assert said in shown
    assert "Traceback" not in shown
    assert "Fatal" not in shown
    assert (cli.directory / "credentials.json").exists() is (code == 0)


def test_question_after_a_paste_that_was_not_needed(cli: CommandLine) -> None:
    """The browser came by itself while a pasted address was asked for: the next question gets the first answer."""
    ended, shown = at_a_terminal(
        cli,
        *("login", "--port", "0", "--paste", "--unbound-callback"),
        until="[y/n]",
        keys=b"y\n",
        browser=ScriptedBrowser(),
    )
    assert ended == 0, shown
    assert "paste the address" in shown
    assert "0:00 of 5:00" in shown
    assert shown.count("[y/n]") == 1
    assert "Logged in as ada@sandbox.example" in shown


def test_checkout_that_is_not_repeated(cli: CommandLine, clouds: Callable[..., str]) -> None:
    """Whoever answers no to another checkout reads that as the reason, not the network trouble before it."""
    url = clouds("--fault", "lose-answer:path=/checkout", "--fault", "no-idempotency")
    cli.play(*LOGIN, "--api-url", url).ended(0)
    words = ("checkout", *ORDER, "--port", "0", "--no-browser", "--api-url", url)
    code, shown = at_a_terminal(cli, *words, until="[y/n]", keys=b"n\n", environ={"NO_COLOR": "1"})
    assert code == 1, shown
    assert "Checkout cancelled: another checkout was declined when it was asked for" in shown
    assert "Error" not in shown


def test_a_no_beside_an_unfinished_order(cli: CommandLine) -> None:
    """Whoever wants no other order reads what is kept and how to go on, and no error."""
    cli.play(*LOGIN).ended(0)
    order = (*ORDER, "--no-browser")
    begun = cli.begin("checkout", *order, "--port", "0")
    begun.wait_invited("/pay")
    begun.interrupt()
    begun.wait().ended(130)
    (first,) = [line["flow"] for line in cli("flows", "list", "--json", "--status", "interrupted").lines]
    words = ("up", *order, "--checkout-port", "0")
    code, shown = at_a_terminal(cli, *words, until="[y/n]", keys=b"n\n", environ={"NO_COLOR": "1", "COLUMNS": "1000"})
    assert code == 8, shown
    assert "Paused: no other order was placed: an earlier order of this plan and region" in shown
    assert f"systemprompt-cloud flows resume {first}" in shown
    assert shown.count("[y/n]") == 1
    assert "Error" not in shown


def test_narrow_terminal(cli: CommandLine) -> None:
    """At 40 columns the moving lines end at the edge, so that wiping them leaves nothing behind."""
    code, shown = at_a_terminal(
        cli, *LOGIN, until="/sandbox/consent/", keys=b"\x03", environ={"COLUMNS": "40", "LINES": "20"}
    )
    assert code == 130
    moving = [line for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\r", shown).splitlines() if "total 0:0" in line]
    assert moving
    assert all(len(line) <= 40 and line.endswith("…") for line in moving), moving
