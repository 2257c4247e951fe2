"""Asking at the terminal: every question gets its own answer."""

from __future__ import annotations

import os
import pty
from collections.abc import Generator
from pathlib import Path

import pytest
import trio
import trio.testing
from systemprompt_cloud.cli.screen.ask import LONGEST_LINE, read_line


class Pipe:
    """A pipe, its reading end in place of stdin."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def type(self, text: bytes) -> None:
        os.write(self.writing, text)

    def hang_up(self) -> None:
        os.close(self.writing)
        self.writing = -1

    def close(self) -> None:
        for descriptor in (self.reading, self.writing):
            if descriptor >= 0:
                os.close(descriptor)


@pytest.fixture
def pipe() -> Generator[Pipe, None, None]:
    made = Pipe()
    yield made
    made.close()


async def test_a_question_that_was_withdrawn_takes_no_answer(pipe: Pipe) -> None:
    """The reader of a cancelled question is gone: what is typed then answers the next one."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_line, pipe.reading)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    pipe.type(b"yes\n")
    with trio.fail_after(5):
        assert await read_line(pipe.reading) == "yes"


async def test_each_question_gets_one_line(pipe: Pipe) -> None:
    """Lines that were typed ahead are given one by one, then there are none; no more is read than was asked for."""
    pipe.type("ä b\r\n\nlast".encode())
    pipe.hang_up()
    assert [await read_line(pipe.reading) for _ in range(4)] == ["ä b", "", "last", None]


async def test_a_line_without_an_end_is_cut(pipe: Pipe) -> None:
    """What never ends does not fill the memory."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, pipe.type, b"x" * (LONGEST_LINE + 1) + b"\n")
        assert await read_line(pipe.reading) == "x" * LONGEST_LINE
        assert await read_line(pipe.reading) == "x"


async def test_files_can_answer_too(tmp_path: Path) -> None:
    """A regular file and /dev/null, which epoll does not take, are read all the same."""
    file = tmp_path / "answers"
    file.write_text("y\n")
    for name, answers in ((str(file), ["y", None]), (os.devnull, [None, None])):
        descriptor = os.open(name, os.O_RDONLY)
        try:
            assert [await read_line(descriptor) for _ in answers] == answers
        finally:
            os.close(descriptor)


async def test_a_terminal_that_hung_up() -> None:
    """Its error is the end of the input, not a crash."""
    leader, follower = pty.openpty()
    os.close(leader)
    try:
        with trio.fail_after(5):
            assert await read_line(follower) is None
    finally:
        os.close(follower)
