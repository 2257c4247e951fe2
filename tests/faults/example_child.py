"""The processes of an example that are killed: a zygote as in `crash_child.py`, and one fork of it for each run.

    python -m tests.faults.example_child

A fork runs the example's file as `python FILE WORDS` does, with the probe installed before the first line of it.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path

import msgspec

from tests.faults.crash_child import SECONDS, Said
from tests.faults.crash_probe import Point, Probe
from tests.support.fork_server import LATE


class ExampleJob(msgspec.Struct, frozen=True, kw_only=True):
    """One run of an example.

    Attributes:
        words: The example's file, and what follows it on the command line.
        home: The directory whose files are watched.
        out: The file that its stdout and stderr are appended to.
        target: The point to be killed at.
        trace: Whether to report every point that is passed.
    """

    words: tuple[str, ...]
    home: str
    out: str
    target: Point | None = None
    trace: bool = False


def zygote() -> None:
    """Read jobs from stdin until it ends; fork for each, and report the fork's exit code."""
    for name in ("systemprompt_cloud.engine.engine", "systemprompt_cloud.io.sse.event_source", *LATE):
        importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin.buffer:
        job = msgspec.json.decode(line, type=ExampleJob)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(SECONDS)
                code = _run(job)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        _say(1, Said(exit=os.waitstatus_to_exitcode(status)))


_write = os.write  # bound before the probe patches it


def _say(where: int, said: Said) -> None:
    _write(where, msgspec.json.encode(said) + b"\n")


def _run(job: ExampleJob) -> int:
    reports = os.dup(1)
    out = os.open(job.out, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)

    def met(point: Point) -> None:
        if job.trace or point == job.target:
            _say(reports, Said(met=point))

    Probe(Path(job.home), met, job.target).install()
    sys.argv[:] = job.words
    try:
        runpy.run_path(job.words[0], run_name="__main__")
    except BaseException:  # noqa: BLE001 as an interpreter does
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    zygote()
