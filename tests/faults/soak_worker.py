"""The worker of a soak, as a process: `python -m tests.faults.soak_worker PLAN`.

It does what a program that embeds the flows does: takes up what is unfinished, starts a flow for every tenant when its
time has come, takes a parked flow up again as a person would who has logged in again. It knows nothing but the plan and
the journal, so it may be killed at any instruction and started again. It ends by itself when every flow has ended.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
import trio
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.journal.records import UNFINISHED
from systemprompt_cloud.flows.onboarding import all_programs
from systemprompt_cloud.flows.provisioning import start_provisioning
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.http.open_files import allow_open_files
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.machines.provisioning import ProvisioningContext

from tests.faults.soak_plan import Plan, build_world

EVERY_FLOW = 1_000_000
LOOK_SECONDS = 0.5
SPARE_FILES = 256


def soak_services(plan: Plan) -> Services:
    """The flows' services: the defaults but for a short idle timeout, so that a soak reaches it."""
    return Services(plan.paths, open_browser=None, idle_seconds=min(30.0, plan.seconds / 8), backoff=Backoff(cap=5.0))


async def run_worker(plan: Plan) -> None:
    """Start and resume flows until all have ended."""
    allow_open_files(2 * plan.flows + SPARE_FILES)
    _, tenants = build_world(plan)
    planned = list(zip(plan.tenants(), tenants, strict=True))
    async with (
        soak_services(plan) as services,
        open_engine(plan.paths, all_programs(services)) as engine,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(_note_work, plan, engine)
        known = {row.key for row in engine.journal.flows(limit=EVERY_FLOW)}
        looked = 0.0
        for each, tenant in planned:
            context = ProvisioningContext(
                api_url=plan.url, tenant_id=tenant.id, external_db=each.external_db, timeout=plan.seconds + 600
            )
            if f"{plan.url}|{tenant.id}" in known:
                continue
            if time.monotonic() - looked > LOOK_SECONDS:
                await _take_up(engine)
                looked = time.monotonic()
            while (left := plan.epoch + each.begins - time.monotonic()) > 0:
                await trio.sleep(min(left, LOOK_SECONDS))
                await _take_up(engine)
                looked = time.monotonic()
            await start_provisioning(engine, context)
        while engine.journal.flows(statuses=UNFINISHED, limit=1):
            await trio.sleep(LOOK_SECONDS)
            await _take_up(engine)
        nursery.cancel_scope.cancel()


async def _note_work(plan: Plan, engine: Engine, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Write this process's id to `at-work` after the first event from the server: every import is done by then."""
    with engine.feed.subscribe() as feed:
        task_status.started()
        async for change in feed:
            if change.kind == "event":
                (plan.place / "at-work").write_text(str(os.getpid()))
                return


async def _take_up(engine: Engine) -> None:
    for row in engine.journal.flows(statuses=UNFINISHED, limit=EVERY_FLOW):
        if row.status == "paused" or engine.driven(row.id) is None:
            try:
                await engine.resume(row.id)
            except CloudError as exc:
                sys.stderr.write(f"{row.id} cannot be resumed: {exc.kind}: {exc.user_message}\n")


if __name__ == "__main__":
    trio.run(run_worker, msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan))
