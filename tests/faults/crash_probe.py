"""The points a process can be killed at: every commit, file operation, request, callback answer and state entry.

Theory. A crash matters only in relation to an effect: it comes before the effect, in the middle of it, or after it and
before anything could react to it. So a run is a finite list of points, one before and one after each effect (and one
inside each transaction, when everything is written and nothing committed). A kill at any other instruction is
equivalent to one of these: in between, the process changes nothing that outlives it.

A point is named by what happens there and how often it has happened before, not by a running number: two runs of one
flow differ in the order of concurrent work, and not in what happens.

The probe patches the product from outside, in a process that exists to be killed (`crash_child.py`). It does not see
SQLite's own system calls; the storage tests check that SQLite survives a kill between two of them.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, cast

import httpx
import msgspec
from systemprompt_cloud.engine import drive as drive_module
from systemprompt_cloud.engine.feed import Feed
from systemprompt_cloud.engine.history import Change
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import FlowRow, Record
from systemprompt_cloud.engine.run import Run
from systemprompt_cloud.engine.visit import Activity
from systemprompt_cloud.io.loopback.callback import CallbackHit

Kind = Literal["commit", "create", "write", "fsync", "rename", "remove", "request", "callback", "state"]
When = Literal["before", "inside", "after"]

_IDS: Final = re.compile(r"/(?:tnt|cs)_[A-Za-z0-9_]+")
_RANDOM: Final = (
    (re.compile(r"\.[0-9a-f]{16}\.tmp$"), ".tmp"),
    (re.compile(r"[0-9a-f]{16}\.lock$"), "*.lock"),
    (re.compile(r"\.\d+\.[0-9a-f]{8}\.new"), ".new"),
    (re.compile(r"vault/(\.?)[0-9a-hjkmnp-tv-z]{18}"), r"vault/\1flow"),
)


class Point(msgspec.Struct, frozen=True, order=True):
    """One point to be killed at.

    Attributes:
        kind: The kind of effect.
        what: The effect: a file, a request, a record, a state.
        when: On which side of it.
        nth: Which occurrence in the process, from 1.
    """

    kind: Kind
    what: str
    when: When
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.when} {self.kind} {self.what} #{self.nth}"


class Probe:
    """Counts the points a process passes, and kills it at one of them.

    Args:
        home: Files under this directory are watched.
        met: Called with every point as it is passed.
        target: The point to kill the process at; None for no kill.
    """

    def __init__(self, home: Path, met: Callable[[Point], None], target: Point | None) -> None:
        self._home = str(home)
        self._met = met
        self._target = target
        self._seen: Counter[tuple[Kind, str, When]] = Counter()
        self._one = threading.RLock()
        self._files: dict[int, str] = {}

    def meet(self, kind: Kind, what: str, when: When) -> None:
        """Pass a point, or die there."""
        with self._one:  # no other thread passes a point after the target
            self._seen[kind, what, when] += 1
            point = Point(kind, what, when, self._seen[kind, what, when])
            self._met(point)
            if point == self._target:
                die()

    def install(self) -> None:
        """Patch the product, for the rest of this process's life."""
        self._around_files()
        replace_in(Journal, "write", self._around_commit(Journal.write))
        transport = httpx.AsyncHTTPTransport
        replace_in(transport, "handle_async_request", self._around_request(transport.handle_async_request))
        replace_in(drive_module, "run_state", self._around_state(drive_module.run_state))
        replace_in(Feed, "publish", self._around_publish(Feed.publish))
        replace_in(CallbackHit, "answer", self._around_answer(CallbackHit.answer))

    # --- the journal ------------------------------------------------------------------------------------------------

    def _around_commit(self, write: Callable[..., None]) -> Callable[..., None]:
        def probed(journal: Journal, operations: Sequence[Callable[[], None]], **options: Any) -> None:
            what = " + ".join(_commit_name(operation) for operation in operations)
            self.meet("commit", what, "before")
            write(journal, [*operations, lambda: self.meet("commit", what, "inside")], **options)
            self.meet("commit", what, "after")

        return probed

    # --- the network ------------------------------------------------------------------------------------------------

    def _around_request(self, send: Callable[..., Awaitable[httpx.Response]]) -> Callable[..., Awaitable[Any]]:
        async def probed(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
            what = f"{request.method} {_IDS.sub('/{id}', request.url.path)}"
            self.meet("request", what, "before")
            response = await send(transport, request)
            self.meet("request", what, "after")
            return response

        return probed

    def _around_answer(self, answer: Callable[[CallbackHit, int, str], None]) -> Callable[..., None]:
        def probed(hit: CallbackHit, status: int, page: str) -> None:
            self.meet("callback", f"page {status}", "before")
            answer(hit, status, page)
            self.meet("callback", f"page {status}", "after")

        return probed

    # --- the states -------------------------------------------------------------------------------------------------

    def _around_state(self, run: Callable[..., Awaitable[BaseException | None]]) -> Callable[..., Awaitable[Any]]:
        async def probed(state: Run, activities: Sequence[Activity]) -> BaseException | None:
            what = f"{_machine_of(state.visit.flow)}{state.visit.state}"
            self.meet("state", what, "before")
            trouble = await run(state, activities)
            self.meet("state", what, "after")
            return trouble

        return probed

    def _around_publish(self, publish: Callable[[Feed, Change], None]) -> Callable[..., None]:
        def probed(feed: Feed, change: Change) -> None:
            if change.kind != "event" or change.from_state == change.to_state:
                publish(feed, change)
                return
            what = f"{change.machine}.{change.to_state} told"
            self.meet("state", what, "before")
            publish(feed, change)
            self.meet("state", what, "after")

        return probed

    # --- the files --------------------------------------------------------------------------------------------------

    def _around_files(self) -> None:
        def on_path(
            kind: Kind, function: Callable[..., Any], argument: int, unless: Callable[[Any], bool] = _never
        ) -> Callable[..., Any]:
            def probed(*args: Any, **kwargs: Any) -> Any:
                name = self._name(args[argument])
                if name is None or unless(args[argument]):
                    return function(*args, **kwargs)
                self.meet(kind, name, "before")
                result = function(*args, **kwargs)
                self.meet(kind, name, "after")
                return result

            return probed

        def on_file(kind: Kind, function: Callable[..., Any]) -> Callable[..., Any]:
            def probed(fd: int, *args: Any) -> Any:
                name = self._files.get(fd)
                if name is None:
                    return function(fd, *args)
                self.meet(kind, name, "before")
                result = function(fd, *args)
                self.meet(kind, name, "after")
                return result

            return probed

        opened, closed = os.open, os.close

        def probed_open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            name = self._name(path)
            creates = name is not None and flags & os.O_CREAT
            if creates:
                self.meet("create", cast("str", name), "before")
            fd = opened(path, flags, *args, **kwargs)
            if name is not None:
                self._files[fd] = name
            if creates:
                self.meet("create", cast("str", name), "after")
            return fd

        def probed_close(fd: int) -> None:
            self._files.pop(fd, None)
            closed(fd)

        replace_in(os, "open", probed_open)
        replace_in(os, "close", probed_close)
        replace_in(os, "write", on_file("write", os.write))
        replace_in(os, "fsync", on_file("fsync", os.fsync))
        replace_in(os, "replace", on_path("rename", os.replace, 1))
        replace_in(os, "rename", on_path("rename", os.rename, 1))
        replace_in(os, "link", on_path("rename", os.link, 1))
        replace_in(os, "unlink", on_path("remove", os.unlink, 0))
        replace_in(os, "mkdir", on_path("create", os.mkdir, 0, unless=os.path.lexists))

    def _name(self, path: Any) -> str | None:
        """A file's name under the home directory, its random parts replaced; None for files elsewhere."""
        if not isinstance(path, str | os.PathLike):
            return None
        text = os.fspath(cast("str | os.PathLike[str]", path))
        if text != self._home and not text.startswith(self._home + os.sep):
            return None
        name = text[len(self._home) + 1 :] or "."
        for pattern, instead in _RANDOM:
            name = pattern.sub(instead, name)
        return name


def die() -> NoReturn:
    """Send SIGKILL to this process: nothing is flushed, closed or unlocked."""
    os.kill(os.getpid(), signal.SIGKILL)
    while True:  # the signal may take a moment to arrive
        signal.pause()


def _never(_path: object) -> bool:
    return False


def replace_in(where: object, name: str, instead: object) -> None:
    """Replace an attribute of the product, for the rest of this process's life."""
    setattr(where, name, instead)


def _machine_of(flow: str) -> str:
    _, _, child = flow.rpartition(".")
    return f"{child.rpartition('-')[0]}." if "." in flow else ""


def _commit_name(operation: Callable[[], None]) -> str:
    """The name of what an operation writes, read from its closure or its partial arguments."""
    given = [cell.cell_contents for cell in getattr(operation, "__closure__", None) or ()]
    given += getattr(operation, "args", ())
    record = next((each for each in given if isinstance(each, Record)), None)
    row = next((each for each in given if isinstance(each, FlowRow)), None)
    if row is None:
        return "inbox"
    if record is None:
        return "claim"
    name = record.name.rpartition(":")[2] if record.kind == "intent" else record.name
    return f"{row.machine} {name}" if record.kind in {"event", name} else f"{row.machine} {record.kind} {name}"
