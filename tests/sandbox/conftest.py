"""What the local cloud's tests share: a plain httpx client, and short cuts past the pages.

The cloud's own client is not used here on purpose: the two sides of the wire are checked against
docs/reference/wire.md separately.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import httpx
import pytest
from systemprompt_cloud.sandbox import Sandbox
from systemprompt_cloud.sandbox.state import PLANS, Checkout, SandboxTenant

Bearer = Callable[..., dict[str, str]]
Buy = Callable[[Sandbox], Checkout]
Paid = Callable[[Sandbox], SandboxTenant]


def events_url(sandbox: Sandbox, tenant: SandboxTenant) -> str:
    return f"{sandbox.url}/api/v1/tenants/{tenant.id}/events"


@pytest.fixture
async def http() -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client that follows no redirect and knows no proxy."""
    async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=5.0) as client:
        yield client


@pytest.fixture
def bearer() -> Bearer:
    """The headers of somebody logged in, without going through the page."""

    def headers(sandbox: Sandbox, person: int = 0) -> dict[str, str]:
        account = sandbox.cloud.accounts[person]
        return {"Authorization": f"Bearer {sandbox.cloud.tokens.issue(account.id, account.email)}"}

    return headers


@pytest.fixture
def buy() -> Buy:
    """A checkout of the first account, not yet paid."""

    def checkout(sandbox: Sandbox) -> Checkout:
        return sandbox.cloud.open_checkout(sandbox.cloud.accounts[0], PLANS[0], "fra", None)

    return checkout


@pytest.fixture
def paid(buy: Buy) -> Paid:
    """A tenant of the first account, just paid for."""

    def tenant(sandbox: Sandbox) -> SandboxTenant:
        checkout = buy(sandbox)
        sandbox.cloud.answer_payment(checkout, "pay")
        assert checkout.tenant is not None
        return checkout.tenant

    return tenant
