"""Lines that are typed at a terminal: of any length, and corrected as ever."""

from __future__ import annotations

import os
import pty
import termios
from collections.abc import Generator
from contextlib import contextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from systemprompt_cloud.cli.screen.ask import read_typed_line
from systemprompt_cloud.cli.screen.typed import LONGEST_LINE, TypedLine, any_length, type_hidden

LONG = "x" * 20_000


def line_of(keys: bytes) -> str | None:
    """The line that keys make; None for the end of the input."""
    line = TypedLine()
    for key in keys:
        line.take(key)
        if line.done:
            break
    return None if line.ended else line.text


@contextmanager
def terminal() -> Generator[tuple[int, int]]:
    """The two ends of a terminal: the one to type at, and the program's."""
    leader, follower = pty.openpty()
    try:
        yield leader, follower
    finally:
        os.close(leader)
        os.close(follower)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (b"abc\n", "abc"),
        (b"abc\r", "abc"),
        ("gr\u00fc\u00df\n".encode(), "gr\u00fc\u00df"),
        (b"abx\x7fc\n", "abc"),
        (b"abx\x08c\n", "abc"),
        ("a\u00e4\u20ac\x7f\x7fb\n".encode(), "ab"),
        (b"\x7f\x7fa\n", "a"),
        (b"wrong\x15right\n", "right"),
        (b"two words\x17one\n", "two one"),
        (b"one \x17\n", ""),
        (b"a\x1b[Db\x1b[1;5Cc\x1bOHd\n", "abcd"),
        (b"\x1b[200~pasted\x1b[201~\n", "pasted"),
        (b"a\x1b\n", "a"),
        (b"a\x00\x01\tb\n", "a\tb"),
        (b"a\x04b\n", "ab"),
        (b"\x04", None),
        (b"\n", ""),
    ],
)
def test_keys_make_a_line(keys: bytes, line: str | None) -> None:
    """Erase keys, arrow keys, the marks of a paste, the end of the input."""
    assert line_of(keys) == line


@given(st.binary(max_size=60))
def test_no_keys_crash_or_reach_the_line_as_control_characters(keys: bytes) -> None:
    """Whatever is pasted: the line is one line, and nothing is shown that was not typed but erasing."""
    line = TypedLine()
    shown = b""
    for key in keys:
        if line.done:
            break
        shown += line.take(key)
    assert not any(char < " " and char != "\t" for char in line.text)
    assert b"\x1b" not in shown


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30), st.integers(0, 5))
def test_what_is_erased_and_typed_again_is_the_same(text: str, count: int) -> None:
    """A character is erased whole, however many bytes it has."""
    erased = text[max(len(text) - count, 0) :]
    assert line_of(text.encode() + b"\x7f" * len(erased) + erased.encode() + b"\n") == text


def test_the_memory_of_a_line_is_bounded() -> None:
    """What is longer is cut, and the next line begins after its end."""
    assert line_of(b"x" * (LONGEST_LINE + 10) + b"\n") == "x" * LONGEST_LINE


async def test_a_terminal_gives_lines_of_any_length() -> None:
    """Longer than the 4,095 characters of canonical mode; each question gets one line, and the modes are put back."""
    with terminal() as (leader, follower):
        before = termios.tcgetattr(follower)
        with any_length(follower) as unlimited, trio.fail_after(20):
            assert unlimited
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, os.write, leader, f"{LONG}\nnext\n".encode())
                assert await read_typed_line(follower) == LONG
                assert await read_typed_line(follower) == "next"
        assert termios.tcgetattr(follower) == before


async def test_what_was_typed_before_the_question_is_read() -> None:
    """Changing the mode loses nothing."""
    with terminal() as (leader, follower):
        os.write(leader, b"yes\nrest")
        with any_length(follower), trio.fail_after(5):
            assert await read_typed_line(follower) == "yes"
            os.write(leader, b"\n")
            assert await read_typed_line(follower) == "rest"


def test_what_is_no_terminal_is_left_alone() -> None:
    """Pipes and files have no modes."""
    reading, writing = os.pipe()
    with any_length(reading) as unlimited:
        assert not unlimited
    os.close(reading)
    os.close(writing)


async def test_a_hidden_line_has_any_length_and_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A token is often longer than a line of the terminal; neither the terminal nor we show it."""
    with terminal() as (leader, follower), trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                while "Token: " not in capsys.readouterr().err:  # noqa: ASYNC110 the prompt tells nobody
                    await trio.sleep(0.01)
                await trio.to_thread.run_sync(os.write, leader, f"{LONG}\n".encode())

            nursery.start_soon(write)
            assert await trio.to_thread.run_sync(type_hidden, follower, "Token: ") == LONG
        os.set_blocking(leader, False)
        with pytest.raises(BlockingIOError):
            os.read(leader, 1)


def test_a_hidden_line_that_is_no_text() -> None:
    """It can neither be sent nor stored."""
    line = TypedLine()
    for key in b"\xff\n":
        line.take(key)
    with pytest.raises(UnicodeDecodeError):
        _ = line.strict


def test_a_wide_character_is_erased_whole() -> None:
    """It has two columns; an accent that combines with a letter has none."""
    line = TypedLine()
    for byte in "a日e\u0301".encode():
        line.take(byte)
    assert line.take(0x7F) == b""
    assert line.take(0x7F) == b"\b \b"
    assert line.take(0x7F) == b"\b \b" * 2
    assert line.take(0x15) == b"\b \b"
    assert line.take(0x7F) == b""
