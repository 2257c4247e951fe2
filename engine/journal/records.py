"""What the journal's tables hold: the schema, and one record type for each table's rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from ..machine.stored import decoded

SCHEMA_VERSION: Final = 3
APPLICATION_ID: Final = 0x53504331  # "SPC1"

IDENTITY: Final = "CREATE TABLE identity (id TEXT NOT NULL) STRICT"
NEW_IDENTITY: Final = "INSERT INTO identity VALUES (lower(hex(randomblob(16))))"
"""What tells one journal from another, wherever it is moved; a copy is another journal."""

SCHEMA: Final = f"""
CREATE TABLE flows (
    id TEXT PRIMARY KEY,
    machine TEXT NOT NULL,
    version INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    key TEXT,
    parent TEXT,
    state TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'paused', 'ended', 'queued', 'resting')),
    verdict TEXT,
    deadline TEXT,
    context TEXT NOT NULL,
    trouble TEXT,
    created TEXT NOT NULL,
    updated TEXT NOT NULL,
    owner TEXT
) STRICT;
CREATE UNIQUE INDEX flows_by_key ON flows (machine, key) WHERE key IS NOT NULL AND status <> 'ended';
CREATE INDEX flows_by_parent ON flows (parent) WHERE parent IS NOT NULL;
CREATE INDEX flows_unfinished_by_parent ON flows (parent) WHERE parent IS NOT NULL AND status <> 'ended';
CREATE INDEX flows_by_machine ON flows (machine);
CREATE INDEX flows_unfinished ON flows (status) WHERE status <> 'ended';
CREATE INDEX flows_with_key ON flows (machine, key) WHERE key IS NOT NULL;
CREATE INDEX flows_resting ON flows (machine, deadline) WHERE status = 'resting';
CREATE TABLE events (
    flow TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('started', 'event', 'intent', 'paused', 'resumed',
        'migrated', 'abandoned', 'refused', 'retried', 'begun')),
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    "from" TEXT NOT NULL,
    "to" TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    deadline TEXT,
    PRIMARY KEY (flow, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_rare ON events (flow, kind, incarnation) WHERE kind NOT IN ('event', 'started', 'resumed');
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    flow TEXT NOT NULL,
    at TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX inbox_by_flow ON inbox (flow, id);
{IDENTITY};
{NEW_IDENTITY};
"""

KEPT_AT_MOST: Final = 100
"""Events that wait in the inbox of one flow; the next one is refused."""
CANCEL: Final = "CancelRequested"
"""The event that ends a flow: it always has a place in the inbox."""

QUEUED: Final = "queued"
"""The status of a flow that has not begun, and the name of its first record."""

RESTING: Final = "resting"
"""The status of a flow that only waits and that no process drives: it is woken by its deadline or by an event."""

Status = Literal["running", "paused", "ended", "queued", "resting"]
UNFINISHED: Final[tuple[Status, ...]] = ("running", "paused", "queued", "resting")
"""Every status but that of a flow that has ended."""
Kind = Literal[
    "started", "event", "intent", "paused", "resumed", "migrated", "abandoned", "refused", "retried", "begun"
]


class FlowRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A flow as the journal caches it; `context` and `trouble` are JSON, moments are RFC 3339 in UTC."""

    id: str
    machine: str
    version: int
    fingerprint: str
    key: str | None
    parent: str | None
    state: str
    incarnation: int
    seq: int
    status: Status
    verdict: str | None
    deadline: str | None
    context: str
    trouble: str | None
    created: str
    updated: str
    owner: str | None


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of a flow's history.

    Attributes:
        kind: `started` (the body is the context; the name is `queued` where the flow does not begin at once, and then
            the deadline is the moment before which it does not), `begun` (such a flow begins), `event` (the body is the
            event), `intent` (an outward effect is about to happen; the name is its idempotency key), `paused` (the body
            is the trouble, with the keys of intents whose effect did not happen as `withdrawn`), `resumed`, `migrated`
            (another version of the machine took the flow over; the body has that version and the context in its terms),
            `abandoned` (ended without its machine, which is not known any more), `refused` (an event from the inbox
            that the flow could not take; the name is the event's, the body says why), `retried` (an activity failed and
            is tried again; the name is the activity's, the body says when, with `withdrawn` as above).
        at: RFC 3339, UTC.
        body: JSON.
        incarnation: The number of the visit after it.
        deadline: When that visit runs out (RFC 3339), or None.
    """

    flow: str
    seq: int
    at: str
    kind: Kind
    name: str
    body: str
    from_state: str
    to_state: str
    incarnation: int
    deadline: str | None


def record_between(before: FlowRow, after: FlowRow, kind: Kind, name: str, body: str) -> Record:
    """The record that leads from one row of a flow to the next; see `Record`."""
    return Record(
        flow=before.id,
        seq=after.seq,
        at=after.updated,
        kind=kind,
        name=name,
        body=body,
        from_state=before.state,
        to_state=after.state,
        incarnation=after.incarnation,
        deadline=after.deadline,
    )


class _Withdrawals(msgspec.Struct, frozen=True):
    withdrawn: frozenset[str] = frozenset()


_WITHDRAWALS: Final = msgspec.json.Decoder(_Withdrawals)


def open_intents(records: Iterable[Record]) -> frozenset[str]:
    """The idempotency keys announced in the records of one visit, and not withdrawn since.

    Raises:
        msgspec.DecodeError: The body of a `paused` or `retried` record cannot be read.
    """
    found: set[str] = set()
    for record in records:
        if record.kind == "intent":
            found.add(record.name)
        elif record.kind in {"paused", "retried"}:
            found -= decoded(_WITHDRAWALS, record.body).withdrawn
    return frozenset(found)


class Signal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event another process sent to a flow."""

    id: int
    flow: str
    at: str
    name: str
    body: str
