"""A nursery behind a context manager of ours: whoever uses that should not have to know that there is one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import trio

from .errors import EngineClosed

T = TypeVar("T")

AGAIN_SECONDS: Final = 1.0
"""How long something waits that could not be done now: the disk is full, say, or another process is at work."""


async def try_again(attempt: Callable[[], Awaitable[bool]]) -> None:
    """Call something every `AGAIN_SECONDS`, until it says that it is done."""
    done = False
    while not done:
        await trio.sleep(AGAIN_SECONDS)
        done = await attempt()


@asynccontextmanager
async def open_plain_nursery() -> AsyncGenerator[trio.Nursery]:
    """A nursery whose tasks are cancelled when the block is left, and that wraps no error without need.

    Raises:
        KeyboardInterrupt: Ctrl-C. It is raised in whichever task runs, and others may fail while it ends them: to the
            caller it is one all the same.
        BaseExceptionGroup: A task failed. What went wrong in the block alone comes out as it is.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except (Exception, KeyboardInterrupt) as exc:
                failure = exc
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if group.exceptions != (failure,):
            if group.subgroup(KeyboardInterrupt) is None:
                raise
            raise KeyboardInterrupt from group
    if failure is not None:
        raise failure


async def in_task(nursery: trio.Nursery, function: Callable[[], Awaitable[T]]) -> T:
    """Call a function in a task of its own, and wait for it; it goes on when the caller is cancelled.

    Raises:
        EngineClosed: The nursery was closed before it had ended.
        Exception: What it raises.
    """
    done = trio.Event()
    results: list[T] = []
    failure: Exception = EngineClosed("the engine was closed before that was done")

    async def run() -> None:
        nonlocal failure
        try:
            results.append(await function())
        except Exception as exc:  # noqa: BLE001 it is the caller's
            failure = exc
        finally:
            done.set()

    nursery.start_soon(run)
    await done.wait()
    if not results:
        raise failure
    return results[0]
