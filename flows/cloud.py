"""The entry point for tools that embed the flows: one object, one method for each flow.

    async with open_cloud(show_url=lambda purpose, url, again: print(purpose, url)) as cloud:
        flow = await cloud.onboard(plan="starter", region="iad")
        outcome = await flow.wait()

Each method starts its flow, or resumes the unfinished one that was asked for the same thing; all of them return at
once with a `Flow`. Leaving the block leaves running flows resumable.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from ..engine.engine import Engine, open_engine
from ..engine.flow import Flow
from ..engine.given import kind_of
from ..io.cloud.wire import PRODUCTION_URL, OAuthProvider
from ..io.local.environment import environment_api_url
from ..io.local.paths import CloudPaths, resolve_cloud_paths
from ..io.local.project import current_directory
from ..io.loopback.browser import open_browser
from ..machines.checkout import CheckoutContext
from ..machines.deployment import DeploymentContext
from ..machines.login import LoginContext
from ..machines.onboarding import OnboardingContext
from ..machines.parts.defaults import BROWSER_SECONDS, CHECKOUT_PORT, LOGIN_PORT, TENANT_SECONDS
from ..machines.provisioning import ProvisioningContext
from .checkout import start_checkout
from .deployment import start_deployment
from .login import start_login
from .onboarding import all_programs, start_onboarding
from .outside import Confirm, OpenBrowser, ShowUrl, show_nothing
from .provisioning import start_provisioning
from .services import Services


class Cloud:
    """An open engine that knows every flow, for one API.

    Attributes:
        api_url: The API the flows talk to.
        engine: The engine, for everything that is not here.
        services: What the flows were handed.
    """

    def __init__(self, api_url: str, engine: Engine, services: Services) -> None:
        self.api_url = api_url
        self.engine = engine
        self.services = services

    async def log_in(
        self,
        *,
        provider: str = OAuthProvider.GITHUB,
        port: int = LOGIN_PORT,
        timeout: float = BROWSER_SECONDS,
        token: str | None = None,
        keyring: bool | None = None,
    ) -> Flow:
        """Log in through the browser, or with a token that is there already.

        Args:
            provider: `github` or `google`.
            port: Where the browser comes back to, 0 for any free port.
            timeout: Seconds the person has.
            token: Skips the browser.
            keyring: Whether the token is kept in the system's keyring instead of the file. None: as the variable
                SYSTEMPROMPT_KEYRING says, else where the login that is replaced was kept.

        Raises:
            FlowBusy: Another process is at the same login.
        """
        context = LoginContext(
            api_url=self.api_url, provider=str(provider), port=port, timeout=timeout, keyring=keyring
        )
        return await start_login(self.engine, context, token=token)

    async def check_out(
        self, *, plan: str, region: str, port: int = CHECKOUT_PORT, timeout: float = BROWSER_SECONDS
    ) -> Flow:
        """Buy a tenant; needs a login.

        Args:
            plan: A plan's id or name.
            region: One of `REGIONS`.
            port: Where the browser comes back to, 0 for any free port.
            timeout: Seconds the person has to pay.

        Raises:
            FlowBusy: Another process is at the same checkout.
        """
        context = CheckoutContext(api_url=self.api_url, plan=plan, region=region, port=port, timeout=timeout)
        return await start_checkout(self.engine, context)

    async def provision(self, tenant_id: str, *, timeout: float = TENANT_SECONDS, external_db: bool = False) -> Flow:
        """Wait until a tenant runs, and store it; needs a login.

        Args:
            tenant_id: The tenant.
            timeout: Seconds it may take.
            external_db: Open its database to the outside.

        Raises:
            FlowBusy: Another process waits for the same tenant.
        """
        context = ProvisioningContext(
            api_url=self.api_url, tenant_id=tenant_id, timeout=timeout, external_db=external_db
        )
        return await start_provisioning(self.engine, context)

    async def deploy(self, tenant_id: str, image: str, *, timeout: float = TENANT_SECONDS) -> Flow:
        """Run an image on a tenant, and wait until it runs; needs a login.

        Args:
            tenant_id: The tenant.
            image: As it was pushed: `host/path:tag`.
            timeout: Seconds it may take from when the server has begun.

        Raises:
            InvalidImage: It is no image's name.
            DeploymentUnfinished: Another image is being deployed to the tenant; the error names the flow.
            FlowBusy: Another process is at the same deployment.
        """
        context = DeploymentContext(api_url=self.api_url, tenant_id=tenant_id, image=image, timeout=timeout)
        return await start_deployment(self.engine, context)

    async def onboard(
        self,
        *,
        plan: str,
        region: str,
        provider: str = OAuthProvider.GITHUB,
        login_port: int = LOGIN_PORT,
        checkout_port: int = CHECKOUT_PORT,
        external_db: bool = False,
    ) -> Flow:
        """From nothing to a running tenant: log in when that is needed, buy, wait, store.

        Args:
            plan: A plan's id or name.
            region: One of `REGIONS`.
            provider: `github` or `google`.
            login_port: Where the browser comes back to after the login, 0 for any free port.
            checkout_port: Where it comes back to after the payment, 0 for any free port.
            external_db: Open the tenant's database to the outside.

        Raises:
            FlowBusy: Another process is at the same onboarding.
        """
        context = OnboardingContext(
            api_url=self.api_url,
            plan=plan,
            region=region,
            provider=str(provider),
            login_port=login_port,
            checkout_port=checkout_port,
            external_db=external_db,
        )
        return await start_onboarding(self.engine, context)

    async def resume(self, flow: str) -> Flow:
        """Resume a flow in the state it is in.

        Args:
            flow: Its id, or the beginning of it.

        Raises:
            FlowNotFound: There is none, or several begin so.
            FlowBusy: Another process drives it.
            IncompatibleFlow: Another version of its machine wrote it.
        """
        return await self.engine.resume((await self.engine.find(flow)).id)


@asynccontextmanager
async def open_cloud(
    api_url: str | None = None,
    *,
    directory: Path | None = None,
    show_url: ShowUrl = show_nothing,
    open_browser: OpenBrowser | None = open_browser,
    confirm: Confirm | None = None,
) -> AsyncGenerator[Cloud, None]:
    """Open everything the flows need, for as long as the block runs.

    Args:
        api_url: The API; the environment's SYSTEMPROMPT_API_URL, else production, when not given.
        directory: Where the files are; found as the command line finds them when not given.
        show_url: Called with (purpose, url, again) before a browser is opened.
        open_browser: Opens a URL; None leaves that to whoever `show_url` shows it to.
        confirm: Asks a person a yes-or-no question; None when nobody is there.

    Raises:
        JournalCorrupted: The journal is damaged; it was set aside.
        JournalTooNew: A newer version wrote it.
        Io: A directory or file cannot be made.
        RuntimeError: It is not trio that runs here; docs/guides/embed.md says what to do.
        TypeError: An argument is of another type; nothing was opened.
    """
    _check_given(api_url, directory, {"show_url": show_url, "open_browser": open_browser, "confirm": confirm})
    paths: CloudPaths = resolve_cloud_paths(directory, os.environ, current_directory())
    async with (
        Services(paths, show_url=show_url, open_browser=open_browser, confirm=confirm, environ=os.environ) as services,
        open_engine(paths, all_programs(services)) as engine,
    ):
        yield Cloud(api_url or environment_api_url(os.environ) or PRODUCTION_URL, engine, services)


def _check_given(api_url: object, directory: object, functions: Mapping[str, object]) -> None:
    """Check what `open_cloud` is given. Raises `TypeError`."""
    if api_url is not None and not isinstance(api_url, str):
        raise TypeError(f"open_cloud: api_url is a str, not {kind_of(api_url)}")
    if directory is not None and not isinstance(directory, str | os.PathLike):
        raise TypeError(f"open_cloud: directory is a pathlib.Path, not {kind_of(directory)}")
    for name, function in functions.items():
        if not callable(function) and not (function is None and name != "show_url"):
            raise TypeError(f"open_cloud: {name} is a function, not {kind_of(function)}")
