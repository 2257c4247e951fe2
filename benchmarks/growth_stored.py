"""The work of `growth.py` with what is stored: journals, vaults, secrets, tenants."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import trio
from systemprompt_cloud import open_engine
from systemprompt_cloud.base.redaction import forget, new_owner, redact, register_secret
from systemprompt_cloud.engine.disk import Disk
from systemprompt_cloud.engine.fold import check_flow
from systemprompt_cloud.engine.history import first_lines
from systemprompt_cloud.engine.ids import new_flow_id
from systemprompt_cloud.engine.journal.housekeeping import prune
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.vault import VaultFiles, file_name
from systemprompt_cloud.io.cloud.wire import TenantInfo
from systemprompt_cloud.io.local.tenants import StoredTenant, TenantStore
from systemprompt_cloud.io.local.tenants_waiting import waiting_to_be_stored

from .crowd import FIRST, crowd
from .driven_ours import STAYING, STAYING_PROGRAM, Counted, paths_at
from .results import Cost, Filled
from .spent import began, spent

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
LINES: Final = 1_000
TIMES: Final = 200
PRUNED: Final = 100
SYNCS: Final = 20
FLOW: Final = f"{FIRST}{0:010d}"
"""The first flow that `crowd` writes."""


# --- filling ----------------------------------------------------------------------------------------------------------


def flows(home: str, size: int) -> Filled:
    """A journal with so many flows that have ended."""
    crowd(paths_at(home).journal, size)
    return Filled(home)


def long_history(home: str, size: int) -> Filled:
    """A journal with one flow of so many records."""
    crowd(paths_at(home).journal, 1, status="paused", records=size)
    return Filled(home)


def vaults(home: str, size: int) -> Filled:
    """A journal with so many flows that have not ended, each with secrets in the vault."""
    crowd(paths_at(home).journal, size, status="paused")
    directory = paths_at(home).vault_directory
    directory.mkdir(mode=0o700)
    with Journal(paths_at(home).journal) as journal:
        for flow in journal.unfinished_ids():
            (directory / file_name(flow)).write_text('{"token": "opaque-value"}')
    return Filled(home)


# --- opening ----------------------------------------------------------------------------------------------------------


def opened(home: str, size: int) -> Cost:
    """Open an engine on a journal of so many flows, and close it."""
    del size

    async def main() -> Cost:
        start = began()
        async with open_engine(paths_at(home), [STAYING_PROGRAM]):
            pass
        return spent(start)

    return trio.run(main)


def opened_after_crash(home: str, size: int) -> Cost:
    """The same after a process was killed that had written."""
    code = f"from benchmarks.growth_stored import die; die({home!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])  # noqa: S603 our own code
    return opened(home, size)


def die(home: str) -> None:
    """Begin a flow, and end as a process does that is killed."""
    journal = Journal(paths_at(home).journal)
    now = datetime.now(UTC)
    lines = first_lines(new_flow_id(now), STAYING, Counted(), now=now, key=None, parent=None, owner=None)
    journal.write([partial(journal.begin, *lines)])
    os._exit(0)


# --- checking, pruning, looking ---------------------------------------------------------------------------------------


def _check(home: str) -> None:
    with Journal(paths_at(home).journal) as journal:
        assert not journal.integrity_problems()
        assert not [problem for row in journal.each_flow() for problem in check_flow(journal, [], row)]


def checked(home: str, size: int) -> Cost:
    """Check so many flows."""
    del size
    start = began()
    _check(home)
    return spent(start)


def _peak(things: Iterable[object]) -> Cost:
    """The most that Python has allocated while it goes through these, in KB."""
    tracemalloc.start()
    try:
        for _ in things:
            pass
        return Cost(tracemalloc.get_traced_memory()[1] / 1e3)
    finally:
        tracemalloc.stop()


def checked_memory(home: str, size: int) -> Cost:
    """What checking so many flows holds at once."""
    del size
    with Journal(paths_at(home).journal) as journal:
        return _peak(check_flow(journal, [], row) for row in journal.each_flow())


def history_memory(home: str, size: int) -> Cost:
    """What going through a history of so many records holds at once."""
    del size
    with Journal(paths_at(home).journal) as journal:
        return _peak(journal.each_record(FLOW))


def asked(home: str, size: int) -> Cost:
    """What is asked about a flow with a history of so many records."""
    with Journal(paths_at(home).journal) as journal:
        start = began()
        for _ in range(TIMES):
            journal.intents(FLOW, 1)
            journal.refused(FLOW)
            first, last = journal.record(FLOW, 1), journal.last_record(FLOW)
            assert first is not None
            assert last is not None
            assert last.seq == size
        return spent(start)


def pruned(directory: Path, size: int) -> Cost:
    """Prune so many flows."""
    crowd(paths_at(str(directory)).journal, size)
    return _prune(str(directory), size)


def pruned_beside(home: str, size: int) -> Cost:
    """Prune a hundred flows beside so many that have secrets."""
    del size
    crowd(paths_at(home).journal, PRUNED, records=0, first="00bbb")
    return _prune(home, PRUNED)


def _prune(home: str, flows: int) -> Cost:
    paths = paths_at(home)
    with Journal(paths.journal) as journal:
        start = began()
        found = prune(journal, VaultFiles(paths.vault_directory), NOW)
        cost = spent(start)
    assert found.flows == flows
    return cost


# --- secrets ----------------------------------------------------------------------------------------------------------


def redacted(size: int) -> Cost:
    """Redact lines while so many secrets are known."""
    return _redact([f"{number:08x}-secret" for number in range(size)])


def redacted_alike(size: int) -> Cost:
    """The same with secrets that begin alike, and so does a word of the line."""
    return _redact([f"common-beginning-{number:08x}" for number in range(size)])


def _redact(secrets: list[str]) -> Cost:
    owner = new_owner("benchmark")
    for secret in secrets:
        register_secret(secret, owner)
    line = "flow 0gk8s0v2q3 went on from common-beginning-and-no-secret to ready after 3 tries"
    start = began()
    for _ in range(LINES):
        assert redact(line) == line
    cost = spent(start)
    forget(owner)
    return cost


# --- tenants ----------------------------------------------------------------------------------------------------------


def tenants_stored(directory: Path, size: int) -> Cost:
    """Store so many tenants at once."""
    path, disk = directory / "tenants.json", Disk(inline=False)

    async def store(number: int) -> None:
        tenant = StoredTenant(id=f"t{number}", name=f"Tenant {number}", tenant_type="cloud")
        with waiting_to_be_stored(path, tenant, NOW) as write:
            await disk.run(write)

    async def main() -> Cost:
        start = began()
        async with trio.open_nursery() as nursery:
            for number in range(size):
                nursery.start_soon(store, number)
        return spent(start)

    cost = trio.run(main)
    assert len(TenantStore.load_from_path(path).tenants) == size
    return cost


def tenants_synced(size: int) -> Cost:
    """Bring a list of so many tenants up to what the API lists, several times."""
    infos = [TenantInfo(id=f"t{number}", name=f"Tenant {number}", database_url="") for number in range(size)]
    store = TenantStore.from_tenant_infos(infos, NOW)
    start = began()
    for _ in range(SYNCS):
        store.sync(infos, NOW)
    return spent(start)
