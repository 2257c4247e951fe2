"""Real disk failures: a file system that is full, one that becomes read-only, and one that returns EIO.

The program is not patched. A full disk is a tmpfs of some kilobytes (needs root). Disk errors are injected between
Python or SQLite and the C library: a small shim, compiled when it is needed (needs a C compiler and a dynamic linker
with `LD_PRELOAD`), counts the calls on files of one directory and fails the nth as a bad disk would: once, from then
on, or after writing half the bytes. It does not simulate a disk that reports a sync as done and loses the data.

    with Writers(shim) as writers:
        calls = writers.run(path).calls
        for nth in range(1, calls + 1):
            ran = writers.run(path, nth=nth, how="forever")

A writer is a process that writes flows into a journal and reports which records were acknowledged.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final, Literal, Self, TypeVar, cast

import msgspec
from systemprompt_cloud.base.errors import CloudError, Io
from systemprompt_cloud.cli.shared.log import configure_logging
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import FlowRow, Record

from tests.support.rows import flow_record, flow_row

T = TypeVar("T")
How = Literal["once", "forever", "torn"]
HOWS: Final[tuple[How, ...]] = ("once", "forever", "torn")
SECONDS: Final = 30
STEPS: Final = 3
"""Records of each flow that is written."""

SHIM: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char place[4096];
static long nth, seen;
static int code, how;
static char last[64];

long shim_seen(void) { return seen; }
const char *shim_last(void) { return last; }
void shim_arm(const char *where, long n, int error, int mode) {
    strncpy(place, where, sizeof place - 1); nth = n; code = error; how = mode; seen = 0; last[0] = 0;
}
static int ours(int fd) {
    char link[64], name[4096];
    if (!place[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, sizeof name - 1);
    if (n < 0) return 0;
    name[n] = 0;
    return strncmp(name, place, strlen(place)) == 0;
}
static int fails(int fd, const char *call) {
    if (!ours(fd)) return 0;
    seen++;
    if (!nth || seen < nth || (how != 1 && seen > nth)) return 0;
    if (seen == nth) strncpy(last, call, sizeof last - 1);
    errno = code;
    return 1;
}
#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
ssize_t write(int fd, const void *b, size_t n) {
    REAL(write);
    if (fails(fd, "write")) { if (how == 2) real(fd, b, n / 2); errno = code; return -1; }
    return real(fd, b, n);
}
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) {
    REAL(pwrite);
    if (fails(fd, "pwrite")) { if (how == 2) real(fd, b, n / 2, at); errno = code; return -1; }
    return real(fd, b, n, at);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) {
    REAL(pwrite64);
    if (fails(fd, "pwrite")) { if (how == 2) real(fd, b, n / 2, at); errno = code; return -1; }
    return real(fd, b, n, at);
}
ssize_t read(int fd, void *b, size_t n) { REAL(read); return fails(fd, "read") ? -1 : real(fd, b, n); }
ssize_t pread(int fd, void *b, size_t n, off_t at) { REAL(pread); return fails(fd, "pread") ? -1 : real(fd, b, n, at); }
ssize_t pread64(int fd, void *b, size_t n, off64_t at) {
    REAL(pread64); return fails(fd, "pread") ? -1 : real(fd, b, n, at);
}
int fsync(int fd) { REAL(fsync); return fails(fd, "fsync") ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fails(fd, "fdatasync") ? -1 : real(fd); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); return fails(fd, "ftruncate") ? -1 : real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); return fails(fd, "ftruncate") ? -1 : real(fd, n); }
"""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the writer.

    Attributes:
        path: The journal.
        flows: How many flows to write, each of `STEPS` records.
        nth: Which call on files of the journal's directory fails; 0 for none.
        code: The error number (`errno`).
        how: `once`, `forever` from then on, or `torn`: once, after half the bytes were written.
    """

    path: str
    flows: int = 4
    nth: int = 0
    code: int = errno.EIO
    how: How = "once"


class Trouble(msgspec.Struct, frozen=True):
    """An error as it would have been shown."""

    kind: str
    message: str
    hint: str


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one run of the writer.

    Attributes:
        acknowledged: For each flow the number of its last record whose write returned.
        troubles: The errors, in order; the writer tries each write twice and then stops.
        calls: How many calls on files of the directory it made.
        failed: The name of the call that failed.
    """

    acknowledged: dict[str, int]
    troubles: list[Trouble]
    calls: int
    failed: str


def flow_rows(name: str) -> list[tuple[FlowRow, Record]]:
    """A flow's records, each with the row after it. Some bodies fill an overflow page."""
    rows: list[tuple[FlowRow, Record]] = []
    for seq in range(1, STEPS + 1):
        body = msgspec.json.encode({"step": seq, "filler": name * (20 if seq != 2 else 1500)}).decode()
        row = flow_row(
            name,
            machine="storage",
            key=name,
            state=f"state_{seq}",
            incarnation=seq,
            seq=seq,
            status="ended" if seq == STEPS else "running",
            verdict="success" if seq == STEPS else None,
            context=body,
        )
        before = f"state_{max(seq - 1, 1)}"
        record = flow_record(
            name, seq, name="Stepped", body=body, from_state=before, to_state=row.state, incarnation=seq
        )
        rows.append((row, record))
    return rows


def write_flow(journal: Journal, name: str, seq: int) -> None:
    """Write one record of a flow; it is acknowledged when this returns."""
    rows = flow_rows(name)
    row, record = rows[seq - 1]
    if seq == 1:
        journal.write([functools.partial(journal.begin, row, record)])
    else:
        journal.write([functools.partial(journal.advance, rows[seq - 2][0], row, record)])


def missing(journal: Journal, acknowledged: dict[str, int]) -> list[str]:
    """A problem for each acknowledged record that is missing or changed, and for whatever is inconsistent."""
    problems = journal.integrity_problems()
    for name, seq in acknowledged.items():
        row = journal.flow(name)
        if row is None or row.seq < seq:
            problems.append(f"{name} was acknowledged up to record {seq}; the journal has {row and row.seq}")
    for row in journal.flows(limit=100_000):
        lives = flow_rows(row.id)
        if row != lives[row.seq - 1][0] or journal.records(row.id) != [record for _, record in lives[: row.seq]]:
            problems.append(f"{row.id} is not what was written")
    return problems


# --- the shim -------------------------------------------------------------------------------------------------------


def build_shim(directory: Path) -> Path:
    """Compile the shim.

    Args:
        directory: Where to put it.

    Raises:
        Io: The system is not Linux, has no C compiler, or the compiler fails.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        raise Io("injecting disk errors needs Linux and a C compiler")
    source, library = directory / "shim.c", directory / "shim.so"
    source.write_text(SHIM)
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Io(f"the shim cannot be compiled: {done.stderr.strip()}")
    return library


class Writers:
    """A process that has imported everything and forks a writer for each run.

    Args:
        shim: The compiled shim; None for runs without errors.
    """

    def __init__(self, shim: Path | None = None) -> None:
        environ = dict(os.environ) | ({} if shim is None else {"LD_PRELOAD": str(shim)})
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
        )

    def run(self, path: Path, *, flows: int = 4, nth: int = 0, code: int = errno.EIO, how: How = "once") -> Ran:
        """Run a writer on the journal at `path`, to the end or until a write fails twice; see `Job`."""
        job = Job(path=str(path), flows=flows, nth=nth, code=code, how=how)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(job) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Ran)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=SECONDS)


def _serve() -> None:
    configure_logging(0, None)
    for line in sys.stdin:
        job = msgspec.json.decode(line, type=Job)
        child = os.fork()
        if not child:
            code = 1
            try:
                print(msgspec.json.encode(_write(job)).decode(), flush=True)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"a writer ended with status {status}")


def _write(job: Job) -> Ran:
    shim = ctypes.CDLL(None)
    shimmed = hasattr(shim, "shim_arm")
    if shimmed:
        shim.shim_last.restype = ctypes.c_char_p
        place = str(Path(job.path).parent).encode()
        shim.shim_arm(place, ctypes.c_long(job.nth), job.code, HOWS.index(job.how))
    acknowledged: dict[str, int] = {}
    troubles: list[Trouble] = []
    with contextlib.suppress(CloudError), contextlib.ExitStack() as stack:
        journal = _try_twice(lambda: stack.enter_context(Journal(Path(job.path))), troubles)
        for number in range(job.flows):
            for seq in range(1, STEPS + 1):
                name = f"flow{number}"
                _try_twice(functools.partial(write_flow, journal, name, seq), troubles)
                acknowledged[name] = seq
    calls = shim.shim_seen() if shimmed else 0
    failed = cast("bytes", shim.shim_last()).decode() if shimmed else ""
    return Ran(acknowledged=acknowledged, troubles=troubles, calls=calls, failed=failed)


def _try_twice(action: Callable[[], T], troubles: list[Trouble]) -> T:
    try:
        return action()
    except CloudError as exc:
        troubles.append(Trouble(exc.kind, exc.user_message, exc.recovery_hint))
    try:
        return action()
    except CloudError as exc:
        troubles.append(Trouble(exc.kind, exc.user_message, exc.recovery_hint))
        raise


@contextlib.contextmanager
def quick_directory() -> Generator[Path]:
    """A temporary directory, on a memory file system if there is one: thousands of syncs cost nothing there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


# --- small disks ----------------------------------------------------------------------------------------------------


class SmallDisk:
    """A mounted tmpfs whose size can be set while it is in use.

    Args:
        place: The mount point.
    """

    def __init__(self, place: Path) -> None:
        self.place = place

    def leave(self, free: int) -> None:
        """Leave this many bytes free, rounded up to pages. Raises `Io` when the disk cannot be made that small."""
        found = os.statvfs(self.place)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        _command("mount", "-o", f"remount,size={used + free}", str(self.place))

    def freeze(self) -> None:
        """Make it read-only; writable again by `grow`. Raises `Io` while a file on it is open for writing."""
        _command("mount", "-o", "remount,ro", str(self.place))

    def grow(self) -> None:
        """Make it large enough for anything, and writable."""
        _command("mount", "-o", "remount,rw,size=64m", str(self.place))


@contextlib.contextmanager
def small_disk(place: Path, size: str = "64m") -> Generator[SmallDisk]:
    """Mount a tmpfs at `place` inside the block. Raises `Io` without the right to mount."""
    place.mkdir(exist_ok=True)
    _command("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(place))
    try:
        yield SmallDisk(place)
    finally:
        _command("umount", str(place))


def fill(place: Path) -> Path:
    """Fill the disk a directory is on; returns the file that takes the space, to be truncated or removed."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    return filler


def _command(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    except OSError as exc:
        raise Io(f"{words[0]}: {exc.strerror or exc}") from exc
    if done.returncode:
        raise Io(f"{' '.join(words)}: {done.stderr.strip()}")


if __name__ == "__main__":
    _serve()
