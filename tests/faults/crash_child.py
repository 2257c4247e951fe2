"""The processes that are killed: a zygote that has imported everything, and one fork of it for each run of a flow.

    python -m tests.faults.crash_child

Theory. A run has to be a real process, or SIGKILL would prove nothing; and there are thousands of runs, so it must not
cost the half second that starting an interpreter and importing everything takes. The zygote imports, starts no thread
and no event loop, and forks for each job. Jobs and results are lines of JSON on its stdin and stdout.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import trio
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.history import Outcome
from systemprompt_cloud.engine.live import LiveFlow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.visit import Intent
from systemprompt_cloud.flows.checkout import start_checkout
from systemprompt_cloud.flows.deployment import start_deployment
from systemprompt_cloud.flows.login import start_login
from systemprompt_cloud.flows.onboarding import all_programs, start_onboarding
from systemprompt_cloud.flows.provisioning import start_provisioning
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.io.loopback.browser import BrowserOutcome
from systemprompt_cloud.machines.checkout import CHECKOUT
from systemprompt_cloud.machines.deployment import DEPLOYMENT
from systemprompt_cloud.machines.login import LOGIN
from systemprompt_cloud.machines.onboarding import ONBOARDING
from systemprompt_cloud.machines.provisioning import PROVISIONING

from tests.faults.crash_probe import Point, Probe, replace_in
from tests.support.rehearsal import quick_client

SECONDS: Final = 20
"""Seconds after which a run counts as hung."""

STARTS: Final[dict[str, tuple[Machine[Any], Any]]] = {
    "login": (LOGIN, start_login),
    "checkout": (CHECKOUT, start_checkout),
    "provisioning": (PROVISIONING, start_provisioning),
    "deployment": (DEPLOYMENT, start_deployment),
    "onboarding": (ONBOARDING, start_onboarding),
}
"""The flows that can be run: the machine, and the function that starts it."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run: the same as starting the command in this directory.

    Attributes:
        home: Where the files are.
        machine: Which flow to start, if none was started here before.
        context: Its context, as JSON.
        target: The point to be killed at.
        trace: Whether to report every point that is passed.
        answer: The answer to a confirmation; None to run non-interactively.
        careless: Do outward effects without announcing them: a bug, to check that it is detected.
    """

    home: str
    machine: str
    context: str
    target: Point | None = None
    trace: bool = False
    answer: bool | None = None
    careless: bool = False


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line on the zygote's stdout: exactly one field is set."""

    shown: str | None = None
    met: Point | None = None
    outcome: Outcome | None = None
    parked: str | None = None
    failed: str | None = None
    exit: int | None = None


def zygote() -> None:
    """Read jobs from stdin until it ends; fork for each, and report the fork's exit code."""
    gc.freeze()
    for line in sys.stdin.buffer:
        job = msgspec.json.decode(line, type=Job)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(SECONDS)
                code = _run_job(job)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        _say(Said(exit=os.waitstatus_to_exitcode(status)))


_write: Final = os.write  # bound before the probe patches it


def _say(said: Said) -> None:
    # One write of less than PIPE_BUF bytes is never torn or mixed with another (POSIX write()).
    _write(1, msgspec.json.encode(said) + b"\n")


def _run_job(job: Job) -> int:
    home = Path(job.home)
    # No warnings: skipped and repeated work is expected in these runs.
    logging.basicConfig(level=logging.ERROR, force=True)

    def met(point: Point) -> None:
        if job.trace or point == job.target:
            _say(Said(met=point))

    if job.careless:
        replace_in(LiveFlow, "announce", _announce_nothing)
    if job.trace or job.target is not None:
        Probe(home, met, job.target).install()
    try:
        trio.run(_run, job, home)
    except BaseException as exc:  # noqa: BLE001 the process reports the error and ends
        _say(Said(failed="".join(traceback.format_exception(exc))[-3000:]))
        return 1
    return 0


async def _announce_nothing(_live: LiveFlow, effect: str, _incarnation: int) -> Intent:
    return Intent(f"{effect}:{os.getpid()}", uncertain=False)


async def _run(job: Job, home: Path) -> None:
    paths = CloudPaths(directory=home, state_directory=home, origin="explicit")

    async def confirm(_question: str) -> bool:
        return bool(job.answer)

    async def open_browser(_url: str) -> BrowserOutcome:
        return BrowserOutcome(opened=True, reason="")  # crash_stage.py opens the address

    async with (
        Services(
            paths,
            show_url=lambda _purpose, url, _again: _say(Said(shown=url)),
            open_browser=open_browser,
            confirm=None if job.answer is None else confirm,
            poll_seconds=0.05,
            idle_seconds=0.4,
            backoff=Backoff(base=0.02, cap=0.1),
            make_client=quick_client,
        ) as services,
        open_engine(paths, all_programs(services)) as engine,
    ):
        with engine.feed.subscribe():  # a subscriber, as at a terminal
            flow = await _start_or_resume(engine, job)
            try:
                said = Said(outcome=await flow.wait())
            except FlowParked as exc:
                said = Said(parked=exc.kind)
    _say(said)


async def _start_or_resume(engine: Engine, job: Job) -> Flow:
    """Resume the flow if there is one, as `flows resume` does, or start it, as the command does."""
    if found := engine.journal.flows(roots_only=True, limit=1):
        return await engine.resume(found[0].id)
    machine, start = STARTS[job.machine]
    return cast("Flow", await start(engine, machine.decode_context(job.context)))


if __name__ == "__main__":
    zygote()
