"""Eight processes at once on the three shared stores, some killed at any moment: nothing is lost, torn or left open.

What is checked within a process, and how a lost update is told from the files alone, stands in
`tests/faults/store_worker.py`. Here is who starts and kills them, and a reader that looks all along.
"""

from __future__ import annotations

import contextlib
import random
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from systemprompt_cloud.errors import NotAuthenticated, TenantsNotSynced
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.session_store import SessionStore
from systemprompt_cloud.io.local.tenants import TenantStore

from tests.faults.store_worker import (
    ITEMS,
    KINDS,
    Place,
    Worker,
    items_after,
    numbers,
    problems_in,
    remember,
    session_entries,
    tenant_entries,
    whose,
)

PROCESSES = 8
OPERATIONS = 200
KILLS = 3
"""For each of the processes that are killed at all, which is three in four."""
SECONDS = 120.0
LOOK_SECONDS = 0.02

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
EXPECTED = re.compile(r"(credentials|tenants|index)\.json(\.lock)?|\.gitignore|sessions")


def look(place: Place) -> None:
    """What any process may see at any time: whole files, whose parts agree, and nothing open to others."""
    with contextlib.suppress(NotAuthenticated):
        whose(CloudCredentials.load_from_path(place.credentials))
    with contextlib.suppress(TenantsNotSynced):
        assert problems_in(*numbers(tenant_entries(TenantStore.load_from_path(place.tenants)))) == []
    assert problems_in(*numbers(session_entries(SessionStore.load_or_create(place.sessions)))) == []
    for directory in (place.directory, place.sessions.parent):
        with contextlib.suppress(FileNotFoundError):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            for path in directory.iterdir():
                with contextlib.suppress(FileNotFoundError):  # renamed since
                    assert stat.S_IMODE(path.lstat().st_mode) == (0o700 if path.name == "sessions" else 0o600), path
                assert EXPECTED.fullmatch(path.name) or TEMPORARY.fullmatch(path.name), path


def temporaries(place: Place) -> list[str]:
    """Temporary files, of the living and of the dead."""
    return [path.name for path in place.directory.rglob("*") if TEMPORARY.fullmatch(path.name)]


class Crowd:
    """The processes, each started again when it was killed.

    Args:
        place: The stores.
        rng: Who is killed after how many lines of its log.
    """

    def __init__(self, place: Place, rng: random.Random) -> None:
        self.place = place
        self.rng = rng
        self.kills = self.looks = self.lives = 0
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.due = {f"w{n}": self._moments(n) for n in range(PROCESSES)}

    def _moments(self, number: int) -> list[int]:
        lines = range(2, int(1.4 * OPERATIONS))
        return sorted(self.rng.sample(lines, KILLS)) if number % 4 else []

    def _start(self, name: str) -> None:
        self.lives += 1
        arguments = [str(self.place.directory), name, str(OPERATIONS), str(self.rng.random())]
        module = [sys.executable, "-m", "tests.faults.store_worker"]
        self.running[name] = subprocess.Popen([*module, *arguments], stderr=subprocess.PIPE)

    def _lines(self, name: str) -> int:
        try:
            return self.place.log(name).read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def run(self) -> None:
        """Let all of them finish, looking and killing meanwhile."""
        until = time.monotonic() + SECONDS
        try:
            for name in self.due:
                self._start(name)
            while self.running:
                assert time.monotonic() < until, f"still running: {sorted(self.running)}"
                look(self.place)
                self.looks += 1
                for name in list(self.running):
                    self._tend(name)
                for process in list(self.running.values())[:1]:
                    with contextlib.suppress(subprocess.TimeoutExpired):  # looking is not all the machine has to do
                        process.wait(LOOK_SECONDS)
        finally:
            for process in self.running.values():
                process.kill()
                process.communicate()

    def _tend(self, name: str) -> None:
        process, due = self.running[name], self.due[name]
        if process.poll() is not None:
            _, said = process.communicate()
            assert process.returncode == 0, said.decode()
            del self.running[name]
        elif due and self._lines(name) >= due[0]:
            due.pop(0)
            process.kill()
            _, said = process.communicate()
            if process.returncode == 0:  # it was faster
                del self.running[name]
                return
            assert process.returncode == -signal.SIGKILL, said.decode()
            self.kills += 1
            self._start(name)


@pytest.mark.parametrize("seed", [20261123])
def test_processes_killed_at_random_lose_nothing_in_the_stores(tmp_path: Path, seed: int) -> None:
    """8 processes, 200 reads and writes each, 18 SIGKILLs: every change that was finished is there, none came back."""
    place = Place(tmp_path / ".systemprompt")
    crowd = Crowd(place, random.Random(seed))  # noqa: S311 - no secret
    crowd.run()
    assert crowd.kills >= PROCESSES
    assert crowd.looks > crowd.lives
    for name in crowd.due:
        worker = Worker(place, name, random.Random())  # noqa: S311 - it only looks
        assert worker.known.finished >= OPERATIONS
        for kind in KINDS:
            worker.look(kind)
    assert len(temporaries(place)) <= crowd.kills
    for kind in KINDS:
        sweeper = Worker(place, "sweeper", random.Random())  # noqa: S311 - told what to do
        sweeper.change(kind)
    assert temporaries(place) == []
    look(place)


def test_a_dead_writers_temporary_file_is_harmless_and_swept_by_the_next_write(tmp_path: Path) -> None:
    """It holds a secret, so it must not stay; nobody reads it meanwhile."""
    place = Place(tmp_path / ".systemprompt")
    worker = Worker(place, "w", random.Random())  # noqa: S311 - told what to do
    for kind in KINDS:
        worker.change(kind)
    left = [path.with_name(f".{path.name}.{'0' * 16}.tmp") for path in (place.tenants, place.sessions)]
    for path in left:
        path.write_bytes(b"{ half a secr")
        path.chmod(0o600)
    look(place)
    assert len(temporaries(place)) == 2
    for kind in KINDS:
        worker.change(kind)
    assert temporaries(place) == []


# --- that the torture would notice ---------------------------------------------------------------------


def test_an_update_written_over_by_an_older_copy_is_noticed(tmp_path: Path) -> None:
    """Read first and lock later, the way `updating` does not: the worker whose change is gone says so."""
    place = Place(tmp_path / ".systemprompt")
    mine, other = (Worker(place, name, random.Random()) for name in ("mine", "other"))  # noqa: S311 - told what to do
    mine.change("tenants")
    mine.change("sessions")
    tenants, sessions = TenantStore.load_from_path(place.tenants), SessionStore.load_or_create(place.sessions)
    other.change("tenants")
    other.change("sessions")
    tenants.save_to_path(place.tenants)
    sessions.save(place.sessions)
    mine.look("tenants")
    for kind in ("tenants", "sessions"):
        with pytest.raises(AssertionError, match=f"{kind}: other finished 1 changes and finds 0"):
            other.look(kind)


def test_a_half_applied_change_is_noticed(tmp_path: Path) -> None:
    """A count without its total, an item that came back, a token of another login."""
    assert problems_in({"a": 1}, 2, {"a": {1}}) != []
    assert problems_in({"a": 1}, 1, {"a": set()}) != []
    assert problems_in({"a": 1}, 1, {"a": {1}}) == []
    seen: set[int] = set()
    for count in range(3 * ITEMS):
        seen ^= {count % ITEMS} if count else set()
        assert items_after(count) == seen
    place = Place(tmp_path / ".systemprompt")
    Worker(place, "w", random.Random()).change("credentials")  # noqa: S311 - told what to do
    text = place.credentials.read_text()
    place.credentials.write_text(text.replace("w.1@", "w.2@"))
    with pytest.raises(AssertionError, match="not that of"):
        look(place)


def test_a_workers_memory_is_its_log(tmp_path: Path) -> None:
    """A change that was begun and not finished may be in the file or not; both are known to it in its next life."""
    place = Place(tmp_path / ".systemprompt")
    Worker(place, "w", random.Random()).change("tenants")  # noqa: S311 - told what to do
    with place.log("w").open("a") as log:
        log.write("begin tenants 2\n")
    known = remember(place, "w")
    assert (known.finished, known.done["tenants"], known.begun["tenants"]) == (1, 1, 2)
    again = Worker(place, "w", random.Random())  # noqa: S311 - told what to do
    again.look("tenants")
    again.change("tenants")
    assert remember(place, "w").done["tenants"] == 2
