"""A flow as a document: its state, its context and its whole history, for people and programs.

The document is made to leave this computer (a bug report, an audit), so it holds no secret: the journal keeps only
references to them, and every text passes the redactor besides, with the values in the flow's vault made known to it
first. Bodies are JSON inside it, not JSON in a string, so `jq` can look into them. A body that is damaged is there as
`{"damaged": "what is stored"}`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, cast

import msgspec

from ..base.errors import CloudError
from ..base.moments import moment_text
from ..base.redaction import REDACTED, redact
from .journal.journal import Journal
from .journal.records import FlowRow, Record
from .journal.vault import PREFIX, VaultFiles
from .machine.stored import plain, readable

FORMAT: Final = "systemprompt-cloud flow 1"


_REFERENCE: Final = re.compile(re.escape(PREFIX) + r"[A-Za-z0-9._-]+")


class _Damaged(NamedTuple):
    """A stored text that is no JSON."""

    text: str


class ExportedRecord(msgspec.Struct, frozen=True, kw_only=True, rename={"from_state": "from", "to_state": "to"}):
    """A line of a flow's history; see `engine.journal.records.Record`."""

    seq: int
    at: str
    kind: str
    name: str
    body: Any
    from_state: str
    to_state: str
    incarnation: int
    deadline: str | None


class ExportedFlow(msgspec.Struct, frozen=True, kw_only=True):
    """A flow and its history; see `engine.journal.records.FlowRow`."""

    id: str
    machine: str
    version: int
    fingerprint: str
    key: str | None
    parent: str | None
    state: str
    incarnation: int
    seq: int
    status: str
    verdict: str | None
    deadline: str | None
    context: Any
    trouble: Any
    created: str
    updated: str
    records: list[ExportedRecord]


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """The document: a flow, and then the flows inside it.

    Attributes:
        format: `FORMAT`; another number after another change of the document's shape.
        exported: When (RFC 3339, UTC).
        flows: The flow that was asked for first, each parent before its children.
    """

    format: str
    exported: str
    flows: list[ExportedFlow]


def export_flow(journal: Journal, vault: VaultFiles, flow: str, now: datetime) -> Export:
    """A flow and every flow inside it, without secrets.

    Args:
        journal: Where it is.
        vault: Where its secrets are, so that they can be left out by value, too.
        flow: Its id, or a beginning of it that fits no other.
        now: The moment, for the document.

    Raises:
        FlowNotFound: There is none, or several.
        JournalError: The journal cannot be read.
    """
    found = [(row, journal.records(row.id)) for row in journal.family(journal.find(flow))]
    return document_of(found, vault, now)


def document_of(found: Sequence[tuple[FlowRow, Sequence[Record]]], vault: VaultFiles, now: datetime) -> Export:
    """The document of flows with their histories, the one that was asked for first.

    Args:
        found: Each flow, and its records; some may have been written after the flow was read.
        vault: Where their secrets are, so that they can be left out by value, too.
        now: The moment, for the document.
    """
    flows = [(row, [record for record in records if record.seq <= row.seq]) for row, records in found]
    for row, records in flows:
        for body in (row.context, *(record.body for record in records)):
            _make_known(vault, row.id, _read(body))
    return Export(format=FORMAT, exported=moment_text(now), flows=[_exported(row, records) for row, records in flows])


def _exported(row: FlowRow, records: list[Record]) -> ExportedFlow:
    fields = msgspec.structs.asdict(row)
    del fields["owner"]  # which process drove it says nothing elsewhere
    fields["context"] = _without_secrets(_read(row.context))
    fields["trouble"] = None if row.trouble is None else _without_secrets(_read(row.trouble))
    fields["key"] = None if row.key is None else redact(row.key)
    return ExportedFlow(**fields, records=[_exported_record(record) for record in records])


def _exported_record(record: Record) -> ExportedRecord:
    fields = msgspec.structs.asdict(record)
    del fields["flow"]
    fields["body"] = _without_secrets(_read(record.body))
    return ExportedRecord(**fields)


def _read(body: str) -> Any:
    try:
        return plain(body)
    except msgspec.DecodeError:
        return _Damaged(readable(body))


def _without_secrets(value: Any, name: str = "") -> Any:
    match value:
        case _Damaged():
            return {"damaged": redact(value.text)}
        case str():
            if value and not value.startswith(PREFIX) and _names_a_secret(name):
                return REDACTED
            return redact(value)
        case dict():
            members = cast("dict[str, Any]", value)
            return {key: _without_secrets(member, key) for key, member in members.items()}
        case list():
            return [_without_secrets(member, name) for member in cast("list[Any]", value)]
        case _:
            return value


@functools.cache
def _names_a_secret(name: str) -> bool:
    # The redactor decides, so that there is one list of such names.
    return REDACTED in redact(f'"{name}": "x"')


def _make_known(vault: VaultFiles, flow: str, value: Any) -> None:
    """Look up every secret the value refers to: the vault registers it with the redactor."""
    match value:
        case _Damaged():
            for reference in _REFERENCE.findall(value.text):
                _make_known(vault, flow, reference)
        case str() if value.startswith(PREFIX):
            try:
                vault.has(flow, value)
            except CloudError:
                return  # the document has only the reference, which is no secret
        case dict():
            for member in cast("dict[str, Any]", value).values():
                _make_known(vault, flow, member)
        case list():
            for member in cast("list[Any]", value):
                _make_known(vault, flow, member)
        case _:
            pass
