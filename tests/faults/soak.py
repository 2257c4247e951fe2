"""Run many flows for minutes under every fault, and check that each ends in the state the cloud reports.

    python -m tests.faults.soak --flows 200 --minutes 10

One process drives the flows, another is the cloud, and a plan made from a seed decides what happens to each tenant and
when (`soak_plan.py`). Streams break, stall, and send repeated or invalid events; calls fail and lose their answers;
both processes get SIGKILL at random and start again. In the last two fifths nothing is killed, and memory is measured.
Then the records are checked:

- Is there one flow for every tenant, and did it end in the state the cloud reports?
- Does every history fold to its row? Was any progress reported twice, or out of order?
- Was an outward effect requested under more than one key? Does the store hold exactly the tenants that are ready?
- Did the worker's memory stay the same?

The plan and the faults follow from the seed; which instruction a SIGKILL hits does not. A failed run keeps its files.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.loopback.serving import bind_loopback

from tests.faults.soak_plan import STREAM_FAULTS, Plan, build_world
from tests.faults.soak_verdict import Report, examine

FINISH_SECONDS = 60.0
SAMPLE_SECONDS = 0.25
SHORTEST_LIFE = 4.0
SHOWN = 20
"""The most problems that are printed."""


class _Process:
    """One of the two processes, restarted after each kill."""

    def __init__(self, plan: Plan, module: str, log: IO[bytes]) -> None:
        self._plan = plan
        self._module = module
        self._log = log
        self.killed: list[float] = []
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._running = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.{self._module}", str(_plan_file(self._plan)), str(len(self.killed))],
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None
        self.killed.append(time.monotonic())

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._running.poll() if self._running is not None else None

    def resident_bytes(self) -> int | None:
        """Its resident set; None before it has begun to work, and on systems without `/proc`."""
        try:
            if int((self._plan.place / "at-work").read_text()) != (self._running.pid if self._running else 0):
                return None
            statm = Path(f"/proc/{self._running.pid if self._running else 0}/statm").read_text()
            return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return None


def _plan_file(plan: Plan) -> Path:
    return plan.place / "plan.json"


def make_plan(directory: Path, *, flows: int, seconds: float, seed: int, harsh: bool = True) -> Plan:
    """Plan a soak that begins in a second, and write its plan and a login to its directory.

    Args:
        directory: An empty directory.
        flows: How many run at the same time.
        seconds: Until the last tenant's end.
        seed: Decides the tenants, the faults and the kills.
        harsh: False for a run in which only streams break, every tenant becomes ready, and nothing is killed.
    """
    with bind_loopback(0) as free:
        port: int = free.getsockname()[1]
    epoch = time.monotonic() + 1.0
    plan = Plan(directory=str(directory), port=port, flows=flows, seconds=seconds, seed=seed, epoch=epoch, harsh=harsh)
    if not harsh:
        plan = msgspec.structs.replace(plan, faults=STREAM_FAULTS)
    _plan_file(plan).write_bytes(msgspec.json.encode(plan))
    world, _ = build_world(plan)
    account = world.accounts[0]
    CloudCredentials(
        api_token=world.tokens.issue(account.id, account.email),
        api_url=plan.url,
        authenticated_at=datetime.now(UTC),
        user_email=account.email,
    ).save_to_path(plan.paths.credentials)
    return plan


def run_soak(plan: Plan) -> Report:
    """Run a plan to its end, and check what is left."""
    with (plan.place / "log").open("ab") as log:
        cloud, worker = _Process(plan, "soak_cloud", log), _Process(plan, "soak_worker", log)
        sizes: list[tuple[float, int]] = []
        try:
            cloud.start()
            worker.start()
            _disturb(plan, cloud, worker, sizes)
            code = worker.code
        finally:
            worker.kill()
            cloud.kill()
    problems = [] if code == 0 else [f"the worker did not finish: {'still running' if code is None else code}"]
    return examine(plan, cloud.killed[:-1], worker.killed[:-1], sizes, problems)


def _disturb(plan: Plan, cloud: _Process, worker: _Process, sizes: list[tuple[float, int]]) -> None:
    rng = random.Random(f"kills:{plan.seed}")  # noqa: S311 no secret
    next_worker, next_cloud = _life(plan, rng, 12), _life(plan, rng, 6)
    cloud_back = 0.0
    while worker.code is None and (now := time.monotonic() - plan.epoch) < plan.seconds + FINISH_SECONDS:
        if (size := worker.resident_bytes()) is not None:
            sizes.append((now, size))
        quiet = not plan.harsh or now > plan.kills_until
        if not quiet and now > next_worker:
            worker.kill()
            worker.start()
            next_worker = now + _life(plan, rng, 12)
        if not quiet and not cloud_back and now > next_cloud:
            cloud.kill()
            cloud_back = now + rng.uniform(0.1, min(5.0, plan.seconds / 20))
            next_cloud = now + _life(plan, rng, 6)
        if cloud_back and now > cloud_back:
            cloud.start()
            cloud_back = 0.0
        time.sleep(SAMPLE_SECONDS)


def _life(plan: Plan, rng: random.Random, lives: int) -> float:
    """Seconds until the next kill: about `lives` kills in a run, but never before the process can have started."""
    return rng.uniform(0.5, 1.5) * max(SHORTEST_LIFE, plan.seconds / lives)


def table(report: Report) -> str:
    """The report as text, one figure a line."""
    lines: dict[str, object] = {
        "seed": report.seed,
        "flows at a time": report.flows,
        "seconds": f"{report.seconds:.0f}",
        "tenants, each with a flow": report.tenants,
        "ended": ", ".join(f"{state} {count}" for state, count in sorted(report.ended.items())),
        "worker killed with SIGKILL": report.worker_kills,
        "cloud killed with SIGKILL": report.cloud_kills,
        "flows resumed": report.taken_up,
        "flows paused": report.parked,
        "streams lost, reopened": f"{report.stream_losses}, {report.stream_returns}",
        "status requests": report.polls,
        "flows reporting out of order": report.out_of_order,
        "tenants misled about order": report.misled,
        "faults that occurred": sum(report.faults.values()),
        **{f"  {name}": count for name, count in sorted(report.faults.items())},
        "silence after a broken stream": (
            f"p50 {report.silence_p50:.2f} s, p99 {report.silence_p99:.2f} s, "
            f"worst {report.silence_worst:.2f} s of {report.silences}"
        ),
        "worker's memory, MB": (
            f"{report.first_bytes / 1e6:.1f}, later {report.last_bytes / 1e6:.1f}, most {report.most_bytes / 1e6:.1f}"
        ),
        "stuck, wrong, repeated": len(report.problems),
    }
    shown = report.problems[:SHOWN]
    more = [f"and {len(report.problems) - SHOWN} more"] if len(report.problems) > SHOWN else []
    return "\n".join([*(f"{name:<30} {value}" for name, value in lines.items()), *shown, *more])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 if no problem was found, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--flows", type=int, default=200, help="at the same time")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))  # noqa: S311 no secret
    parser.add_argument("--streams-only", action="store_true", help="only streams break, and nothing is killed")
    parser.add_argument("--json", action="store_true", help="the report as one line of JSON")
    wanted = parser.parse_args(argv)
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    plan = make_plan(
        directory,
        flows=wanted.flows,
        seconds=wanted.minutes * 60,
        seed=wanted.seed,
        harsh=not wanted.streams_only,
    )
    report = run_soak(plan)
    sys.stdout.write((msgspec.json.encode(report).decode() if wanted.json else table(report)) + "\n")
    if report.problems:
        sys.stderr.write(f"the files are in {directory}\n")
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
