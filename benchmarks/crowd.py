"""Journals with many flows, written by SQLite itself: what they cost to have, not to drive, is measured with them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from systemprompt_cloud.engine.journal.journal import Journal

FIRST: Final = "00aaa"
"""How their ids begin; those of today's flows come after them."""

_FLOWS: Final = """
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :many - 1)
INSERT INTO flows
SELECT :first || printf('%010d', i), 'm', 1, 'f', NULL, NULL, 'a', 1, :records, :status,
    iif(:status = 'ended', 'success', NULL), NULL, '{}', NULL, '2020-01-01T00:00:00.000000Z',
    '2020-01-01T00:00:00.000000Z', NULL
FROM n
"""
_RECORDS: Final = """
WITH RECURSIVE k (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM k WHERE seq < :records)
INSERT INTO events
SELECT flows.id, k.seq, flows.updated, iif(k.seq = 1, 'started', 'event'), 'Happened', '{}', 'a', 'a', 1, NULL
FROM flows JOIN k WHERE flows.id GLOB :first || '*' AND :records
"""


def crowd(path: Path, many: int, *, status: str = "ended", records: int = 2, first: str = FIRST) -> None:
    """Write so many root flows into a journal, each with so many records; the journal is made when there is none.

    Args:
        path: The journal's file.
        many: How many flows.
        status: What they are.
        records: How long the history of each is.
        first: How their ids begin; no flow in the journal has such an id.
    """
    Journal(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in (_FLOWS, _RECORDS):
            connection.execute(statement, {"many": many, "status": status, "records": records, "first": first})
