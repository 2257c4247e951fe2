"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal): an orderly end, never a traceback. Ctrl-Z: an orderly stop.

The exit code is 128 and the signal's number, as of a program that the signal ended: 130, 143, 129. The first signal
cancels the work and waits for it to tidy up; another one changes nothing about that, and a third
leaves at once, which the journal does not mind.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final, TypeVar

import trio

from ..screen.stopping import can_stop, stop_here

T = TypeVar("T")

PATIENCE: Final = 3
"""How many signals it takes to leave without waiting for an orderly end."""


class Stopped(KeyboardInterrupt):
    """A signal stopped the work.

    Attributes:
        code: The exit code that follows.
    """

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


def ending_signals() -> list[signal.Signals]:
    """The signals that end a command: SIGHUP is none where it is ignored, as `nohup` has it."""
    ignores_hangup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignores_hangup else [signal.SIGHUP])]


def code_of(number: int) -> int:
    """The exit code of a program that a signal ended."""
    return 128 + number


async def until_interrupted(
    work: Callable[[], Awaitable[None]], paused: Callable[[], AbstractContextManager[None]] | None = None
) -> int:
    """Do the work until it is done or a signal stops it.

    Args:
        work: What is done.
        paused: Gives the terminal back in its block, while the process is stopped by Ctrl-Z; None where it was not
            changed.

    Returns:
        The exit code of the signal that did; 0 when none did.

    Raises:
        Exception: What the work raises, as it is.
    """
    stopped = 0
    failure: Exception | None = None
    stopping = [signal.SIGTSTP] if paused is not None and can_stop() else []
    with trio.open_signal_receiver(*ending_signals(), *stopping) as signals:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def watch() -> None:
                nonlocal stopped
                count = 0
                async for number in signals:
                    if paused is not None and number in stopping:
                        with paused():
                            stop_here()
                        continue
                    count += 1
                    stopped = stopped or code_of(number)
                    scope.cancel()
                    if count >= PATIENCE:
                        os._exit(stopped)

            nursery.start_soon(watch)
            with scope:
                try:
                    await work()
                except Exception as exc:  # noqa: BLE001 raised below as it is, not wrapped in the nursery's group
                    failure = exc
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return stopped


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run something that is over soon.

    Raises:
        Stopped: A signal stopped it; the program ends with the signal's exit code.
    """
    results: list[T] = []

    async def collect() -> None:
        results.append(await work())

    stopped = trio.run(until_interrupted, collect)
    if not results:
        raise Stopped(stopped)
    return results[0]
