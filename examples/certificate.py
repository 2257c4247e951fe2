"""A certificate order: approved by a person, placed once, proven by a DNS record, followed until it is issued.

    python examples/certificate.py DIRECTORY order DOMAIN URL       # URL: what `python examples/authority.py` prints
    python examples/certificate.py DIRECTORY approve DOMAIN NAME    # from another terminal, also before a restart

Kill the order at any moment, with `kill -9` too, and run the same command again: it continues.
"""

import sys
from pathlib import Path

import httpx
import systemprompt_cloud.engine as sp
import trio
from msgspec.structs import asdict, replace
from systemprompt_cloud import EventSource


class Order(sp.Context, frozen=True, kw_only=True):
    domain: str
    authority: str
    by: str = ""
    url: str = ""
    certificate: str = ""


class Approved(sp.Event, frozen=True):
    by: str


class Placed(sp.Event, frozen=True):
    url: str


class Proven(sp.Event, frozen=True): ...


class Issued(sp.Event, frozen=True):
    certificate: str


def remember(order: Order, event: sp.Event) -> Order:
    return replace(order, **asdict(event))  # a field of the event is one of the order


STATES = [
    sp.State("awaiting_approval", "waiting for approval", timeout=7 * 86400.0, late="continue"),
    sp.State("ordering", "placing the order", effect="places the order", resume=sp.ResumePolicy.RETRY),
    sp.State("proving", "proving control of the domain", child="challenge", timeout=3600.0, late="continue"),
    sp.State("issuing", "waiting for the certificate", timeout=3600.0, late="continue"),
    sp.State("issued", "the certificate is issued", verdict=sp.Verdict.SUCCESS),
    sp.State("expired", "out of time", verdict=sp.Verdict.FAILURE),
    sp.State("cancelled", "cancelled", verdict=sp.Verdict.CANCELLED),
]
ROWS = [
    sp.on(Approved, "awaiting_approval", "ordering", update=remember),
    sp.on(Placed, "ordering", "proving", update=remember),
    sp.on(Proven, "proving", "issuing"),
    sp.on(Issued, "issuing", "issued", update=remember),
    sp.on(sp.DeadlinePassed, sp.ANY, "expired"),
    sp.on(sp.CancelRequested, sp.ANY, "cancelled"),
]
CERTIFICATE = sp.Machine("certificate", version=1, initial="awaiting_approval", context=Order, states=STATES, rows=ROWS)

STEPS = [
    sp.State("proving", "showing the DNS record", effect="changes the DNS", resume=sp.ResumePolicy.RETRY),
    sp.State("proven", "the domain is proven", verdict=sp.Verdict.SUCCESS),
    sp.State("cancelled", "cancelled", verdict=sp.Verdict.CANCELLED),
]
ENDS = [sp.on(Proven, "proving", "proven"), sp.on(sp.CancelRequested, "proving", "cancelled")]
CHALLENGE = sp.Machine("challenge", version=1, initial="proving", context=Order, states=STEPS, rows=ENDS)


async def call(method: str, url: str, text: str = "", key: str = "") -> dict[str, str]:
    async with httpx.AsyncClient() as client:
        answer = await client.request(method, url, content=text, headers={"Idempotency-Key": key})
        return answer.raise_for_status().json()


async def place(visit: sp.Visit[Order]) -> sp.Event:
    intent = await visit.announce("order")  # after a crash the same key: the authority places one order
    return Placed(**await call("POST", f"{visit.context.authority}/orders", visit.context.domain, intent.key))


async def prove(visit: sp.Visit[Order]) -> sp.Event:
    outcome = await visit.run_child(CHALLENGES, visit.context)
    return Proven() if outcome.succeeded else sp.CancelRequested("the challenge was cancelled")


async def show_record(visit: sp.Visit[Order]) -> sp.Event:
    await visit.announce("record")
    record = f"{visit.context.authority}/dns/_acme-challenge.{visit.context.domain}"
    await call("PUT", record, visit.context.url)
    await call("POST", f"{visit.context.url}/check")  # an error, so tried again, until the authority sees the record
    await call("DELETE", record)  # a challenge that is cancelled before leaves its record
    return Proven()


async def follow(visit: sp.Visit[Order]) -> sp.Event:
    async with httpx.AsyncClient() as client, EventSource.at(client, f"{visit.context.url}/events") as source:
        return Issued((await anext(source)).data)


async def poll(visit: sp.Visit[Order]) -> sp.Event:
    while True:
        await trio.sleep(2.0)
        if certificate := (await call("GET", visit.context.url))["certificate"]:
            return Issued(certificate)


PATIENT = sp.Retry(100, backoff=0.2, on=(httpx.HTTPError, sp.CloudError))
CHALLENGES = sp.Program(CHALLENGE, {"proving": [sp.activity(show_record, retry=PATIENT)]})
ACTIVITIES = {
    "awaiting_approval": [sp.await_signal],
    "ordering": [sp.activity(place, retry=PATIENT)],
    "proving": [prove],
    "issuing": [sp.activity(follow, retry=PATIENT), sp.activity(poll, retry=PATIENT)],
}
PROGRAMS = [sp.Program(CERTIFICATE, ACTIVITIES), CHALLENGES]


async def main(*words: str) -> None:
    directory, command, domain, given = words
    async with sp.open_engine(sp.EnginePaths.inside(Path(directory)), PROGRAMS, wake=command == "order") as engine:
        if command == "approve":
            (row,) = await engine.flows(machine=CERTIFICATE, key=domain)
            await engine.send(row.id, Approved(by=given))
            return
        order = Order(domain=domain, authority=given)
        flow = await engine.start(CERTIFICATE, order, key=domain, after_end="return", why="handover")
        async for change in flow.changes(children=True):
            print(change.machine, change.kind, change.to_state, change.message, flush=True)
        print((await flow.wait()).result["certificate"] or "no certificate")


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
