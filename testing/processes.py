"""The command line as a real process: started, read while it runs, killed, and started again.

A `Person` reads what the command shows and goes where it points, once for every address, like somebody whose browser
keeps its tabs while terminals come and go.
"""

from __future__ import annotations

import codecs
import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from .browser import ScriptedBrowser

URL: Final = re.compile(r"https?://[^\s\"'<>]+")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `--json`: a change, or, with a verdict, the end."""

    flow: str
    machine: str
    seq: int = 0
    event: str = ""
    to: str = ""
    state: str = ""
    verdict: str = ""
    resume: str = ""


class Command:
    """A running command and everything it has said so far."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.stdout = ""
        self.stderr = ""
        self.heard = trio.Condition()

    @property
    def changes(self) -> list[Change]:
        """The complete lines of `--json` so far."""
        lines = self.stdout.split("\n")[:-1]
        return [msgspec.json.decode(line, type=Change) for line in lines if line]

    @property
    def urls(self) -> list[str]:
        """The addresses shown to the person so far, in order, without repetitions."""
        whole = self.stderr.rpartition("\n")[0]
        return list(dict.fromkeys(URL.findall(whole)))

    async def wait_for(self, text: str) -> None:
        """Wait until the command has said `text`; raises `EOFError` if it ends without."""
        while text not in self.stdout + self.stderr:
            if self.process.returncode is not None:
                raise EOFError(f"ended without saying {text!r}: {self.stdout}{self.stderr}")
            await self.wait_words()

    async def wait_words(self) -> None:
        """Wait until it says something more, or ends."""
        async with self.heard:
            await self.heard.wait()

    async def wait(self) -> int:
        """Wait until it has ended and everything it said was read; its exit code."""
        code = await self.process.wait()
        while not self.finished:
            await self.wait_words()
        return code

    finished = False


def command_line(*arguments: str) -> list[str]:
    """How to run the command with this interpreter."""
    return [sys.executable, "-m", "systemprompt_cloud", *arguments]


@asynccontextmanager
async def run_command(
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    argv: Sequence[str] | None = None,
    given: str | None = None,
) -> AsyncGenerator[Command, None]:
    """Run the command for as long as the block lasts; killed with SIGKILL at its end if it still runs.

    Args:
        arguments: What comes after the program's name.
        environ: Added to this process's environment.
        argv: The whole command instead.
        given: What it reads from stdin; None for nothing.
    """
    process = await trio.lowlevel.open_process(
        list(argv) if argv is not None else command_line(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
        env={**os.environ, **(environ or {})},
    )
    command = Command(process)
    try:
        async with trio.open_nursery() as nursery:
            if given is not None and process.stdin is not None:
                async with process.stdin:
                    await process.stdin.send_all(given.encode())
            nursery.start_soon(_read_all, command)
            yield command
            process.kill()
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _read_all(command: Command) -> None:
    async def read(stream: trio.abc.ReceiveStream, name: str) -> None:
        # A chunk may end, and a killed command may stop, in the middle of a character.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async for chunk in stream:
            setattr(command, name, getattr(command, name) + decoder.decode(bytes(chunk)))
            async with command.heard:
                command.heard.notify_all()
        setattr(command, name, getattr(command, name) + decoder.decode(b"", final=True))

    process = command.process
    if process.stdout is None or process.stderr is None:
        raise ValueError("the command was started without pipes")
    async with process.stdout, process.stderr:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, process.stdout, "stdout")
            nursery.start_soon(read, process.stderr, "stderr")
        await process.wait()
    command.finished = True
    async with command.heard:
        command.heard.notify_all()


class Person:
    """Somebody at a browser: opens every address a command shows, once, and keeps the tab open.

    Args:
        browser: What they press.
        nursery: Where the tabs live.
        only: What an address must contain to be opened.
    """

    def __init__(self, browser: ScriptedBrowser, nursery: trio.Nursery, *, only: str) -> None:
        self._browser = browser
        self._nursery = nursery
        self._only = only
        self.opened: list[str] = []

    async def follow(self, command: Command) -> None:
        """Read along until the command has ended."""
        while not command.finished:
            for url in command.urls:
                if self._only in url and url not in self.opened:
                    self.opened.append(url)
                    self._nursery.start_soon(self._browser.visit, url)
            await command.wait_words()
