"""Who drives a flow is known by a lock that the operating system releases, however its process ends."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.engine.journal.owners import Owner, OwnerName, owner_is_alive, sweep_owners

CHILD = """
import pathlib, sys
from systemprompt_cloud.engine.journal.owners import Owner
owner = Owner(pathlib.Path(sys.argv[1]))
print(owner.name, flush=True)
sys.stdin.read()
if "release" in sys.argv:
    owner.release()
"""


def test_an_owner_lets_go_where_its_file_cannot_be_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The directory was replaced meanwhile: that is logged, and the lock is free."""
    directory, moved = tmp_path / "owners", tmp_path / "moved"
    owner = Owner(directory)
    directory.rename(moved)
    directory.write_text("no directory")
    assert owner_is_alive(moved, owner.name)
    owner.release()
    assert "cannot be removed" in caplog.text
    assert not owner_is_alive(moved, owner.name)


class Driver:
    """A real process that owns flows until it is told to stop, or killed."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(directory), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.owner = self.process.stdout.readline().strip()

    def end(self, how: int | None = None) -> None:
        """Kill it with a signal, or let it end by itself."""
        if how is not None:
            self.process.send_signal(how)
        self.process.communicate(timeout=10)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the lock files are."""
    return tmp_path / "owners"


@pytest.fixture
def driver(place: Path) -> Iterator[Driver]:
    """Another process that drives flows."""
    driver = Driver(place)
    yield driver
    if driver.process.poll() is None:
        driver.end(signal.SIGKILL)


def test_an_owner_is_alive_until_it_lets_go(place: Path) -> None:
    """In the same process too: two engines in one process are two owners."""
    owner = Owner(place)
    assert owner_is_alive(place, owner.name)
    owner.release()
    assert not owner_is_alive(place, owner.name)
    assert list(place.iterdir()) == []


def test_a_name_says_where_the_owner_runs(place: Path) -> None:
    """The message to whoever comes second can name the process and the host."""
    owner = Owner(place)
    name = OwnerName.parse(owner.name)
    assert (name.pid, name.host) == (os.getpid(), socket.gethostname())
    assert str(name) == owner.name
    owner.release()


def test_a_host_may_have_colons_in_its_name() -> None:
    """Only the first two separate."""
    assert OwnerName.parse("ab:12:fe80::1") == ("ab", 12, "fe80::1")


def test_lock_files_are_private(place: Path) -> None:
    """0600 in 0700 under any umask."""
    old = os.umask(0)
    try:
        owner = Owner(place)
    finally:
        os.umask(old)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert [stat.S_IMODE(each.stat().st_mode) for each in place.iterdir()] == [0o600]
    owner.release()


def test_another_process_is_seen_alive(place: Path, driver: Driver) -> None:
    """Looking at it does not disturb it, however often."""
    for _ in range(3):
        assert owner_is_alive(place, driver.owner)
    assert OwnerName.parse(driver.owner).pid == driver.process.pid


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=["SIGKILL", "SIGTERM", "exit"])
def test_death_frees_its_flows(place: Path, driver: Driver, how: int | None) -> None:
    """A process that is gone owns nothing, and its lock file is tidied away."""
    driver.end(how)
    assert not owner_is_alive(place, driver.owner)
    assert list(place.iterdir()) == []
    assert not owner_is_alive(place, driver.owner)


def test_a_clean_end_leaves_no_file(place: Path) -> None:
    """`release` removes it."""
    driver = Driver(place, "release")
    driver.end()
    assert list(place.iterdir()) == []
    assert not owner_is_alive(place, driver.owner)


def test_a_dead_process_id_used_again_owns_nothing(place: Path, driver: Driver) -> None:
    """Owners are told apart by their locks: a living process with the dead one's id does not count."""
    name = OwnerName.parse(driver.owner)
    driver.end(signal.SIGKILL)
    assert not owner_is_alive(place, str(name._replace(pid=os.getpid())))


def test_an_owner_nobody_ever_saw_is_dead(place: Path) -> None:
    """Asking for one makes no directory and no file."""
    assert not owner_is_alive(place, "cafe:1:elsewhere")
    assert not place.exists()


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file where the directory should be."""
    place = tmp_path / "owners"
    place.write_text("")
    with pytest.raises(Io, match="owners"):
        Owner(place)


def test_a_sweep_takes_the_files_of_the_dead_and_leaves_those_of_the_living(driver: Driver, place: Path) -> None:
    """An owner that died without leaving a flow is tidied away by whoever comes next; one that lives is not."""
    dead = Driver(place)
    dead.end(signal.SIGKILL)
    assert len(list(place.iterdir())) == 2

    sweep_owners(place)

    assert [path.name for path in place.iterdir()] == [f"{OwnerName.parse(driver.owner).token}.lock"]
    assert owner_is_alive(place, driver.owner)
