"""A flow as a document that may leave this computer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from systemprompt_cloud.engine.errors import FlowNotFound
from systemprompt_cloud.engine.export import FORMAT, Export, export_flow
from systemprompt_cloud.engine.fold import fold
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import Record
from systemprompt_cloud.engine.journal.vault import VaultFiles
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.flows.onboarding import start_onboarding
from systemprompt_cloud.machines.login import LOGIN
from systemprompt_cloud.machines.onboarding import ONBOARDING

from tests.support.rehearsal import interrupt_after, open_rehearsal
from tests.support.rows import flow_record, flow_row

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_whole_run_is_exported_without_a_secret(tmp_path: Path) -> None:
    """Interrupted during the login, with a full vault: no value of it is in the document, and the histories fold."""
    async with open_rehearsal(tmp_path) as rehearsal:
        async with rehearsal.open_engine() as engine:
            await interrupt_after(engine, lambda engine: start_onboarding(engine, rehearsal.onboarding()), 9)
        vault = VaultFiles(rehearsal.paths.vault)
        secrets = {value for path in vault.directory.glob("*.json") for value in json.loads(path.read_text()).values()}
        assert secrets
        with Journal(rehearsal.paths.journal) as journal:
            (row,) = journal.flows(roots_only=True)
            document = export_flow(journal, vault, row.id[:12], NOW)
            data = msgspec.json.encode(document)
            for flow in document.flows:
                stored = journal.flow(flow.id)
                assert stored is not None
                assert (flow.state, flow.seq, len(flow.records)) == (stored.state, stored.seq, stored.seq)
        assert not [secret for secret in secrets if secret.encode() in data]
        assert msgspec.json.decode(data, type=Export) == document
        assert (document.format, document.exported[:10]) == (FORMAT, "2026-01-01")
        assert [flow.machine for flow in document.flows] == ["onboarding", "login"]
        machines: list[Machine[Any]] = [ONBOARDING, LOGIN]
        for flow, machine in zip(document.flows, machines, strict=True):
            records = [
                Record(
                    flow=flow.id,
                    body=msgspec.json.encode(record.body).decode(),
                    **{n: getattr(record, n) for n in record.__struct_fields__ if n != "body"},
                )
                for record in flow.records
            ]
            assert fold(machine, records).state == flow.state


def test_whatever_came_into_the_journal_passes_the_redactor(tmp_path: Path) -> None:
    """By name and by shape; references and ordinary words stay."""
    with Journal(tmp_path / "home" / "journal.sqlite3") as journal:
        body = json.dumps(
            {
                "token": 'a "quoted" \\ one',
                "nonce": "vault:nonce",
                "message": "see postgresql://user:pw@host/db and Bearer abcdef123",
                "deep": [{"api_secret": "hush-hush"}, 3, None],
                "state": "awaiting",
            }
        )
        row, record = flow_row("f", status="paused", context=body), flow_record("f", body=body)
        journal.write([lambda: journal.begin(row, record)])
        (flow,) = export_flow(journal, VaultFiles(tmp_path / "vault"), row.id, NOW).flows
    assert flow.context == flow.records[0].body
    assert flow.context == {
        "token": "***",
        "nonce": "vault:nonce",
        "message": "see postgresql://*** and Bearer ***",
        "deep": [{"api_secret": "***"}, 3, None],
        "state": "awaiting",
    }


def test_no_such_flow(tmp_path: Path) -> None:
    """It says so."""
    with Journal(tmp_path / "home" / "journal.sqlite3") as journal, pytest.raises(FlowNotFound):
        export_flow(journal, VaultFiles(tmp_path), "nothing", NOW)
