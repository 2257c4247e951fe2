"""A nursery behind a context manager of ours: whoever uses that should not have to know that there is one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio


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
