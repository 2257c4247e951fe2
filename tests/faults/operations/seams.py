"""Where a history reaches into the engine: every write is seen, takes checkpoints, and fails when the plan wants it.

Only what every task does with the disk is wrapped, and what is wrapped still runs; the engine itself is not touched.
The triggers are temporary ones of the connection that writes: what they report is exactly what was committed.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final

import trio
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.engine.disk import Disk
from systemprompt_cloud.engine.errors import JournalError
from systemprompt_cloud.engine.journal import commits
from systemprompt_cloud.engine.journal.commits import Commits
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.owners import Owner
from systemprompt_cloud.engine.journal.vault import VaultFiles

from .log import Changed, Dropped, Posted, Wrote
from .process import CURRENT, Process

TRIGGERS: Final = """
CREATE TEMP TRIGGER IF NOT EXISTS row_added AFTER INSERT ON flows BEGIN SELECT row_changed(
    NEW.id, NEW.machine, NEW.parent, NEW.status, NEW.verdict, NEW.owner, NEW.state, NEW.incarnation); END;
CREATE TEMP TRIGGER IF NOT EXISTS row_changed AFTER UPDATE ON flows BEGIN SELECT row_changed(
    NEW.id, NEW.machine, NEW.parent, NEW.status, NEW.verdict, NEW.owner, NEW.state, NEW.incarnation); END;
CREATE TEMP TRIGGER IF NOT EXISTS record_added AFTER INSERT ON events BEGIN SELECT record_added(
    NEW.flow, NEW.seq, NEW.kind, NEW.name, NEW."to", NEW.incarnation); END;
CREATE TEMP TRIGGER IF NOT EXISTS signal_added AFTER INSERT ON inbox BEGIN SELECT signal_added(
    NEW.flow, NEW.id, NEW.body); END;
CREATE TEMP TRIGGER IF NOT EXISTS signal_dropped AFTER DELETE ON inbox BEGIN SELECT signal_dropped(OLD.id); END;
"""

_scheduler: Any = import_module("trio._core._run")
"""Trio orders the tasks of a turn at random, and has no public way to repeat that; its hypothesis plugin does this."""


def seed_scheduler(seed: int) -> None:
    """Decide the order of the tasks in each turn of the scheduler from now on."""
    _scheduler._r.seed(seed)


@contextmanager
def watched_engine() -> Generator[None]:
    """For as long as the block runs, engines report to the process whose task uses them; others are as always."""
    wrapped: list[tuple[Any, str, Any]] = [
        (Journal, "write", _write),
        (Commits, "write", _write_slowly),
        (Disk, "run", _run_slowly),
        (Owner, "__init__", _own),
        (trio.to_thread, "run_sync", _run_here),
        (commits, "time", _timed),
        *((VaultFiles, name, partial(_use_vault, name)) for name in ("put", "discard")),
    ]
    originals = [(place, name, getattr(place, name)) for place, name, _ in wrapped]
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    repeatable, _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = _scheduler._ALLOW_DETERMINISTIC_SCHEDULING, True
    try:
        for (place, name, wrapper), (*_, original) in zip(wrapped, originals, strict=True):
            setattr(place, name, wrapper(original))
        yield
    finally:
        for place, name, original in originals:
            setattr(place, name, original)
        _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = repeatable
        logging.disable(level)


Wrapped = Callable[..., Any]


def _write(original: Wrapped) -> Wrapped:
    def write(journal: Journal, operations: Sequence[Callable[[], None]], **options: Any) -> None:
        process = CURRENT.get(None)
        if process is None:
            original(journal, operations, **options)
            return
        if process.dead:
            raise JournalError("the process was killed")
        _watch(journal, process)

        def fail() -> None:
            if process.fails_now():
                raise sqlite3.OperationalError("database or disk is full")

        process.pending.clear()
        try:
            original(journal, [*operations, fail], **options)
        except BaseException:
            process.pending.clear()
            raise
        process.commits()

    return write


def _watch(journal: Journal, process: Process) -> None:
    connection = journal._writer  # pyright: ignore[reportPrivateUsage]
    if connection.execute("SELECT 1 FROM temp.sqlite_master LIMIT 1").fetchone():
        return
    number, pending = process.number, process.pending

    def added(flow: str, seq: int, kind: str, name: str, state: str, incarnation: int) -> None:
        pending.append(Wrote(number, flow, seq, kind, name, state, incarnation, trio.current_time()))

    connection.create_function("record_added", 6, added)
    connection.create_function("row_changed", 8, lambda *values: pending.append(Changed(number, *values)))
    connection.create_function("signal_added", 3, lambda *values: pending.append(Posted(number, *values)))
    connection.create_function("signal_dropped", 1, lambda *values: pending.append(Dropped(number, *values)))
    connection.executescript(TRIGGERS)


def _write_slowly(original: Wrapped) -> Wrapped:
    async def write(*args: Any, **options: Any) -> None:
        process = CURRENT.get(None)
        if process is None or process.around.threads:
            await original(*args, **options)
            return
        await _wait(process)
        await original(*args, **options)
        await _wait(process)

    return write


def _run_slowly(original: Wrapped) -> Wrapped:
    async def run(disk: Disk, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        process = CURRENT.get(None)
        if process is None or process.around.threads:
            return await original(disk, function, *args, **options)
        return await _run_thread(process, partial(function, *args, **options))

    return run


def _run_here(original: Wrapped) -> Wrapped:
    async def run_sync(function: Callable[..., Any], *args: Any, limiter: Any = None, **options: Any) -> Any:
        process = CURRENT.get(None)
        if process is None:
            return await original(function, *args, limiter=limiter, **options)
        return await _run_thread(process, partial(function, *args))

    return run_sync


async def _run_thread(process: Process, function: Callable[[], Any]) -> Any:
    """As in a thread, but on the scheduler, and with the plan's latency."""
    await trio.lowlevel.checkpoint_if_cancelled()
    await _wait(process)
    try:
        return function()
    finally:
        await _wait(process)


def _timed(original: Any) -> SimpleNamespace:
    """The module `time`, for a journal's commits: a write takes as long as the plan wants."""
    now = 0.0

    def perf_counter() -> float:
        nonlocal now
        process = CURRENT.get(None)
        if process is None:
            return original.perf_counter()
        now += process.around.seconds()
        return now

    return SimpleNamespace(perf_counter=perf_counter)


async def _wait(process: Process) -> None:
    for _ in range(process.latency):
        await trio.lowlevel.cancel_shielded_checkpoint()


def _own(original: Wrapped) -> Wrapped:
    def begin(lock: Owner, *args: Any, **options: Any) -> None:
        original(lock, *args, **options)
        if (process := CURRENT.get(None)) is not None:
            process.owns(lock)

    return begin


def _use_vault(name: str, original: Wrapped) -> Wrapped:
    def use(files: VaultFiles, flow: str, *args: Any) -> Any:
        process = CURRENT.get(None)
        if process is not None:
            if process.dead:
                raise Io("the process was killed")
            # A file that is not there can be removed from any disk.
            if (name == "put" or (files.directory / f"{flow}.json").exists()) and process.vault_fails_now(name, flow):
                raise Io("the vault cannot be written, as the plan wants it")
        return original(files, flow, *args)

    return use
