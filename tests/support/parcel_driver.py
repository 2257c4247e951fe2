"""A process of its own that drives a parcel and does what it is told, until it is killed.

    python -m tests.support.parcel_driver DIRECTORY

It prints the flow's id. Each line it is given is an event for the flow: `Stamped`, `Packed`, `Delivered`; an empty one
closes the engine.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import trio
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.parcel import PARCEL, Parcel, parcel

ROOT = Path(__file__).parents[2]


class ParcelDriver:
    """Such a process, as a test has it.

    Attributes:
        flow: The flow it drives.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.flow = process.stdout.readline().strip()

    def send(self, event: str) -> None:
        """Have it send its flow an event; empty to have it close its engine."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{event}\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()


@contextmanager
def parcel_driver(paths: CloudPaths) -> Generator[ParcelDriver]:
    """A process that drives a new flow; it does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__, str(paths.directory)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield ParcelDriver(process)
        finally:
            process.kill()


async def _main(directory: Path) -> None:
    events = {each.__name__: each for each in PARCEL.events.values()}
    paths = CloudPaths(directory=directory, state_directory=directory, origin="explicit")
    async with open_engine(paths, [parcel()]) as engine:
        flow = await engine.start(PARCEL, Parcel(), key="driven")
        sys.stdout.write(f"{flow.id}\n")
        sys.stdout.flush()
        while name := (await trio.to_thread.run_sync(sys.stdin.readline)).strip():
            await flow.send(events[name]())


if __name__ == "__main__":
    trio.run(_main, Path(sys.argv[1]))
