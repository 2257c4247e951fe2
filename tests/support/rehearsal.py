"""A rehearsal: every flow against the local cloud, with a real journal and a scripted person, in one directory.

    async with open_rehearsal(directory, faults=["drop-stream:after=3"]) as rehearsal:
        async with rehearsal.open_engine() as engine:
            flow = await start_onboarding(engine, rehearsal.onboarding())
            outcome = await flow.wait()

Theory. What a durable flow promises can only be seen over several processes: one that stops anywhere and one that goes
on. So the parts have the lifetimes they have in the world. The cloud and the browser's tabs live as long as the
rehearsal; an engine, with its connections, lives as long as its `async with`, and opening another one on the same
directory is what starting the command again is. Everything is real, only quicker: sockets on loopback, files on disk,
waits of milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
from msgspec.structs import replace
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.errors import FlowParked
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.history import Change
from systemprompt_cloud.errors import Network, PortBusy
from systemprompt_cloud.flows.onboarding import all_programs
from systemprompt_cloud.flows.outside import Confirm
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.cloud.api import CloudApiClient
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.io.loopback.browser import BrowserOutcome
from systemprompt_cloud.machines.checkout import CheckoutContext
from systemprompt_cloud.machines.deployment import DeploymentContext
from systemprompt_cloud.machines.login import LoginContext
from systemprompt_cloud.machines.onboarding import OnboardingContext
from systemprompt_cloud.machines.provisioning import ProvisioningContext
from systemprompt_cloud.sandbox import Fault, World
from systemprompt_cloud.sandbox.app import build_app
from systemprompt_cloud.sandbox.browser import PageVisit, ScriptedBrowser
from systemprompt_cloud.sandbox.serving import serve_app
from systemprompt_cloud.sandbox.state import PLANS, SandboxTenant

from tests.support.ports import own_port

PLAN: Final = PLANS[0].id
REGION: Final = "fra"
IMAGE: Final = "registry.example/team/app:1.2"
CLIENT_ATTEMPTS: Final = 2
TRIES: Final = 5
"""Ports that are tried for the cloud."""
"""How often a call is tried here before its failure reaches the flow."""


class Shown(msgspec.Struct, frozen=True):
    """A URL the person was shown: what for, and whether a tab may be open from before. It may hold a nonce."""

    purpose: str
    url: str
    again: bool


class Rehearsal:
    """What `open_rehearsal` gives.

    Attributes:
        paths: Where the files are.
        cloud: The local cloud's world; its `ledger` says what happened there.
        browser: The person; replace it to have somebody else at the browser from now on, None for nobody.
        shown: Every URL the person was shown, in order.
        tabs: Where each tab ended, in order.
    """

    def __init__(self, paths: CloudPaths, cloud: World, browser: ScriptedBrowser | None, nursery: trio.Nursery) -> None:
        self.paths = paths
        self.cloud = cloud
        self.browser = browser
        self.shown: list[Shown] = []
        self.tabs: list[PageVisit] = []
        self._nursery = nursery
        self._port, self._login_port, self._checkout_port = own_port(), own_port(), own_port()
        self._serving = trio.CancelScope()
        self._down = trio.Event()
        self._news = trio.lowlevel.ParkingLot()

    @property
    def url(self) -> str:
        """The cloud's base URL; the same when it comes up again."""
        return f"http://127.0.0.1:{self._port}"

    # --- the cloud ----------------------------------------------------------------------------------------------

    async def come_up(self) -> None:
        """Let the cloud answer, on the port it had before. Raises `PortBusy` if somebody took it meanwhile."""
        self._serving, self._down = trio.CancelScope(), trio.Event()
        await self._nursery.start(self._serve)

    async def come_up_anywhere(self) -> None:
        """Let the cloud answer for the first time, on another port where somebody was quicker."""
        for _ in range(TRIES):
            try:
                await self.come_up()
            except PortBusy:
                self._port = own_port()
            else:
                return
        raise AssertionError(f"{TRIES} ports that nobody listened on were taken")

    async def go_down(self) -> None:
        """Take the cloud off the network; what it knows, it keeps. Returns when connections are refused."""
        self._serving.cancel()
        await self._down.wait()

    async def _serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self._serving:
            async with serve_app(build_app(self.cloud), port=self._port, grace=0.05) as self._port:
                task_status.started()
                await trio.sleep_forever()
        self._down.set()

    # --- the person ---------------------------------------------------------------------------------------------

    async def open_tab(self, url: str) -> BrowserOutcome:
        """Open a URL in the person's browser; the tab outlives the engine that asked for it."""
        if self.browser is None:
            return BrowserOutcome(opened=False, reason="nobody is at the browser")
        self._nursery.start_soon(self._visit, self.browser, url)
        return BrowserOutcome(opened=True, reason="")

    async def _visit(self, browser: ScriptedBrowser, url: str) -> None:
        try:
            self.tabs.append(await browser.visit(url))
        except Network:
            self.tabs.append(PageVisit(url, None, ""))
        self._news.unpark_all()

    def _show(self, purpose: str, url: str, again: bool) -> None:
        self.shown.append(Shown(purpose, url, again))
        self._news.unpark_all()

    async def wait_shown(self, count: int = 1) -> Shown:
        """Wait until the person was shown so many URLs; returns the last of them. The callback is listened for then."""
        await trio.lowlevel.checkpoint()
        while len(self.shown) < count:
            await self._news.park()
        return self.shown[count - 1]

    async def wait_tab(self, count: int = 1) -> PageVisit:
        """Wait until so many tabs have come to their end; returns the last of them."""
        await trio.lowlevel.checkpoint()
        while len(self.tabs) < count:
            await self._news.park()
        return self.tabs[count - 1]

    # --- what was there before ----------------------------------------------------------------------------------

    def log_in(self, person: int = 0) -> str:
        """Store good credentials of one of the cloud's accounts without a login; returns the token."""
        account = self.cloud.accounts[person]
        token = self.cloud.tokens.issue(account.id, account.email)
        credentials = CloudCredentials(
            api_token=token, api_url=self.url, authenticated_at=datetime.now(UTC), user_email=account.email
        )
        credentials.save_to_path(self.paths.credentials)
        return token

    def buy(self, person: int = 0) -> SandboxTenant:
        """A tenant that was paid for this moment, without a checkout flow."""
        checkout = self.cloud.open_checkout(self.cloud.accounts[person], PLANS[0], REGION, None)
        self.cloud.answer_payment(checkout, "pay")
        assert checkout.tenant is not None
        return checkout.tenant

    def build(self, person: int = 0) -> SandboxTenant:
        """A tenant that was paid for an hour ago: as far as it can come by itself."""
        tenant = self.buy(person)
        tenant.started -= 3600.0
        return tenant

    # --- the flows ----------------------------------------------------------------------------------------------

    def login(self, **changes: Any) -> LoginContext:
        """A login at this cloud, on this rehearsal's port for it."""
        return replace(LoginContext(api_url=self.url, port=self._login_port, timeout=20.0), **changes)

    def checkout(self, **changes: Any) -> CheckoutContext:
        """A checkout of the smallest plan, on this rehearsal's port for it."""
        port = self._checkout_port
        order = CheckoutContext(
            api_url=self.url, plan=PLAN, region=REGION, port=port, timeout=20.0, tenant_timeout=20.0, look_timeout=0.3
        )
        return replace(order, **changes)

    def provisioning(self, tenant_id: str, **changes: Any) -> ProvisioningContext:
        """The wait for a tenant."""
        return replace(ProvisioningContext(api_url=self.url, tenant_id=tenant_id, timeout=20.0), **changes)

    def deployment(self, tenant_id: str, **changes: Any) -> DeploymentContext:
        """An image for a tenant; a status that does not change is believed soon."""
        wanted = DeploymentContext(api_url=self.url, tenant_id=tenant_id, image=IMAGE, timeout=20.0, settle=0.3)
        return replace(wanted, **changes)

    def onboarding(self, **changes: Any) -> OnboardingContext:
        """All of it, on this rehearsal's ports."""
        wanted = OnboardingContext(
            api_url=self.url,
            plan=PLAN,
            region=REGION,
            login_port=self._login_port,
            checkout_port=self._checkout_port,
            look_timeout=0.3,
        )
        return replace(wanted, **changes)

    @asynccontextmanager
    async def open_engine(self, *, confirm: Confirm | None = None, **changes: Any) -> AsyncGenerator[Engine]:
        """An engine with every program and connections of its own: what one run of the command is.

        Args:
            confirm: Answers questions; None when nobody is there to be asked.
            changes: Anything else `Services` takes, instead of this rehearsal's quick settings.
        """
        quick: dict[str, Any] = {
            "show_url": self._show,
            "open_browser": self.open_tab,
            "confirm": confirm,
            "poll_seconds": 0.05,
            "idle_seconds": 0.5,
            "backoff": Backoff(base=0.02, cap=0.2),
            "make_client": quick_client,
        }
        async with (
            Services(self.paths, **{**quick, **changes}) as services,
            open_engine(self.paths, all_programs(services)) as engine,
        ):
            yield engine


def quick_client(api_url: str, token: str | None) -> CloudApiClient:
    """An API client that gives up soon."""
    return CloudApiClient(api_url, token, timeout=5.0, attempts=CLIENT_ATTEMPTS, backoff=Backoff(base=0.01, cap=0.02))


@asynccontextmanager
async def open_rehearsal(
    directory: Path,
    *,
    faults: Sequence[Fault | str] = (),
    step_seconds: float = 0.02,
    wall: Callable[[], float] = time.time,
    browser: ScriptedBrowser | None = None,
    nobody: bool = False,
) -> AsyncGenerator[Rehearsal]:
    """A local cloud, a person at a browser, and a directory for the files, for as long as the block runs.

    Args:
        directory: Where `.systemprompt` is made.
        faults: What shall go wrong in the cloud; see `sandbox.FAULTS`.
        step_seconds: Seconds per provisioning step, of which there are ten.
        wall: Seconds since 1970 as the cloud sees it, for the stamps in its tokens.
        browser: The person; by default one who approves and pays.
        nobody: True for no person at all.
    """
    home = directory / ".systemprompt"
    paths = CloudPaths(directory=home, state_directory=home, origin="explicit")
    cloud = World(faults=faults, step_seconds=step_seconds, wall=wall)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        rehearsal = Rehearsal(paths, cloud, None if nobody else browser or ScriptedBrowser(patience=5.0), nursery)
        await rehearsal.come_up_anywhere()
        try:
            yield rehearsal
        except Exception as exc:  # noqa: BLE001 raised below as it is, not wrapped in the nursery's group
            failure = exc
        finally:
            cloud.close()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def interrupt_after(engine: Engine, start: Callable[[Engine], Awaitable[Flow]], changes: int) -> bool:
    """Start or go on with a flow and return after so many of the engine's changes; leave the engine then.

    Args:
        engine: Freshly opened.
        start: Starts the flow.
        changes: Counted over the flow and its children.

    Returns:
        False when the flow ended before that; True when it is to be interrupted now.
    """
    interrupted = False
    with engine.feed.subscribe() as feed:
        flow = await start(engine)
        async with trio.open_nursery() as nursery:

            async def until_ended() -> None:
                await flow.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_ended)
            for _ in range(changes):
                await feed.receive()
            interrupted = True
            nursery.cancel_scope.cancel()
    return interrupted


async def wait_for_change(flow: Flow, wanted: Callable[[Change], bool]) -> Change:
    """Wait until a change of a flow is the wanted one, past ones included.

    Raises:
        LookupError: The flow ended, or was parked, without it.
    """
    async with aclosing(flow.changes()) as changes:
        async for change in changes:
            if wanted(change):
                return change
    raise LookupError(f"{flow.row.machine} {flow.id} stands in {flow.state} and that did not happen")


async def wait_parked(flow: Flow) -> FlowParked:
    """Wait until a flow is parked; what parked it. Raises `LookupError` when it ends instead."""
    try:
        outcome = await flow.wait()
    except FlowParked as parked:
        return parked
    raise LookupError(f"{outcome.machine} {flow.id} was not parked; it ended: {outcome.state}")


async def wait_for_state(flow: Flow, state: str) -> Change:
    """Wait until a flow has entered a state. Raises `LookupError` when it ends elsewhere."""
    return await wait_for_change(flow, lambda change: change.to_state == state)
