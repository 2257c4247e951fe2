"""Recording what the flows of a release write: every story once, against the local cloud, each into a file of its own.

    python -m tests.support.recorder tests/histories/0.2.0

The files are committed with the release and never changed afterwards; `tests/engine/test_recordings.py` and `flows
check --against DIR` try every later version on them. Until the release is out, `--again` replaces what was
recorded before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import trio
from systemprompt_cloud.cli.shared.log import configure_logging
from systemprompt_cloud.engine.engine import Engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.recordings import Recording, record_flow
from systemprompt_cloud.flows.checkout import start_checkout
from systemprompt_cloud.flows.deployment import start_deployment
from systemprompt_cloud.flows.login import start_login
from systemprompt_cloud.flows.onboarding import all_programs, start_onboarding
from systemprompt_cloud.flows.provisioning import start_provisioning
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.sandbox.browser import ScriptedBrowser

from tests.support.rehearsal import Rehearsal, interrupt_after, open_rehearsal, wait_for_state

HOME: Final = "/home/ada"
"""What the directory of the rehearsal is called in the recordings."""

EVERY_FLOW: Final = 1000

Start = Callable[[Engine], Awaitable[Flow]]
Play = Callable[[Rehearsal], Awaitable[None]]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happens to people.

    Attributes:
        tells: It, in a sentence.
        play: Makes it happen.
        faults: What goes wrong in the cloud.
        consent: What the person says to the login.
        payment: What the person does on the payment page.
    """

    tells: str
    play: Play
    faults: tuple[str, ...] = ()
    consent: Literal["approve", "deny"] = "approve"
    payment: Literal["pay", "decline", "pending"] = "pay"


def _login(rehearsal: Rehearsal) -> Start:
    return lambda engine: start_login(engine, rehearsal.login())


def _checkout(rehearsal: Rehearsal, **changes: Any) -> Start:
    rehearsal.log_in()
    return lambda engine: start_checkout(engine, rehearsal.checkout(**changes))


def _provisioning(rehearsal: Rehearsal) -> Start:
    rehearsal.log_in()
    tenant = rehearsal.buy().id
    return lambda engine: start_provisioning(engine, rehearsal.provisioning(tenant))


def _deployment(rehearsal: Rehearsal) -> Start:
    rehearsal.log_in()
    tenant = rehearsal.build().id
    return lambda engine: start_deployment(engine, rehearsal.deployment(tenant))


def _onboarding(rehearsal: Rehearsal) -> Start:
    return lambda engine: start_onboarding(engine, rehearsal.onboarding())


def _to_its_end(begin: Callable[[Rehearsal], Start]) -> Play:
    """From the start to an end, or to where it is parked."""

    async def play(rehearsal: Rehearsal) -> None:
        start = begin(rehearsal)
        async with rehearsal.open_engine() as engine:
            flow = await start(engine)
            with suppress(FlowParked):
                await flow.wait()

    return play


def _interrupted(begin: Callable[[Rehearsal], Start], changes: int) -> Play:
    """Stopped after so many changes, and gone on with by another process."""

    async def play(rehearsal: Rehearsal) -> None:
        start = begin(rehearsal)
        async with rehearsal.open_engine() as engine:
            await interrupt_after(engine, start, changes)
        async with rehearsal.open_engine() as engine:
            await (await start(engine)).wait()

    return play


async def _login_meanwhile(rehearsal: Rehearsal) -> None:
    start = _provisioning(rehearsal)
    async with rehearsal.open_engine() as engine:
        flow = await start(engine)
        with suppress(FlowParked):
            await flow.wait()
        rehearsal.log_in()
        await (await engine.resume(flow.id)).wait()


async def _repeated(rehearsal: Rehearsal) -> None:
    async def yes(_question: str) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    start = _checkout(rehearsal)
    async with rehearsal.open_engine(confirm=yes) as engine:
        await (await start(engine)).wait()


async def _found(rehearsal: Rehearsal) -> None:
    """Paused in doubt; then a person says which tenant was bought."""

    async def yes(_question: str) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    rehearsal.log_in()
    order = rehearsal.checkout(timeout=SOON)
    async with rehearsal.open_engine() as engine:
        with suppress(FlowParked):
            await (await start_checkout(engine, order)).wait()
    async with rehearsal.open_engine(confirm=yes) as engine:
        await (await start_checkout(engine, order)).wait()


async def _resumed(rehearsal: Rehearsal) -> None:
    """Paused in its parent; the tenant is provisioned again, and the same command comes back to it."""
    start = _onboarding(rehearsal)
    async with rehearsal.open_engine() as engine:
        with suppress(FlowParked):
            await (await start(engine)).wait()
    (tenant,) = rehearsal.cloud.tenants.values()
    rehearsal.cloud.provision_again(tenant)
    async with rehearsal.open_engine() as engine:
        await (await start(engine)).wait()


async def _cancelled(rehearsal: Rehearsal) -> None:
    rehearsal.browser = None
    start = _onboarding(rehearsal)
    async with rehearsal.open_engine() as engine:
        flow = await start(engine)
        await wait_for_state(flow, "logging_in")
        await rehearsal.wait_shown()
        await flow.cancel("changed my mind")


SOON: Final = 0.5
"""Seconds to pay where nobody reports the payment."""

LOST: Final = "lose-answer:path=/checkout"
LOST_DEPLOY: Final = "lose-answer:path=/deploy"
STORIES: Final[dict[str, Story]] = {
    "login": Story(tells="Somebody logs in.", play=_to_its_end(_login)),
    "login-denied": Story(tells="Somebody says no.", play=_to_its_end(_login), consent="deny"),
    "login-interrupted": Story(tells="The login goes on in another process.", play=_interrupted(_login, 2)),
    "checkout-paid": Story(tells="Somebody pays.", play=_to_its_end(_checkout)),
    "checkout-pending": Story(
        tells="The payment is pending for a while.", play=_to_its_end(_checkout), payment="pending"
    ),
    "checkout-declined": Story(tells="The payment is declined.", play=_to_its_end(_checkout), payment="decline"),
    "checkout-lost-answer": Story(
        tells="The answer is lost and asked for again under the same key.", play=_to_its_end(_checkout), faults=(LOST,)
    ),
    "checkout-unknown": Story(
        tells="The answer is lost, the server honours no keys, and nobody is there to decide.",
        play=_to_its_end(_checkout),
        faults=("no-idempotency", LOST),
    ),
    "checkout-repeated": Story(
        tells="The answer is lost, the server honours no keys, and a person has it created again.",
        play=_repeated,
        faults=("no-idempotency", LOST),
    ),
    "checkout-false-callback": Story(
        tells="The browser reports an error, and the event stream of a paid order reports a failure.",
        play=_to_its_end(_checkout),
        faults=("false-callback:says=error", "foreign-event:after=0", "false-event:after=1"),
    ),
    "checkout-false-tenant": Story(
        tells="The browser names a tenant of somebody else; the API never lists it.",
        play=_to_its_end(lambda rehearsal: _checkout(rehearsal, confirm_timeout=SOON)),
        faults=("false-callback:says=completed", "no-stream"),
    ),
    "checkout-found": Story(
        tells="Nobody reports the payment, and a person names the tenant.",
        play=_found,
        faults=("lost-callback", "no-stream"),
    ),
    "provisioning": Story(tells="A tenant becomes ready.", play=_to_its_end(_provisioning)),
    "provisioning-drop": Story(
        tells="The stream drops, polling takes over, the stream comes back.",
        play=_to_its_end(_provisioning),
        faults=("drop-stream:after=3,path=/events",),
    ),
    "provisioning-failed": Story(
        tells="The server gives up.", play=_to_its_end(_provisioning), faults=("provisioning-failure:after=4",)
    ),
    "provisioning-parked": Story(
        tells="The login is refused on the way; somebody logs in again, and it goes on.",
        play=_login_meanwhile,
        faults=("unauthorized:after=0,path=/status",),
    ),
    "provisioning-without-secrets": Story(
        tells="The tenant runs, and its secrets are not given out.",
        play=_to_its_end(_provisioning),
        faults=("error:status=410,path=/provisioned-secrets,times=0",),
    ),
    "deployment": Story(tells="A tenant gets an image and runs it.", play=_to_its_end(_deployment)),
    "deployment-failed": Story(
        tells="The server gives up on the image.", play=_to_its_end(_deployment), faults=("deploy-failure",)
    ),
    "deployment-interrupted": Story(
        tells="The deployment goes on in another process.", play=_interrupted(_deployment, 5)
    ),
    "deployment-lost-answer": Story(
        tells="The answer is lost and asked for again under the same key.",
        play=_to_its_end(_deployment),
        faults=(LOST_DEPLOY,),
    ),
    "deployment-unknown": Story(
        tells="The answer is lost, the server honours no keys, and nobody is there to decide.",
        play=_to_its_end(_deployment),
        faults=("no-idempotency", LOST_DEPLOY),
    ),
    "onboarding": Story(tells="From nothing to a running tenant.", play=_to_its_end(_onboarding)),
    "onboarding-interrupted": Story(
        tells="From nothing to a running tenant, in two processes.", play=_interrupted(_onboarding, 12)
    ),
    "onboarding-tenant-failed": Story(
        tells="The paid tenant fails, is provisioned again, and the onboarding continues with it.",
        play=_resumed,
        faults=("provisioning-failure:after=4",),
    ),
    "onboarding-cancelled": Story(tells="Cancelled while the login waits.", play=_cancelled),
}


async def record_story(release: str, name: str) -> Recording:
    """Play a story and record every flow in it.

    Args:
        release: The version of this package.
        name: One of `STORIES`.

    Raises:
        JournalCorrupted: What was written does not replay: this release is not fit to be recorded.
    """
    story = STORIES[name]
    person = ScriptedBrowser(consent=story.consent, payment=story.payment, patience=5.0)
    with tempfile.TemporaryDirectory() as directory, trio.fail_after(60):
        async with open_rehearsal(Path(directory), faults=story.faults, browser=person) as rehearsal:
            await story.play(rehearsal)
            machines = {each.machine.name: each.machine for each in all_programs(Services(rehearsal.paths))}
            with Journal(rehearsal.paths.journal) as journal:
                rows = sorted(journal.flows(limit=EVERY_FLOW), key=lambda row: row.id)
                flows = tuple(record_flow(journal, machines[row.machine], row) for row in rows)
        recording = Recording(release, name, story.tells, flows)
        # What lies on whose disk is nobody's business, and would differ each time.
        text = msgspec.json.encode(recording).decode().replace(str(Path(directory)), HOME)
        return msgspec.json.decode(text, type=Recording)


async def record_release(directory: Path, *, again: bool = False, stories: Sequence[str] = tuple(STORIES)) -> int:
    """Record stories into a directory that is named as the release; returns how many records that made.

    Raises:
        FileExistsError: A story is recorded there already, and `again` is false.
    """
    count = 0
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 nothing else runs
    for name in stories:
        path = directory / f"{name}.json"
        if path.exists() and not again:
            raise FileExistsError(f"{path} is recorded already; a release's histories never change")
        recording = await record_story(directory.name, name)
        count += sum(len(flow.moments) for flow in recording.flows)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(recording), indent=1) + b"\n")
    return count


def main(arguments: Sequence[str] | None = None) -> Any:
    """The command line; returns the exit code, or why it did not work."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.recorder", description=__doc__)
    parser.add_argument("directory", type=Path, help="named as the release, say tests/histories/0.2.0")
    parser.add_argument("--again", action="store_true", help="replace what was recorded before")
    given = parser.parse_args(arguments)
    configure_logging(0, None)
    try:
        count = trio.run(lambda: record_release(given.directory, again=given.again))
    except FileExistsError as exc:
        return str(exc)
    sys.stdout.write(f"{given.directory}: {len(STORIES)} stories, {count} records\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
