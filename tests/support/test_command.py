"""The helper that runs the command as a process: every wait ends, and it hears every character."""

from __future__ import annotations

import sys
from collections.abc import Generator

import pytest
from systemprompt_cloud.errors import Network
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.command import Running

TICKS = 65_536
"""Three bytes each and two before them: whatever the pipe holds at once, it ends inside one."""


@pytest.fixture
def silent() -> Generator[Running, None, None]:
    """A process that says one line on each stream and then waits for something that never comes."""
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True); sys.stdin.read()"
    with Running([sys.executable, "-c", code], listening=True) as running:
        yield running


def test_waiting_for_a_command_that_hangs_ends(silent: Running) -> None:
    """The wait has a bound; after it the command is killed and the failure quotes what it said."""
    with pytest.raises(AssertionError, match=r"did not end within 1 s\nout\n\nerr\n"):
        silent.wait(1)
    assert silent.process.wait(5) < 0


def test_waiting_for_a_command_that_only_falls_silent_ends() -> None:
    """Both its pipes are closed, and it lives on: the same."""
    code = "import os, sys; print('out', flush=True); os.close(1); os.close(2); sys.stdin.read()"
    with Running([sys.executable, "-c", code], listening=True) as running:
        with pytest.raises(AssertionError, match=r"did not end within 1 s\nout\n"):
            running.wait(1)
        assert running.process.wait(5) < 0


def test_a_browser_that_fails_is_told_of() -> None:
    """Whoever waits need not wait longer: the failure has its cause, and quotes what the command said."""
    code = "import sys; print('  http://127.0.0.1:9/', file=sys.stderr, flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", code]
    with Running(argv, listening=True, browser=ScriptedBrowser()) as running:
        with pytest.raises(AssertionError, match=r"cannot load 127\.0\.0\.1:9(.*\n)+  http://127") as caught:
            running.wait()
        assert isinstance(caught.value.__cause__, Network)
        assert running.process.wait(5) < 0


def test_waiting_for_words_that_never_come_ends_with_the_command(silent: Running) -> None:
    """What it says is there at once; what it can say no more is not waited for, and the failure quotes what it said."""
    assert silent.wait_line() == "out"
    silent.say("")
    with pytest.raises(AssertionError, match=r"did not say 'more' before it ended\nout\n\nerr\n"):
        silent.wait_for("more")


def test_waiting_for_a_command_gives_all_it_said(silent: Running) -> None:
    """Both streams, whole, and the exit code."""
    silent.say("")
    ran = silent.wait().ended(0)
    assert (ran.out, ran.err) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("said", "heard"),
    [(f"('ab' + '\u2713' * {TICKS}).encode()", "ab" + "\u2713" * TICKS), (r"b'so far \xe2\x9c'", "so far \ufffd")],
    ids=["cut in two by the pipe", "cut off by the end"],
)
def test_characters_arrive_whole(said: str, heard: str) -> None:
    """A chunk that ends inside a character is no error; a mark stands for what was not finished."""
    with Running([sys.executable, "-c", f"import sys; sys.stdout.buffer.write({said})"]) as running:
        assert running.wait().ended(0).out == heard
