"""What is asked about one flow, or of all, costs neither the whole past nor the memory to hold it: counted."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from systemprompt_cloud.base.moments import parse_moment
from systemprompt_cloud.engine.fold import check_flow
from systemprompt_cloud.engine.journal.housekeeping import prune
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.reading import PAGE
from systemprompt_cloud.engine.journal.vault import VaultFiles

from benchmarks.crowd import crowd
from tests.support.effort import counted, counted_connections
from tests.support.rows import flow_record

FLOW = "00aaa0000000000"
LATER = parse_moment("2026-01-01T00:00:00.000000Z")


def with_rare_ones(path: Path, records: int) -> None:
    """One flow with so many records of events, then an intent, a refusal and a migration."""
    crowd(path, 1, status="paused", records=records)
    with Journal(path) as journal:
        row = journal.find(FLOW)
        for kind, name in (("intent", "pay"), ("refused", "Packed"), ("migrated", "version 1 to 2")):
            after = msgspec.structs.replace(row, seq=row.seq + 1)
            record = flow_record(FLOW, after.seq, kind=kind, name=name)
            journal.write([partial(journal.advance, row, after, record)])
            row = after


def test_what_is_asked_about_a_flow_does_not_read_its_past(tmp_path: Path) -> None:
    """Ten times the history, and the same work: intents, the first and last record, what was refused, what is new."""
    asked: dict[str, Callable[[Journal], Any]] = {
        "intents": lambda journal: journal.intents(FLOW, 1),
        "first": lambda journal: journal.record(FLOW, 1),
        "last": lambda journal: journal.last_record(FLOW),
        "migrated": lambda journal: journal.migrated(FLOW),
        "refused": lambda journal: journal.refused(FLOW),
        "new": lambda journal: journal.records(FLOW, after=journal.find(FLOW).seq - 2),
    }
    steps: dict[str, list[int]] = {name: [] for name in asked}
    for records in (300, 3000):
        path = tmp_path / str(records) / "journal.sqlite3"
        with_rare_ones(path, records)
        with Journal(path) as journal:
            for name, ask in asked.items():
                with counted(journal) as effort:
                    assert ask(journal)
                steps[name].append(effort.steps)
    assert {name: both for name, both in steps.items() if both[0] != both[1]} == {}


def test_a_history_is_read_in_pages(tmp_path: Path) -> None:
    """As far as it is asked for; the flows of a journal, too."""
    path = tmp_path / "journal.sqlite3"
    crowd(path, 2 * PAGE + 10, records=1)
    with Journal(path) as journal:
        with counted(journal) as effort:
            flows = journal.each_flow()
            assert next(flows).id == f"00aaa{2 * PAGE + 9:010}"
            assert len(effort.statements) == 1
            assert len([*flows]) == 2 * PAGE + 9
            assert len(effort.statements) == 4
        assert [row.id for row in journal.each_flow()] == [row.id for row in journal.flows(limit=10 * PAGE)]
    path = tmp_path / "long" / "journal.sqlite3"
    crowd(path, 1, records=2 * PAGE + 10)
    with Journal(path) as journal, counted(journal) as effort:
        records = journal.each_record(FLOW)
        assert next(records).seq == 1
        assert len(effort.statements) == 1
        assert [*records] == journal.records(FLOW, after=1)
        assert [each.seq for each in journal.each_record(FLOW, last=PAGE + 1)] == [*range(1, PAGE + 2)]


@pytest.mark.parametrize("shape", ["many flows", "a long history"])
def test_checking_holds_no_more_of_a_larger_journal(tmp_path: Path, shape: str) -> None:
    """Memory, as Python counts it, of a journal four times as large."""
    peaks: list[int] = []
    for pages in (3, 12):
        path = tmp_path / str(pages) / "journal.sqlite3"
        if shape == "many flows":
            crowd(path, pages * PAGE, records=1)
        else:
            crowd(path, 1, records=pages * PAGE)
        with Journal(path) as journal:
            tracemalloc.start()
            try:
                assert [problem for row in journal.each_flow() for problem in check_flow(journal, [], row)] == []
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks


def test_pruning_lists_no_vault_and_costs_the_same_for_each_flow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it holds the file it looks for the secrets of the flows it removes, and for no others."""
    costs: list[float] = []
    for many in (500, 2000):
        path = tmp_path / str(many) / "journal.sqlite3"
        crowd(path, many)
        vault = VaultFiles(path.parent / "vault")
        for flow in (FLOW, "running"):
            vault.put(flow, "token", "opaque-value")

        def refuse(*_: object) -> None:
            raise AssertionError("the vault was listed")

        with Journal(path) as journal, monkeypatch.context() as patched, counted_connections() as effort:
            patched.setattr(Path, "glob", refuse)
            patched.setattr(Path, "iterdir", refuse)
            assert prune(journal, vault, LATER).flows == many
        assert [vault.has(flow, "vault:token") for flow in (FLOW, "running")] == [False, True]
        costs.append(effort.steps / many)
    assert costs[1] < 1.2 * costs[0], costs
