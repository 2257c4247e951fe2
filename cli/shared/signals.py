"""Ctrl-C and SIGTERM: an orderly end, never a traceback.

The first signal cancels the work and waits for it to tidy up; another one changes nothing about that, and a third
leaves at once, which the journal does not mind.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from ...base.errors import EXIT_INTERRUPTED

T = TypeVar("T")

PATIENCE: Final = 3
"""How many signals it takes to leave without waiting for an orderly end."""


async def until_interrupted(work: Callable[[], Awaitable[None]]) -> bool:
    """Do the work until it is done or a signal stops it.

    Returns:
        True when a signal did.

    Raises:
        Exception: What the work raises, as it is.
    """
    stopped = False
    failure: Exception | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def watch() -> None:
                nonlocal stopped
                count = 0
                async for _ in signals:
                    count += 1
                    stopped = True
                    scope.cancel()
                    if count >= PATIENCE:
                        os._exit(EXIT_INTERRUPTED)

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
        KeyboardInterrupt: A signal stopped it; the program ends with 130.
    """
    results: list[T] = []

    async def collect() -> None:
        results.append(await work())

    trio.run(until_interrupted, collect)
    if not results:
        raise KeyboardInterrupt
    return results[0]
