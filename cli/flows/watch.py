"""`flows watch`: follow the flows that other processes drive.

It only reads the journal, ten times a second; no engine is opened.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from ...base.errors import EXIT_DONE, EXIT_FAILED, EXIT_PENDING
from ...base.texts import with_cause
from ..screen.terminal import clean, put, put_json, say, shortened
from ..shared.names import CLI
from ..shared.parameters import Command
from ..shared.settings import Settings, settings_of
from .flows import open_journal, optional_id
from .status import as_json, driver_of, resume_of, way_on_of

if TYPE_CHECKING:
    from ...engine.history import Change
    from ...engine.journal.journal import Journal
    from ...engine.journal.records import FlowRow

TICK_SECONDS = 0.1


class Watched:
    """The flows of a journal, and how much of each has been shown.

    Args:
        journal: The journal.
        root: The flow to watch with its child flows; None for all flows, from now on.
    """

    def __init__(self, journal: Journal, root: str | None) -> None:
        self._journal = journal
        self._root = root
        self._seen: dict[str, int] = {}
        self._newest = 0
        if root is None:
            self._newest = journal.newest()
            self._seen = {row.id: row.seq for row in self._unfinished()}

    def news(self) -> list[Change]:
        """Every change since the last time, in the order they were written."""
        from ...engine.history import Change

        found: list[Change] = []
        for row in self._rows():
            seen = self._seen.get(row.id, 0)
            if row.seq > seen:
                records = self._journal.records(row.id, after=seen)
                found += [Change.of(row.machine, record) for record in records if record.seq <= row.seq]
                self._seen[row.id] = row.seq
            elif self._root is None and row.status == "ended":
                del self._seen[row.id]
        return sorted(found, key=lambda change: change.at)

    def _rows(self) -> Iterator[FlowRow]:
        if self._root is not None:
            if (row := self._journal.flow(self._root)) is not None:
                yield from self._journal.family(row)
            return
        rows = {row.id: row for row in self._unfinished()}
        # What began and ended between two looks, and what has ended since the last one.
        newest = self._journal.newest()
        rows |= {row.id: row for row in self._journal.flows(after=self._newest, limit=sys.maxsize)}
        self._newest = newest
        for flow in self._seen.keys() - rows.keys():
            if (row := self._journal.flow(flow)) is not None:
                rows[flow] = row
        yield from rows.values()

    def _unfinished(self) -> list[FlowRow]:
        from ...engine.journal.records import UNFINISHED

        return self._journal.flows(statuses=UNFINISHED, limit=sys.maxsize)


@click.command(cls=Command, epilog=f"Example: {CLI} flows watch 01jq")
@optional_id("The flow; without it all, from now on.")
@click.pass_context
def watch(context: click.Context, flow: str | None) -> None:
    """Show what happens to flows that other processes drive.

    With an ID: what happened so far, then what happens, until it has ended (with its exit code) or no process drives it
    any more (8). Without: until Ctrl-C.
    """
    settings = settings_of(context)
    with open_journal(settings) as journal:
        root = None if flow is None else journal.find(flow).id
        watched = Watched(journal, root)
        if root is None:
            say(f"Watching {journal.path}; Ctrl-C ends it.")
        while True:
            row = None if root is None else journal.flow(root)
            idle = row is not None and row.status != "ended" and not driver_of(settings, row)
            for change in watched.news():
                _show(settings, change)
            if root is not None and (row is None or idle or row.status == "ended"):
                break
            time.sleep(TICK_SECONDS)
        if row is not None:
            raise click.exceptions.Exit(_tell_end(settings, journal.family(row)))


def _show(settings: Settings, change: Change) -> None:
    if settings.json:
        from ..screen.lines import put_change

        put_change(change)
        return
    put(clean(f"{change.at[11:19]}  {shortened(change.flow)}  {_words(change)}"))


def _words(change: Change) -> str:
    from ..screen.render import place
    from .history import TROUBLES

    where = place(change.machine, change.to_state)
    match change.kind:
        case "started" if change.event == "queued":
            return f"{change.machine} queued until {change.deadline or 'its turn'}, {where}"
        case "begun":
            return f"{change.machine} begins, {where}"
        case "started":
            return f"{change.machine} started, {where}"
        case "resumed":
            return f"{change.machine} resumed, {where}"
        case "paused":
            return f"{change.machine} stopped at {where}; {change.message}"
        case "intent":
            return f"outward effect announced: {change.event.rpartition(':')[2]}"
        case _:
            trouble = TROUBLES.get(change.event, "")
            message = with_cause(trouble or change.event, (trouble and change.brief) or change.message)
            return message if change.from_state == change.to_state else f"{message} -> {where}"


def _tell_end(settings: Settings, family: Sequence[FlowRow]) -> int:
    """The last line and the exit code, as the flow's own process gives them."""
    row = family[0]
    if row.status == "ended":
        from ...engine.history import outcome_of
        from ..run.drive import code_of
        from ..screen.render import MACHINES

        if settings.json:
            put_json(as_json(settings, row))
        machine = MACHINES.get(row.machine)
        try:
            if machine is not None:
                return code_of(outcome_of(machine, row, machine.decode_context(row.context)), family)
        except msgspec.DecodeError as exc:
            say(f"What the flow knew cannot be read: {clean(str(exc))}")
        return EXIT_DONE if row.verdict == "success" else EXIT_FAILED
    if settings.json:
        put_json(as_json(settings, row) | {"resume": resume_of(settings, row)})
    else:
        say(f"No process drives it any more; it is in {row.state}.")
        say(way_on_of(settings, row))
    return EXIT_PENDING
