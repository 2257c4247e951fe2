"""A journal and its secrets are saved, and put back on another machine, where the flows go on."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from systemprompt_cloud.base.errors import CloudError, Io
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowBusy, JournalCorrupted, JournalTooNew
from systemprompt_cloud.engine.journal.backups import BackedUp, Restored, backup, backup_with_secrets, restore
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.vault import VaultFiles
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.paths import EnginePaths
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.testing.audit import audit_journal
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock, wait_all_tasks_blocked
from typing_extensions import override

from tests.support.rehearsal import wait_parked


class Job(Context, frozen=True, kw_only=True):
    """What is known."""

    token: str = ""


class Kept(Event, frozen=True):
    """A secret is in the vault."""

    token: str


class Go(Event, frozen=True):
    """A signal."""


class Used(Event, frozen=True):
    """The secret was used."""

    length: int


def _keep(job: Job, event: Kept) -> Job:
    return msgspec.structs.replace(job, token=event.token)


JOB: Machine[Job] = Machine(
    "job",
    version=1,
    initial="keeping",
    context=Job,
    states=[
        State("keeping", "a secret is being made"),
        State("waiting", "waits for somebody"),
        State("using", "the secret is being used"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Kept, "keeping", "waiting", update=_keep),
        on(Go, "waiting", "using"),
        on(Used, "using", "done"),
        on(CancelRequested, ANY, "cancelled"),
    ],
)
OUTER: Machine[Context] = Machine(
    "outer",
    version=1,
    initial="running",
    context=Context,
    states=[
        State("running", "its child runs", child="job"),
        State("done", "done", verdict=Verdict.SUCCESS),
        State("cancelled", "cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Go, "running", "done"), on(CancelRequested, ANY, "cancelled")],
)


async def keep(visit: Visit[Job]) -> Event:
    """Into the vault, which is on disk before the event is."""
    return Kept(await visit.keep("token", f"secret of {visit.flow}"))


async def use(visit: Visit[Job]) -> Event:
    """Out of the vault."""
    return Used(len(await visit.reveal(visit.context.token)))


async def run_job(visit: Visit[Context]) -> Event:
    """The child to its end."""
    outcome = await visit.run_child(INNER, Job())
    assert outcome.succeeded
    return Go()


INNER = Program(JOB, {"keeping": [keep], "waiting": [await_signal], "using": [use]})
PROGRAMS = [INNER, Program(OUTER, {"running": [run_job]})]


def home(tmp_path: Path, name: str) -> EnginePaths:
    """Another home."""
    return EnginePaths.inside(tmp_path / name / ".flows")


def moved_to(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """The name of this machine is another one."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)


async def test_a_backup_goes_on_on_another_machine(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made while the flows are driven; restored under another home and host name; parents, children and secrets."""
    here, there, files = home(tmp_path, "here"), home(tmp_path, "there"), (tmp_path / "journal", tmp_path / "secrets")
    clock = VirtualClock()
    moved_to(monkeypatch, "here.example")
    async with open_engine(here, PROGRAMS, clock=clock, inline=True) as engine:
        plain = await engine.start(JOB, Job())
        outer = await engine.start(OUTER, Context(), key="k")
        later = await engine.start(JOB, Job(), delay=60)
        done = await engine.start(JOB, Job())
        await wait_all_tasks_blocked()
        await done.send(Go())
        assert (await done.wait()).succeeded
        (child,) = engine.journal.children(outer.id)
        with Journal(here.journal, create=False) as journal:
            assert backup_with_secrets(journal, VaultFiles(here.vault), *files).flows == 2
        with pytest.raises(Io, match="journal: it exists"):
            backup(engine.journal, files[0])
        text = files[1].read_text()
        assert all(f"secret of {flow}" in text for flow in (plain.id, child.id))
        assert f"secret of {done.id}" not in text
        assert f"secret of {plain.id}".encode() not in files[0].read_bytes()
        assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]

        moved_to(monkeypatch, "there.example")
        assert restore(there, *files) == Restored(unfinished=4, flows=2)
        async with open_engine(there, PROGRAMS, clock=clock, inline=True) as other:
            assert {row.owner for row in other.journal.flows()} == {None}
            for flow in (plain.id, outer.id, later.id):  # still driven where they came from
                await other.resume(flow)
            async with open_engine(there, PROGRAMS, clock=clock, inline=True) as third:
                with pytest.raises(FlowBusy, match=r"there\.example"):
                    await third.resume(plain.id)
            await other.send(plain.id, Go())
            await other.send(child.id, Go())
            await other.send(later.id, Go())
            for flow in (plain.id, outer.id, later.id):
                assert (await other.wait(flow)).succeeded
            used = f"secret of {child.id}"
            assert json.loads(other.journal.records(child.id)[-1].body)["length"] == len(used)
            assert other.journal.records(done.id) == engine.journal.records(done.id)
            assert audit_journal(other.journal, PROGRAMS) == []
        assert list(there.vault.iterdir()) == []
        assert engine.row(plain.id).state == "waiting"


async def test_without_its_secrets_a_flow_pauses(tmp_path: Path, autojump_clock: MockClock) -> None:
    """And goes on once they are there; what a journal has is whole without them."""
    here, there = home(tmp_path, "here"), home(tmp_path, "there")
    async with open_engine(here, PROGRAMS, clock=VirtualClock(), inline=True) as engine:
        flow = await engine.start(JOB, Job())
        await wait_all_tasks_blocked()
        backup(engine.journal, tmp_path / "journal")
    assert restore(there, tmp_path / "journal") == Restored(unfinished=1, flows=0)
    async with open_engine(there, PROGRAMS, clock=VirtualClock(), inline=True) as engine:
        flow = await engine.resume(flow.id)
        await flow.send(Go())
        assert (await wait_parked(flow)).kind == "VaultMissing"
        shutil.copytree(here.vault, there.vault)
        assert (await (await engine.resume(flow.id)).wait()).succeeded


class Moving(VaultFiles):
    """A vault whose flows go on between the looks of a backup.

    Attributes:
        then: What happens after the first look at it.
    """

    def __init__(self, directory: Path, then: Callable[[], None]) -> None:
        super().__init__(directory)
        self.then = [then]

    @override
    def entries(self, flow_id: str) -> dict[str, str]:
        """With what happens after it."""
        found = super().entries(flow_id)
        while self.then:
            self.then.pop()()
        return found


@pytest.mark.parametrize("ends", [True, False])
async def test_secrets_that_come_and_go_meanwhile(tmp_path: Path, autojump_clock: MockClock, ends: bool) -> None:
    """What the copied journal refers to is there; of flows that had ended by then, nothing is."""
    here, there, files = home(tmp_path, "here"), home(tmp_path, "there"), (tmp_path / "journal", tmp_path / "secrets")
    vault = VaultFiles(here.vault)
    async with open_engine(here, PROGRAMS, clock=VirtualClock(), inline=True) as engine:
        flows = [await engine.start(JOB, Job()) for _ in range(3)]
        await wait_all_tasks_blocked()
        one, other, third = (flow.id for flow in flows)

        def go_on() -> None:
            vault.put(other, "more", "kept after the first look")
            vault.put(third, "token", "replaced after the first look")
            if ends:
                with sqlite3.connect(here.journal) as connection:
                    connection.execute("UPDATE flows SET status = 'ended', owner = NULL WHERE id = ?", (one,))
                vault.discard(one)

        found = backup_with_secrets(engine.journal, Moving(here.vault, go_on), *files)
        assert found == BackedUp(size=files[0].stat().st_size, flows=2 if ends else 3)
    restore(there, *files)
    restored = VaultFiles(there.vault)
    assert restored.entries(one) == ({} if ends else {"token": f"secret of {one}"})
    assert restored.entries(other) == {"token": f"secret of {other}", "more": "kept after the first look"}
    assert restored.entries(third) == {"token": "replaced after the first look"}


class Removing(VaultFiles):
    """A vault whose secrets are gone at the second look: their flows have ended after the journal was copied."""

    looks = 0

    @override
    def entries(self, flow_id: str) -> dict[str, str]:
        """Nothing at the second look."""
        self.looks += 1
        return super().entries(flow_id) if self.looks == 1 else {}


async def test_a_flow_that_ends_after_the_journal_was_copied_has_its_secrets(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """They are those of the first look."""
    here = home(tmp_path, "here")
    async with open_engine(here, PROGRAMS, clock=VirtualClock(), inline=True) as engine:
        flow = await engine.start(JOB, Job())
        await wait_all_tasks_blocked()
        backup_with_secrets(engine.journal, Removing(here.vault), tmp_path / "journal", tmp_path / "secrets")
    restore(home(tmp_path, "there"), tmp_path / "journal", tmp_path / "secrets")
    assert VaultFiles(home(tmp_path, "there").vault).entries(flow.id) == {"token": f"secret of {flow.id}"}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    """A backup of an empty journal, with no secret in its file."""
    here = home(tmp_path, "here")
    with Journal(here.journal) as journal:
        backup_with_secrets(journal, VaultFiles(here.vault), tmp_path / "journal", tmp_path / "secrets")
    return tmp_path / "journal", tmp_path / "secrets"


def no_database(journal: Path, _secrets: Path) -> None:
    """Any text."""
    journal.write_text("no database " * 100)


def cut(journal: Path, _secrets: Path) -> None:
    """Half of it."""
    with journal.open("r+b") as file:
        file.truncate(journal.stat().st_size // 2)


def another_program(journal: Path, _secrets: Path) -> None:
    """Somebody else's database."""
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA application_id = 7")


def newer(journal: Path, _secrets: Path) -> None:
    """Of a later version."""
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA user_version = 99")


def gone(journal: Path, _secrets: Path) -> None:
    """No file."""
    journal.unlink()


def no_secrets(_journal: Path, secrets: Path) -> None:
    """No file of secrets."""
    secrets.unlink()


def other_json(_journal: Path, secrets: Path) -> None:
    """Some other JSON."""
    secrets.write_text('{"flows": {}, "kind": "shopping list"}')


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (no_database, JournalCorrupted),
        (cut, JournalCorrupted),
        (another_program, JournalCorrupted),
        (newer, JournalTooNew),
        (gone, Io),
        (no_secrets, Io),
        (other_json, JournalCorrupted),
    ],
)
def test_what_is_no_backup_is_refused(
    tmp_path: Path,
    saved: tuple[Path, Path],
    spoil: Callable[[Path, Path], None],
    error: type[CloudError],
) -> None:
    """Named, and nothing is left where the journal would be."""
    spoil(*saved)
    there = home(tmp_path, "there")
    with pytest.raises(error, match=str(tmp_path)):
        restore(there, *saved)
    assert list(there.journal.parent.glob("*journal*")) == []
    assert not there.vault.exists()


@pytest.mark.parametrize("what", ["journal.sqlite3", "journal.sqlite3-wal"])
def test_nothing_is_restored_over_a_journal(tmp_path: Path, saved: tuple[Path, Path], what: str) -> None:
    """Nor beside the log of one."""
    there = home(tmp_path, "there")
    there.journal.parent.mkdir(parents=True)
    (there.journal.parent / what).write_bytes(b"mine")
    with pytest.raises(Io, match="it exists"):
        restore(there, *saved)
    assert (there.journal.parent / what).read_bytes() == b"mine"


def test_a_backup_is_both_files_or_none(tmp_path: Path) -> None:
    """The journal's copy is not left where the secrets cannot be saved."""
    here, taken = home(tmp_path, "here"), tmp_path / "taken"
    taken.write_text("mine")
    with Journal(here.journal) as journal:
        for secrets in (taken, tmp_path / "nowhere" / "secrets", tmp_path / "copy"):
            with pytest.raises(Io, match=secrets.name):
                backup_with_secrets(journal, VaultFiles(here.vault), tmp_path / "copy", secrets)
            assert not (tmp_path / "copy").exists()
    assert taken.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"here", "taken"}


async def test_a_restored_journal_is_of_todays_schema_once_it_is_opened(
    tmp_path: Path, saved: tuple[Path, Path], autojump_clock: MockClock
) -> None:
    """And flows can be started in it."""
    there = home(tmp_path, "there")
    assert restore(there, *saved) == Restored(unfinished=0, flows=0)
    assert stat.S_IMODE(there.journal.stat().st_mode) == 0o600
    async with open_engine(there, PROGRAMS, clock=VirtualClock(), inline=True) as engine:
        flow = await engine.start(JOB, Job())
        await flow.send(Go())
        assert (await flow.wait()).succeeded
