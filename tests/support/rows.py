"""Rows and records for tests that write a journal without an engine: a flow that has just begun, but for what is named.

A journal is driven by the engine everywhere else; here a test says itself what stands in it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import FlowRow, Record

BEGAN: Final = "2026-01-01T00:00:00.000000Z"
"""When the flows of these rows began."""


def flow_row(flow: str, **changes: Any) -> FlowRow:
    """The row of a flow that has just begun and that nobody drives, with these fields changed."""
    fresh = FlowRow(
        id=flow, machine="m", version=1, fingerprint="f", key=None, parent=None, state="a", incarnation=1, seq=1,
        status="running", verdict=None, deadline=None, context="{}", trouble=None, created=BEGAN, updated=BEGAN,
        owner=None,
    )  # fmt: skip
    return msgspec.structs.replace(fresh, **changes)


def flow_record(flow: str, seq: int = 1, **changes: Any) -> Record:
    """A flow's first record, or a later one of an event, with these fields changed."""
    fresh = Record(
        flow=flow, seq=seq, at=BEGAN, kind="started" if seq == 1 else "event", name="started", body="{}",
        from_state="a", to_state="a", incarnation=1, deadline=None,
    )  # fmt: skip
    return msgspec.structs.replace(fresh, **changes)


def begin_flow(journal: Journal, flow: str, **changes: Any) -> None:
    """Write a new flow whose row has these fields changed."""
    journal.write([partial(journal.begin, flow_row(flow, **changes), flow_record(flow))])
