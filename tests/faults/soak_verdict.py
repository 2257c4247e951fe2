"""The check of a soak, from the records alone: the journal, the tenant store, and the cloud's log."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
from systemprompt_cloud.base.moments import parse_moment
from systemprompt_cloud.engine.fold import check_flow
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import FlowRow, Record
from systemprompt_cloud.flows.onboarding import all_programs
from systemprompt_cloud.io.local.tenants import TenantStore
from systemprompt_cloud.sandbox.provisioning import MESSAGES

from tests.faults.soak_cloud import Seen, seen_by_the_cloud
from tests.faults.soak_plan import Plan, build_world
from tests.faults.soak_worker import EVERY_FLOW, soak_services

FLAT_BYTES = 8_000_000
"""Bytes a worker may grow by in the undisturbed time: a process that has just started still imports modules."""
_TOLD = {text: rank for rank, text in enumerate(MESSAGES.values())}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a soak.

    Attributes:
        flows: How many ran at the same time.
        seconds: The duration.
        seed: The plan's seed.
        tenants: How many there were.
        ended: Flows by the state they ended in.
        worker_kills: How often the worker was killed.
        cloud_kills: How often the cloud was killed.
        taken_up: How often a flow was resumed.
        parked: How often a flow was paused until a person acts.
        stream_losses: Streams the flows lost.
        stream_returns: Streams the flows reopened.
        out_of_order: Flows that reported an older event after a newer one; a problem unless the server misled them.
        misled: Tenants whose server's words may have been older than they looked.
        polls: Status requests.
        faults: How often each fault occurred, by name.
        silence_p50: Seconds from a broken stream to the server's next event, where no process was killed in between.
        silence_p99: Likewise.
        silence_worst: Likewise.
        silences: How many of them were measured.
        first_bytes: The worker's memory in the first half of the undisturbed time (median).
        last_bytes: In the second half.
        most_bytes: The largest sample.
        problems: The broken promises, a sentence each.
    """

    flows: int
    seconds: float
    seed: int
    tenants: int
    ended: dict[str, int]
    worker_kills: int
    cloud_kills: int
    taken_up: int
    parked: int
    stream_losses: int
    stream_returns: int
    out_of_order: int
    misled: int
    polls: int
    faults: dict[str, int]
    silence_p50: float
    silence_p99: float
    silence_worst: float
    silences: int
    first_bytes: float
    last_bytes: float
    most_bytes: float
    problems: list[str]


def examine(
    plan: Plan,
    cloud_kills: Sequence[float],
    worker_kills: Sequence[float],
    sizes: Sequence[tuple[float, int]],
    problems: Sequence[str] = (),
) -> Report:
    """Check the records after both processes have ended.

    Args:
        plan: The soak's plan.
        cloud_kills: When the cloud was killed.
        worker_kills: When the worker was.
        sizes: Samples of the worker's memory: seconds after the beginning, bytes.
        problems: Problems found before.
    """
    found = list(problems)
    with Journal(plan.paths.journal) as journal:
        rows = journal.flows(limit=EVERY_FLOW)
        histories = {row.id: journal.records(row.id) for row in rows}
        found += journal.integrity_problems()
        programs = all_programs(soak_services(plan))
        for row in rows:
            found += check_flow(journal, programs, row)
        told = {flow: _told(history) for flow, history in histories.items()}
    found += [
        f"flow {flow} reported twice: {message}"
        for flow, story in told.items()
        for message, times in Counter(story).items()
        if times > 1
    ]
    went_back = [flow for flow, story in told.items() if not _is_forward(story)]
    seen = seen_by_the_cloud(plan)
    misled = {f"{plan.url}|{tenant}" for each in seen for tenant in each.misled}
    keys_of = {row.id: row.key for row in rows}
    found += [f"flow {flow} reported out of order: {told[flow]}" for flow in went_back if keys_of[flow] not in misled]
    found += _wrong_ends(plan, rows)
    keys: dict[str, set[str]] = {}
    for each in seen:
        for tenant, used in each.keys.items():
            keys.setdefault(tenant, set()).update(used)
    found += [
        f"the database of {tenant} was opened under {len(used)} keys" for tenant, used in keys.items() if len(used) > 1
    ]
    first, last = _memory(plan, sizes)
    if last > first + FLAT_BYTES:
        found.append(f"the worker grew from {first / 1e6:.1f} MB to {last / 1e6:.1f} MB")
    silences = sorted(_silences(plan, seen, rows, histories, worker_kills)) or [0.0]
    names = Counter(record.name for history in histories.values() for record in history if record.kind == "event")
    kinds = Counter(record.kind for history in histories.values() for record in history)
    return Report(
        flows=plan.flows,
        seconds=time.monotonic() - plan.epoch,
        seed=plan.seed,
        tenants=len(plan.tenants()),
        ended=dict(Counter(row.state if row.status == "ended" else f"{row.status} in {row.state}" for row in rows)),
        worker_kills=len(worker_kills),
        cloud_kills=len(cloud_kills),
        taken_up=kinds["resumed"],
        parked=kinds["paused"],
        stream_losses=names["StreamLost"],
        stream_returns=names["StreamReturned"],
        out_of_order=len(went_back),
        misled=len(misled),
        polls=sum(each.requests.get("GET /api/v1/tenants/{id}/status", 0) for each in seen),
        faults=dict(sum((Counter(each.struck) for each in seen), Counter[str]())),
        silence_p50=silences[len(silences) // 2],
        silence_p99=silences[len(silences) * 99 // 100],
        silence_worst=silences[-1],
        silences=len(silences),
        first_bytes=first,
        last_bytes=last,
        most_bytes=max((size for _, size in sizes), default=0),
        problems=found,
    )


def _silences(
    plan: Plan,
    seen: Sequence[Seen],
    rows: Sequence[FlowRow],
    histories: dict[str, list[Record]],
    worker_kills: Sequence[float],
) -> Iterator[float]:
    """Seconds without news for each flow whose stream broke.

    A stream that breaks while it is being reopened does not count: polling continues at its pace.
    """
    lost = {
        row.key: [parse_moment(each.at).timestamp() for each in histories[row.id] if _is_loss(each)] for row in rows
    }
    to_wall = time.time() - time.monotonic()
    for silence in (silence for each in seen for silence in each.silences):
        noticed = any(silence.broke <= at <= silence.heard for at in lost.get(f"{plan.url}|{silence.tenant}", ()))
        killed = any(silence.broke <= kill + to_wall <= silence.heard for kill in worker_kills)
        if noticed and not killed:
            yield silence.heard - silence.broke


def _is_loss(record: Record) -> bool:
    return record.kind == "event" and record.name == "StreamLost"


def _wrong_ends(plan: Plan, rows: Sequence[FlowRow]) -> Iterator[str]:
    by_key: dict[str | None, list[FlowRow]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    _, tenants = build_world(plan)
    stored = {tenant.id: tenant for tenant in TenantStore.load_from_path(plan.paths.tenants).tenants}
    for planned, tenant in zip(plan.tenants(), tenants, strict=True):
        flows = by_key.pop(f"{plan.url}|{tenant.id}", [])
        if len(flows) != 1:
            yield f"tenant {tenant.id} has {len(flows)} flows"
            continue
        (flow,) = flows
        wanted = "ready" if planned.end == "ready" else "failed"
        if flow.status != "ended":
            yield f"flow {flow.id} is stuck in {flow.state}, {flow.status} {flow.trouble}; its tenant is {planned.end}"
        elif flow.state != wanted:
            yield f"flow {flow.id} ended in {flow.state}; the tenant is {planned.end}"
        held = stored.pop(tenant.id, None)
        if (held is not None and bool(held.sync_token)) != (flow.state == "ready"):
            yield f"tenant {tenant.id} is {'not ' if held is None else ''}in the store, and its flow is {flow.state}"
    yield from (f"flow {flow.id} belongs to no tenant of the plan" for flows in by_key.values() for flow in flows)
    yield from (f"the store holds the tenant {tenant}, which no flow waited for" for tenant in stored)


class _Words(msgspec.Struct):
    message: str = ""


def _told(history: Sequence[Record]) -> list[str]:
    """The progress messages of a flow, in order."""
    return [
        words.message
        for record in history
        if record.kind == "event" and record.name in {"StepObserved", "TenantBecameReady"}
        if (words := msgspec.json.decode(record.body, type=_Words)).message
    ]


def _is_forward(story: Sequence[str]) -> bool:
    ranks = [_TOLD[message] for message in story if message in _TOLD]
    return ranks == sorted(ranks)


def _memory(plan: Plan, sizes: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """The median size in each half of the samples taken while nothing was killed and tenants still began."""
    begin, end = plan.kills_until + 0.05 * plan.seconds, 0.95 * plan.seconds
    seen = [size for at, size in sizes if begin <= at < end]
    middle = len(seen) // 2
    return statistics.median(seen[:middle] or [0]), statistics.median(seen[middle:] if middle else [0])
