"""Looking into a journal: flows, records, signals.

Flows are ordered by the number of their row, the order in which they were started; ids and times are of clocks, which
may be set back. New rows have higher numbers than all there are, and VACUUM keeps their order.
"""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from ..errors import FlowNotFound, JournalCorrupted
from ..machine.stored import readable
from .check import explain
from .file import Held
from .records import FlowRow, Record, Signal, Status, open_intents
from .selecting import FlowFilter, queries

FLOW_COLUMNS: Final = ", ".join(FlowRow.__struct_fields__)
RECORD_COLUMNS: Final = 'flow, seq, at, kind, name, body, "from", "to", incarnation, deadline'

_RESTING: Final = "INDEXED BY flows_resting WHERE status = 'resting'"

PAGE: Final = 500
"""Rows that are held at once where all of a journal, or of a flow, is read."""
MAX_SEQ: Final = 2**62
"""Above the number of any record, and of any flow."""
RARE: Final = "INDEXED BY events_rare WHERE kind NOT IN ('event', 'started', 'resumed')"
"""The records of rare kinds, by the index that has no others: SQLite would go through the flow's whole history."""

_BODIES: Final = frozenset({"body", "context", "trouble"})


def _damaged_text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _shown(name: str, value: object) -> object:
    # JSON that is damaged must not be taken for other JSON, so its bytes stay apart; names are only shown.
    return value if name in _BODIES or not isinstance(value, str) else readable(value)


def _flow(values: Sequence[Any]) -> FlowRow:
    return FlowRow(**dict(zip(FlowRow.__struct_fields__, values, strict=True)))


class Reading:
    """The part of an open journal that only looks.

    Attributes:
        path: The file.
    """

    path: Path
    _held: Held
    _reader: sqlite3.Connection

    @cached_property
    def identity(self) -> str | None:
        """What tells this journal from others, wherever it is moved; None for one that was made without."""
        if not self._read("SELECT 1 FROM sqlite_schema WHERE name = 'identity'", ()):
            return None
        found = self._read("SELECT id FROM identity", ())
        return str(found[0][0]) if found else None

    def flow(self, flow: str) -> FlowRow | None:
        """The flow with exactly this id."""
        return self._one("WHERE id = ?", (flow,))

    def find(self, prefix: str) -> FlowRow:
        """The flow whose id is, or begins with, `prefix`; a flow goes before its own children.

        Raises:
            FlowNotFound: None does, or several do.
        """
        if exact := self.flow(prefix):
            return exact
        rows = self._rows("WHERE id >= ? AND id < ? ORDER BY id LIMIT 50", (prefix, prefix + "\U0010ffff"))
        roots = [row for row in rows if row.parent is None] or rows
        if not prefix or not roots:
            raise FlowNotFound(f"no flow has the id {prefix!r} in {self.path}")
        if len(roots) > 1:
            raise FlowNotFound(f"{prefix!r} fits {len(roots)} flows: {', '.join(row.id for row in roots[:5])}")
        return roots[0]

    def flows(
        self,
        *,
        statuses: Sequence[Status] = (),
        machine: str | None = None,
        roots_only: bool = False,
        after: int = 0,
        limit: int = 20,
    ) -> list[FlowRow]:
        """Flows, the newest first; those started after one of a number (`newest`) when it is given."""
        clauses = ["1"]
        values: list[object] = []
        unfinished = bool(statuses) and "ended" not in statuses
        if statuses:
            clauses.append(f"status IN ({', '.join('?' * len(statuses))})")
            values += statuses
            if unfinished:
                # Said twice, because only in this form SQLite sees that its index of the unfinished is enough.
                clauses.append("status <> 'ended'")
        if machine is not None:
            # The plus keeps SQLite from its index of machines, which has all that ended.
            clauses.append("+machine = ?" if unfinished else "machine = ?")
            values.append(machine)
        if roots_only:
            clauses.append("parent IS NULL")
        if after:
            clauses.append("rowid > ?")
            values.append(after)
        return self._rows(f"WHERE {' AND '.join(clauses)} ORDER BY rowid DESC LIMIT ?", (*values, limit))

    def newest(self) -> int:
        """The number of the flow that was started last; 0 when there is none."""
        return int(self._read("SELECT coalesce(max(rowid), 0) FROM flows", ())[0][0])

    def statuses(self, flows: Sequence[str]) -> dict[str, Status]:
        """The status of each of these flows; of those that are not there, nothing."""
        sql = "SELECT id, status FROM flows WHERE id IN (SELECT value FROM json_each(?))"
        return dict(self._read(sql, (msgspec.json.encode(flows).decode(),)))

    def unfinished_ids(self) -> list[str]:
        """The ids of the flows that have not ended."""
        return [row[0] for row in self._read("SELECT id FROM flows WHERE status <> 'ended'", ())]

    def select(self, wanted: FlowFilter) -> list[FlowRow]:
        """The flows that are wanted, the newest first.

        Raises:
            FlowNotFound: There is no flow that the page is to come before.
        """
        if wanted.key is not None and not wanted.machines and not isinstance(wanted.parent, str):
            wanted = msgspec.structs.replace(wanted, machines=self.machines())  # every index of keys begins with them
            if not wanted.machines:
                return []
        before = None if wanted.before is None else self._number(wanted.before)
        sql = f"SELECT rowid, {FLOW_COLUMNS} FROM flows"  # noqa: S608 our own names
        parts = [self._read(f"{sql} {where}", values) for where, values in queries(wanted, before)]
        merged = heapq.merge(*parts, key=lambda values: int(values[0]), reverse=True)
        return [_flow(values) for _, *values in itertools.islice(merged, wanted.limit)]

    def _number(self, flow: str) -> int:
        """The number of a flow's row. Raises `FlowNotFound`."""
        found = self._read("SELECT rowid FROM flows WHERE id = ?", (flow,))
        if not found:
            raise FlowNotFound(f"no flow has the id {flow!r} in {self.path}")
        return int(found[0][0])

    def machines(self) -> list[str]:
        """The names of the machines that flows are stored under; one look into their index for each."""
        names = """
            WITH RECURSIVE names (name) AS (
                SELECT min(machine) FROM flows
                UNION ALL
                SELECT (SELECT min(machine) FROM flows WHERE machine > name) FROM names WHERE name IS NOT NULL
            )
            SELECT name FROM names WHERE name IS NOT NULL
        """
        return [name for (name,) in self._read(names, ())]

    def data_version(self) -> int:
        """A number that differs from the last one if anything was written since, by whoever it was."""
        ((version,),) = self._read("PRAGMA data_version", ())
        return int(version)

    def unfinished_with_key(self, machine: str, key: str) -> FlowRow | None:
        """The one flow of this machine and key that has not ended."""
        return self._one("WHERE machine = ? AND key = ? AND status <> 'ended'", (machine, key))

    def newest_with_key(self, machine: str, key: str) -> FlowRow | None:
        """The flow of this machine and key that was started last, whether or not it has ended."""
        return self._one("WHERE machine = ? AND key = ? ORDER BY rowid DESC LIMIT 1", (machine, key))

    def children(self, flow: str) -> list[FlowRow]:
        """The child flows of a flow, the oldest first."""
        return self._rows("WHERE parent = ? ORDER BY rowid", (flow,))

    def unfinished_children(self, flow: str) -> list[FlowRow]:
        """The child flows of a flow that have not ended, the oldest first; those that have are not looked at."""
        return self._rows("WHERE parent = ? AND status <> 'ended' ORDER BY rowid", (flow,))

    def family(self, row: FlowRow) -> list[FlowRow]:
        """A flow and every flow that runs inside it, parents before their children."""
        found: list[FlowRow] = []
        left = [row]
        while left:
            found.append(left.pop())
            left += reversed(self.children(found[-1].id))
        return found

    def orphans(self) -> list[FlowRow]:
        """The unfinished children of flows that have ended: a process died between the one end and the other."""
        ended = "(SELECT 1 FROM flows AS p WHERE p.id = flows.parent AND p.status = 'ended')"
        # In the order of the index of unfinished children; by number, every flow there ever was would be looked at.
        order = "ORDER BY parent, rowid"
        return self._rows(f"WHERE parent IS NOT NULL AND status <> 'ended' AND EXISTS {ended} {order}", ())

    def begun(self) -> list[str]:
        """The ids of all flows, in the order they were written first."""
        return [flow for (flow,) in self._read("SELECT id FROM flows ORDER BY rowid", ())]

    def each_flow(self) -> Iterator[FlowRow]:
        """Every flow, the newest first, read as they are asked for: however many there are, few are held."""
        before = MAX_SEQ
        sql = f"SELECT rowid, {FLOW_COLUMNS} FROM flows WHERE rowid < ? ORDER BY rowid DESC LIMIT ?"  # noqa: S608 our own names
        while rows := self._read(sql, (before, PAGE)):
            for _, *values in rows:
                yield _flow(values)
            before = rows[-1][0]

    def records(self, flow: str, *, after: int = 0, limit: int | None = None) -> list[Record]:
        """A flow's history, in order: what is numbered above `after`, and at most `limit` of it."""
        most = -1 if limit is None else limit
        return self._records("WHERE flow = ? AND seq > ? ORDER BY seq LIMIT ?", (flow, after, most))

    def each_record(self, flow: str, *, after: int = 0, last: int | None = None) -> Iterator[Record]:
        """A flow's history, in order, read as it is asked for.

        Args:
            flow: Its id.
            after: The number of the last record that is not wanted.
            last: The number of the last record; all there are when not given.
        """
        end = MAX_SEQ if last is None else last
        while page := self._records(
            "WHERE flow = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?", (flow, after, end, PAGE)
        ):
            yield from page
            after = page[-1].seq

    def record(self, flow: str, seq: int) -> Record | None:
        """One record of a flow."""
        return next(iter(self._records("WHERE flow = ? AND seq = ?", (flow, seq))), None)

    def last_record(self, flow: str) -> Record | None:
        """The newest record of a flow."""
        return next(iter(self._records("WHERE flow = ? ORDER BY seq DESC LIMIT 1", (flow,))), None)

    def migrated(self, flow: str, *, last: int = MAX_SEQ) -> int:
        """The number of the newest record, up to `last`, by which the flow became one of another table; 0 for none."""
        where = f"{RARE} AND flow = ? AND kind = 'migrated' AND seq <= ?"
        sql = f"SELECT coalesce(max(seq), 0) FROM events {where}"  # noqa: S608 our own words
        return int(self._read(sql, (flow, last))[0][0])

    def refused(self, flow: str) -> list[Record]:
        """The events from its inbox that a flow could not take, in order."""
        return self._records(f"{RARE} AND flow = ? AND kind = 'refused' ORDER BY incarnation, seq", (flow,))

    def intents(self, flow: str, incarnation: int) -> frozenset[str]:
        """The idempotency keys announced during one visit of a state, and not withdrawn since.

        Raises:
            JournalCorrupted: A record of the visit cannot be read.
        """
        where = f"{RARE} AND flow = ? AND incarnation = ? AND kind IN ('intent', 'paused', 'retried') ORDER BY seq"
        try:
            return open_intents(self._records(where, (flow, incarnation)))
        except msgspec.DecodeError as exc:
            raise JournalCorrupted(f"flow {flow}: why it is paused cannot be read in {self.path}: {exc}") from exc

    def failures(self, flow: str, incarnation: int) -> list[Record]:
        """What became of failed activities in one visit of a state: its records of kind `retried` and `paused`."""
        where = f"{RARE} AND flow = ? AND incarnation = ? AND kind IN ('retried', 'paused') ORDER BY seq"
        return self._records(where, (flow, incarnation))

    def signals(self, flow: str | None = None) -> list[Signal]:
        """The signals a flow has not taken, the oldest first; of every flow when none is given."""
        if flow is None:
            return self._signals("ORDER BY id", ())
        return self._signals("WHERE flow = ? ORDER BY id", (flow,))

    def due(self, machines: Iterable[str], until: str, limit: int) -> list[FlowRow]:
        """Resting flows of some machines whose deadline has passed at a moment, the earliest first."""
        where = f"{_RESTING} AND machine = ? AND deadline <= ? ORDER BY deadline LIMIT ?"
        found = [row for machine in machines for row in self._rows(where, (machine, until, limit))]
        return sorted(found, key=lambda row: row.deadline or "")[:limit]

    def next_due(self, machines: Iterable[str], after: str) -> str | None:
        """The earliest deadline above `after` of the flows of some machines that rest."""
        sql = f"SELECT min(deadline) FROM flows {_RESTING} AND machine = ? AND deadline > ?"  # noqa: S608 our own words
        found = (self._read(sql, (machine, after))[0][0] for machine in machines)
        return min((deadline for deadline in found if deadline is not None), default=None)

    def signals_to_resting(self, machines: Iterable[str], after: int) -> list[Signal]:
        """Signals to resting flows of some machines, numbered above `after`, the oldest first; a thousand at most."""
        named = tuple(machines)
        among = ", ".join("?" * len(named))
        theirs = f"SELECT 1 FROM flows f WHERE f.id = inbox.flow AND f.status = 'resting' AND f.machine IN ({among})"  # noqa: S608 marks only
        return self._signals(f"WHERE id > ? AND EXISTS ({theirs}) ORDER BY id LIMIT 1000", (after, *named))

    def newest_signal(self) -> int:
        """The number of the newest signal that waits; 0 when none does."""
        return int(self._read("SELECT coalesce(max(id), 0) FROM inbox", ())[0][0])

    def signals_for(self, owner: str, after: int) -> list[Signal]:
        """Signals to flows an owner drives, with a number above `after`, the oldest first; a thousand at most."""
        theirs = "SELECT 1 FROM flows f WHERE f.id = inbox.flow AND f.owner = ?"
        return self._signals(f"WHERE id > ? AND EXISTS ({theirs}) ORDER BY id LIMIT 1000", (after, owner))

    def integrity_problems(self) -> list[str]:
        """What SQLite's own check finds wrong with the file; empty when nothing is."""
        found = [str(row[0]) for row in self._read("PRAGMA integrity_check", ())]
        return [] if found == ["ok"] else found

    def _read(self, sql: str, values: Sequence[object] | Mapping[str, object]) -> list[tuple[Any, ...]]:
        try:
            try:
                return self._reader.execute(sql, values).fetchall()
            except sqlite3.OperationalError as exc:
                if getattr(exc, "sqlite_errorcode", None) is not None:  # Python's own have none: a text is no UTF-8
                    raise
                return self._read_damaged(sql, values)
        except sqlite3.Error as exc:
            raise explain(self._held, exc, "read") from exc

    def _read_damaged(self, sql: str, values: Sequence[object] | Mapping[str, object]) -> list[tuple[Any, ...]]:
        """What `_read` returns, where a text is none: a flow with such a record can be shown and ended all the same."""
        self._reader.text_factory = _damaged_text
        try:
            cursor = self._reader.execute(sql, values)
            names = [column[0] for column in cursor.description]
            return [tuple(map(_shown, names, row)) for row in cursor.fetchall()]
        finally:
            self._reader.text_factory = str

    def _signals(self, where: str, values: Sequence[object]) -> list[Signal]:
        rows = self._read(f"SELECT id, flow, at, name, body FROM inbox {where}", values)  # noqa: S608 our own words
        return [Signal(**dict(zip(Signal.__struct_fields__, row, strict=True))) for row in rows]

    def _rows(self, where: str, values: Sequence[object]) -> list[FlowRow]:
        rows = self._read(f"SELECT {FLOW_COLUMNS} FROM flows {where}", values)  # noqa: S608 our own names
        return [_flow(row) for row in rows]

    def _records(self, where: str, values: Sequence[object]) -> list[Record]:
        rows = self._read(f"SELECT {RECORD_COLUMNS} FROM events {where}", values)  # noqa: S608 our own names
        return [Record(**dict(zip(Record.__struct_fields__, row, strict=True))) for row in rows]

    def _one(self, where: str, values: Sequence[object]) -> FlowRow | None:
        return next(iter(self._rows(where, values)), None)
