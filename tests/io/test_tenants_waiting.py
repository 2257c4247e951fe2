"""Tenants that wait for the file are written together, each is stored or told why not, and one write costs one pass."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.base.files import locked
from systemprompt_cloud.engine.disk import Disk
from systemprompt_cloud.io.cloud.wire import TenantInfo
from systemprompt_cloud.io.local import tenants
from systemprompt_cloud.io.local.tenants import StoredTenant, TenantStore
from systemprompt_cloud.io.local.tenants_waiting import waiting_to_be_stored

from tests.support.effort import calls_of

NOW = datetime(2030, 1, 2, tzinfo=UTC)


def tenant(number: int, **changes: Any) -> StoredTenant:
    """One of many."""
    return StoredTenant(id=f"t{number}", name=f"Tenant {number}", tenant_type="cloud", **changes)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tenants each write of a file had."""
    made: list[int] = []
    write = tenants.write_plain

    def counting(path: Path, plain: dict[str, Any]) -> None:
        made.append(len(plain["tenants"]))
        write(path, plain)

    monkeypatch.setattr(tenants, "write_plain", counting)
    return made


async def test_a_hundred_that_wait_are_two_writes(tmp_path: Path, writes: list[int]) -> None:
    """What waits while one is written is written next, all of it; each returns once its own is stored."""
    path, disk = tmp_path / "home" / "tenants.json", Disk(inline=False)
    path.parent.mkdir(mode=0o700)

    async def store(number: int) -> None:
        with waiting_to_be_stored(path, tenant(number), NOW) as write:
            await disk.run(write)
        assert TenantStore.load_from_path(path).find_tenant(f"t{number}") is not None

    async with trio.open_nursery() as nursery:
        with locked(path):
            for number in range(100):
                nursery.start_soon(store, number)
            await trio.testing.wait_all_tasks_blocked(0.05)
    assert len(writes) <= 2
    assert {each.id for each in TenantStore.load_from_path(path).tenants} == {f"t{number}" for number in range(100)}


async def test_one_that_is_cancelled_while_it_waits_is_not_stored(tmp_path: Path) -> None:
    """It is taken back, and those beside it are stored."""
    path = tmp_path / "home" / "tenants.json"
    with waiting_to_be_stored(path, tenant(1), NOW) as write:
        with trio.CancelScope() as scope, waiting_to_be_stored(path, tenant(2), NOW):
            scope.cancel()
            await trio.lowlevel.checkpoint()
        write()
    assert [each.id for each in TenantStore.load_from_path(path).tenants] == ["t1"]


def test_what_cannot_be_written_is_each_ones_own_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is told; the other tries for itself, and is stored when that is possible again."""
    path = tmp_path / "home" / "tenants.json"
    with waiting_to_be_stored(path, tenant(1), NOW) as one, waiting_to_be_stored(path, tenant(2), NOW) as other:
        with monkeypatch.context() as broken:

            def refuse(_path: Path, _plain: dict[str, Any]) -> None:
                raise Io("the disk is full")

            broken.setattr(tenants, "write_plain", refuse)
            with pytest.raises(Io, match="full"):
                one()
        other()
        assert [each.id for each in TenantStore.load_from_path(path).tenants] == ["t2"]
    assert [each.id for each in TenantStore.load_from_path(path).tenants] == ["t2"]


def test_one_that_has_left_while_the_write_of_another_failed_is_not_stored_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in the batch that failed; whoever gave up on it was told that it is not stored."""
    path = tmp_path / "home" / "tenants.json"
    with waiting_to_be_stored(path, tenant(1), NOW) as one, waiting_to_be_stored(path, tenant(2), NOW) as other:
        leaving = ExitStack()
        leaving.enter_context(waiting_to_be_stored(path, tenant(3), NOW))
        with monkeypatch.context() as broken:

            def refuse(_path: Path, _plain: dict[str, Any]) -> None:
                leaving.close()
                raise Io("the disk is full")

            broken.setattr(tenants, "write_plain", refuse)
            with pytest.raises(Io, match="full"):
                one()
        other()
    assert [each.id for each in TenantStore.load_from_path(path).tenants] == ["t2"]


@pytest.mark.parametrize("how", ["upsert", "sync"])
def test_many_tenants_cost_so_many_times_one(how: str) -> None:
    """Ten times the tenants, and ten times the calls: none is looked for by going through the others."""

    def cost(many: int) -> int:
        store = TenantStore(tenants=tuple(tenant(number) for number in range(many)), synced_at=NOW)
        names = [f"t{number}" for number in range(many // 2, 2 * many)]
        infos = [TenantInfo(id=name, name="New", database_url="") for name in names]
        new = [StoredTenant(id=name, name="New", region="lhr") for name in names]
        calls = calls_of(partial(store.sync, infos, NOW) if how == "sync" else partial(store.upsert_tenants, new))
        assert len(store.tenants) == (1.5 if how == "sync" else 2) * many
        assert [each.name for each in store.tenants[-many:]] == ["New"] * many
        return calls

    few, many = cost(100), cost(1000)
    assert many <= 10.5 * few, (few, many)
