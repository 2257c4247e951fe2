"""Private files while the world goes wrong: writers killed or many, disks that are full, locks that are held."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from systemprompt_cloud.base.errors import Io
from systemprompt_cloud.base.files import locked, read_private, remove_private, set_aside, write_private


@pytest.fixture
def small_disk(mounted: Callable[[str], Path]) -> Path:
    """A real file system of 64 KiB."""
    return mounted("64k")


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A real Python process that has imported the module under test."""
    head = "import sys, pathlib\nfrom systemprompt_cloud.base.files import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def stream(pipe: IO[str] | None) -> IO[str]:
    """The pipe, which is there because `child` asked for it."""
    assert pipe is not None
    return pipe


def ended(process: subprocess.Popen[str]) -> None:
    """Kill the process, reap it and close its pipes."""
    process.kill()
    process.wait(10)
    stream(process.stdin).close()
    stream(process.stdout).close()


def test_a_full_disk_leaves_the_old_file_and_nothing_else(small_disk: Path) -> None:
    """ENOSPC in the middle of a write: said in words, old content, no temporary file, and room to go on."""
    path = small_disk / "f"
    old = b"o" * 30_000
    write_private(path, old)
    with pytest.raises(Io, match="no space left") as caught:
        write_private(path, b"n" * 100_000)
    assert str(path) in caught.value.user_message
    assert "the previous content is unchanged" in caught.value.user_message
    assert read_private(path) == old
    assert {each.name for each in small_disk.iterdir()} == {"f"}
    write_private(path, b"small")
    assert read_private(path) == b"small"


def test_a_read_only_file_system_is_reported_and_still_read(small_disk: Path, warned: list[str]) -> None:
    """Every change fails with the path; reading works, and a mode that cannot be mended is at least warned of."""
    path = small_disk / "f"
    path.write_bytes(b"here")
    path.chmod(0o644)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(Io, match=f"{path}: Read-only file system"):
        write_private(path, b"x")
    with pytest.raises(Io, match=f"{path}: Read-only file system"):
        remove_private(path)
    with pytest.raises(Io, match=f"{path}: Read-only file system"):
        set_aside(path)
    with pytest.raises(Io, match="Read-only file system"), locked(path):
        pass
    assert read_private(path) == b"here"
    assert ["cannot be narrowed" in message for message in warned] == [True]


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    """SIGKILL in the middle of writes: always one of the two contents, 0600; the next write sweeps the leftovers."""
    path = tmp_path / "f"
    contents = {b"a" * 300_000, b"b" * 300_000}
    write_private(path, b"a" * 300_000)
    script = (
        "path = pathlib.Path(sys.argv[1])\n"
        "while True:\n"
        "    for letter in (b'b', b'a'):\n"
        "        write_private(path, letter * 300_000)\n"
        "        print(flush=True)\n"
    )
    left_behind = 0
    for killed_at in range(8):
        process = child(script, path)
        try:
            for _ in range(1 + killed_at % 3):
                assert stream(process.stdout).readline() == "\n"
            # Each time a little later within the next write: a spin, because a quarter of a millisecond matters.
            until = time.perf_counter() + killed_at * 0.000_25
            while time.perf_counter() < until:
                pass
        finally:
            ended(process)
        assert process.returncode == -signal.SIGKILL
        assert read_private(path) in contents
        assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}
        left_behind += len(list(tmp_path.iterdir())) - 1
    write_private(path, b"end")
    assert {each.name for each in tmp_path.iterdir()} == {"f"}, f"{left_behind} temporary files were left and not swept"


def test_the_temporary_file_of_a_living_writer_is_not_swept(tmp_path: Path) -> None:
    """Many writers of one file at once: every write succeeds, and the end is one whole content."""
    path = tmp_path / "f"
    contents = [bytes([65 + index]) * 20_000 for index in range(6)]
    failures: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            for _ in range(30):
                write_private(path, content)
        except BaseException as exc:  # noqa: BLE001 - carried to the test's own thread
            failures.append(exc)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert read_private(path) in contents
    assert {each.name for each in tmp_path.iterdir()} == {"f"}


def test_an_interrupted_write_leaves_a_whole_file(tmp_path: Path) -> None:
    """Ctrl-C (a real SIGINT) while writes run: the old or the new content, and nothing beside it."""
    path = tmp_path / "f"
    write_private(path, b"a" * 100_000)
    script = (
        "path = pathlib.Path(sys.argv[1])\n"
        "try:\n"
        "    print(flush=True)\n"
        "    while True: write_private(path, b'b' * 100_000)\n"
        "except KeyboardInterrupt: pass\n"
    )
    for _ in range(3):
        process = child(script, path)
        try:
            assert stream(process.stdout).readline() == "\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            ended(process)
        assert read_private(path) in {b"a" * 100_000, b"b" * 100_000}
    write_private(path, b"end")
    assert {each.name for each in tmp_path.iterdir()} == {"f"}


HOLD = "with locked(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"


def test_a_lock_held_by_another_process_is_named_and_freed_by_its_death(tmp_path: Path) -> None:
    """The error names the lock file; after a SIGKILL of the holder the lock is free."""
    path = tmp_path / "f"
    holder = child(HOLD, path)
    try:
        assert stream(holder.stdout).readline() == "held\n"
        assert stat.S_IMODE((tmp_path / "f.lock").stat().st_mode) == 0o600
        held = f"another process has held {path}.lock for 0.1 seconds"
        with pytest.raises(Io, match=held) as caught, locked(path, timeout=0.1):
            pass
        assert "lsof" in caught.value.recovery_hint
    finally:
        ended(holder)
    with locked(path, timeout=5):
        pass


def test_whoever_waits_gets_the_lock_when_it_is_released(tmp_path: Path) -> None:
    """A lock held for a moment delays the next one and does not fail it."""
    path = tmp_path / "f"
    holder = child(HOLD, path)
    try:
        assert stream(holder.stdout).readline() == "held\n"
        threading.Timer(0.1, stream(holder.stdin).close).start()
        with locked(path):
            assert holder.wait(10) == 0
    finally:
        ended(holder)
