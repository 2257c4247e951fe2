"""Whatever lies in an engine's directories, and whatever its flows are called, it opens and drives its flows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.journal.backups import backup
from systemprompt_cloud.engine.journal.housekeeping import prune
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.vault import VaultFiles, file_name
from systemprompt_cloud.engine.leftovers import ORPHANED_SECONDS, sweep
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.journey import JOURNEY, Journey, Left, journey
from tests.support.rows import flow_record, flow_row

from .test_housekeeping import LATER

ODD = [
    "p.a.json-1",
    "p.parcel v2-1",
    "p.../..-1",
    "p.\u00e4-1",
    "p.-1",
    "p." + "x" * 300 + "-1",
    "p.b.json.unreadable-1-2",
]


def add(journal: Journal, flow: str, *, ended: bool) -> None:
    """A flow of a machine of former times."""
    row = flow_row(flow, machine=flow.removeprefix("p.").rpartition("-")[0])
    after = msgspec.structs.replace(row, seq=2, status="ended" if ended else "paused")
    record = flow_record(flow, 2, kind="event" if ended else "paused", name="Happened")
    journal.write([partial(journal.begin, row, flow_record(flow)), partial(journal.advance, row, after, record)])


def grow_old(directory: Path) -> None:
    """Every file in it was left long ago."""
    before = time.time() - 2 * ORPHANED_SECONDS
    for path in directory.iterdir():
        os.utime(path, (before, before), follow_symlinks=False)


@pytest.mark.parametrize("flow", ODD)
def test_secrets_of_oddly_named_flows_are_swept_when_they_ended(tmp_path: Path, flow: str) -> None:
    """And only then: those of a flow that goes on stay, however old they are, also what was set aside."""
    with Journal(tmp_path / "journal.sqlite3") as journal:
        vault = VaultFiles(tmp_path / "vault", journal.identity)
        add(journal, flow, ended=False)
        add(journal, f"{flow}.done-1", ended=True)
        for each in (flow, f"{flow}.done-1", f"{flow}.never-1"):
            vault.put(each, "token", "secret-of-a-flow")
        (vault.directory / f"{file_name(flow)}.unreadable-20260101T000000Z").write_text("broken")
        grow_old(vault.directory)
        sweep(journal, vault, tmp_path / "owners")
        left = sorted(path.name for path in vault.directory.iterdir())
        assert left == [file_name(flow), f"{file_name(flow)}.unreadable-20260101T000000Z"]
        assert vault.has(flow, "vault:token")


@pytest.mark.parametrize("flow", ODD)
def test_secrets_of_oddly_named_flows_are_pruned_with_them(tmp_path: Path, flow: str) -> None:
    """None is left without its flow."""
    vault = VaultFiles(tmp_path / "vault")
    with Journal(tmp_path / "journal.sqlite3") as journal:
        add(journal, flow, ended=True)
        add(journal, "kept", ended=False)
        for each in (flow, "kept"):
            vault.put(each, "token", "secret-of-a-flow")
        assert prune(journal, vault, LATER).flows == 1
        assert [path.name for path in vault.directory.iterdir()] == ["kept.json"]


@pytest.mark.parametrize("flow", ODD)
def test_secrets_of_another_journals_flows_are_never_swept(tmp_path: Path, flow: str) -> None:
    """Whether or not it can be told which journal that is: it may be put back."""
    with Journal(tmp_path / "other.sqlite3") as other, Journal(tmp_path / "journal.sqlite3") as journal:
        for identity, each in ((other.identity, flow), (None, f"{flow}.older-1")):
            VaultFiles(tmp_path / "vault", identity).put(each, "token", "secret-of-a-flow")
        vault = VaultFiles(tmp_path / "vault", journal.identity)
        (vault.directory / ".f.json.0123456789abcdef.tmp").write_text("half a sec")
        grow_old(vault.directory)
        sweep(journal, vault, tmp_path / "owners")
        assert sorted(each.name for each in vault.directory.iterdir()) == sorted(
            file_name(each) for each in (flow, f"{flow}.older-1")
        )


async def test_flows_that_were_set_aside_and_put_back_find_their_secrets(paths: CloudPaths) -> None:
    """Another journal was in their journal's place meanwhile, with flows of its own that were set aside in turn."""
    aside = paths.journal.with_name("aside")
    flows: list[str] = []
    for _ in range(2):
        async with open_engine(paths, [journey()]) as engine:
            flows.append((await engine.start(JOURNEY, Journey(), secrets={"token": "secret-of-a-flow"})).id)
        grow_old(paths.vault)
        swap(paths.journal, aside)
    for flow in flows:
        async with open_engine(paths, [journey()]) as engine:
            await engine.resume(flow)
            assert engine.vault.get(flow, "vault:token") == "secret-of-a-flow"
        swap(paths.journal, aside)


def swap(journal: Path, aside: Path) -> None:
    """Exchange a closed journal, one file, with what is aside, which may be nothing."""
    other = journal.with_name("other")
    journal.rename(other)
    if aside.exists():
        aside.rename(journal)
    other.rename(aside)


def test_a_backup_is_another_journal(tmp_path: Path) -> None:
    """It does not have the flows that were started after it, so it cannot tell whose their secrets are."""
    with Journal(tmp_path / "journal.sqlite3") as journal:
        backup(journal, tmp_path / "backup.sqlite3")
        add(journal, "f", ended=False)
        VaultFiles(tmp_path / "vault", journal.identity).put("f", "token", "secret-of-a-flow")
    grow_old(tmp_path / "vault")
    with Journal(tmp_path / "backup.sqlite3") as restored:
        vault = VaultFiles(tmp_path / "vault", restored.identity)
        sweep(restored, vault, tmp_path / "owners")
        assert vault.has("f", "vault:token")


def _directory_in_vault(paths: CloudPaths) -> None:
    (paths.vault / "gone.json").mkdir(parents=True)


def _file_as_vault(paths: CloudPaths) -> None:
    paths.vault.write_text("no directory")


def _strange_locks(paths: CloudPaths) -> None:
    paths.owners.mkdir(exist_ok=True)
    (paths.owners / "directory.lock").mkdir()
    (paths.owners / "link.lock").symlink_to("nowhere")
    (paths.owners / "\udcff.lock").write_text("")
    os.mkfifo(paths.owners / "pipe.lock")


def _strange_names(paths: CloudPaths) -> None:
    paths.vault.mkdir(exist_ok=True)
    for name in (
        "\udcff.json",
        ".json",
        "..json",
        "a b.json",
        "@x.json",
        "x.json.unreadable-",
        ".f.json.0123456789abcdef.tmp",
    ):
        (paths.vault / name).write_text("")
    os.mkfifo(paths.vault / "pipe.json")
    (paths.vault / "link.json").symlink_to("nowhere")


@pytest.mark.parametrize("leave", [_directory_in_vault, _file_as_vault, _strange_locks, _strange_names])
async def test_housekeeping_that_fails_ends_no_engine(paths: CloudPaths, leave: Callable[[CloudPaths], None]) -> None:
    """What cannot be removed is left and logged; flows are started, driven and resumed as ever."""
    async with open_engine(paths, [journey()]) as engine:
        flow = await engine.start(JOURNEY, Journey())
    leave(paths)
    if paths.vault.is_dir():
        grow_old(paths.vault)
    async with open_engine(paths, [journey()]) as engine:
        again = await engine.resume(flow.id)
        assert await again.send(Left()) is True
        assert (await engine.start(JOURNEY, Journey())).state == "home"


@pytest.mark.parametrize("flow", ODD)
async def test_oddly_named_flows_are_ended_like_any_other(paths: CloudPaths, flow: str) -> None:
    """By an engine that does not know their machines: cancelled, their secrets gone."""
    async with open_engine(paths, [journey()]) as engine:
        add(engine.journal, flow, ended=False)
        engine.vault.put(flow, "token", "secret-of-a-flow")
    async with open_engine(paths, [journey()]) as engine:
        assert engine.vault.has(flow, "vault:token")
        assert await engine.cancel(flow, "enough") is True
        assert engine.row(flow).status == "ended"
        assert list(paths.vault.glob("*")) == []
