"""The records the local cloud's world is made of, and what is for sale in it.

A person's answer on a page is final: giving it again leads to the same place, and another answer is refused, so a
reload or a second click cannot log in twice or buy twice. `Page.settle` is that rule, once for both pages.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, Literal

import msgspec

from ..io.cloud.wire import OAuthProvider, Plan
from .answers import WireError
from .provisioning import BuildStep

PLANS: Final = (
    Plan(
        id="plan_sandbox_starter",
        name="Sandbox Starter",
        paddle_price_id="pri_sandbox_starter",
        memory_mb_default=512,
        volume_gb=1,
        max_tenants=1,
    ),
    Plan(
        id="plan_sandbox_team",
        name="Sandbox Team",
        paddle_price_id="pri_sandbox_team",
        memory_mb_default=2048,
        volume_gb=10,
        max_tenants=5,
    ),
    Plan(
        id="plan_sandbox_scale",
        name="Sandbox Scale",
        paddle_price_id="pri_sandbox_scale",
        memory_mb_default=8192,
        volume_gb=50,
    ),
)
PEOPLE: Final = (("Ada", "ada@sandbox.example"), ("Grace", "grace@sandbox.example"), ("Alan", "alan@sandbox.example"))

Payment = Literal["open", "pay", "pending", "decline"]


class Account(msgspec.Struct, frozen=True):
    """A person who can log in."""

    id: str
    email: str
    name: str


class Page(msgspec.Struct):
    """What a consent and a payment page share: where to go back to, the form's token, and the answer once given."""

    redirect_uri: str | None
    csrf: str
    answer: tuple[str, ...] | None = None
    location: str | None = None

    def settle(self, answer: tuple[str, ...]) -> bool:
        """Take the person's answer; True when it is the first one.

        Raises:
            WireError: 409 when another answer was given before.
        """
        if self.answer is None:
            self.answer = answer
            return True
        if self.answer != answer:
            raise WireError(409, "already_answered", "this page was answered already, and differently")
        return False


class Consent(Page, kw_only=True):
    """One login waiting for a person."""

    id: str
    provider: OAuthProvider


class Work(msgspec.Struct, frozen=True):
    """What is being done to a tenant whose infrastructure exists: `word` is its status meanwhile.

    `until` and `started` are moments on the world's clock; `messages` are spread evenly between them. `failure` is what
    shown when it failed.
    """

    word: str
    started: float
    until: float
    messages: tuple[str, ...]
    failure: str | None = None


class Domain(msgspec.Struct, frozen=True):
    """A tenant's own domain; `verified` is a moment on the world's clock, the stamps are RFC 3339."""

    name: str
    verified: float
    created_at: str
    verified_at: str


class SandboxTenant(msgspec.Struct, kw_only=True):
    """A tenant; `started` is the moment of the payment on the world's clock, and `steps` count from it.

    `passwords` and `sync_tokens` count rotations: the values are derived from these numbers and stored nowhere.
    """

    id: str
    slug: str
    name: str
    owner: Account
    plan: Plan
    region: str
    started: float
    checkout_session_id: str
    steps: tuple[BuildStep, ...]
    attempts: int = 1
    work: Work | None = None
    external_db_access: bool = False
    passwords: int = 0
    sync_tokens: int = 0
    secrets: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    domain: Domain | None = None
    subscribed: bool = True
    deleted: bool = False


class Checkout(Page, kw_only=True):
    """One purchase, from the API call to the person's answer."""

    id: str
    transaction_id: str
    owner: Account
    plan: Plan
    region: str
    payment: Payment = "open"
    tenant: SandboxTenant | None = None


class Deployment(msgspec.Struct, frozen=True):
    """A deployment that was accepted, and whether it goes well."""

    tenant_id: str
    image: str
    succeeds: bool


class CallLedger(msgspec.Struct):
    """What happened, for tests: effects that took place, and requests by method and path template.

    `changes` counts what was done to tenants, by the name of the call; a repetition that changes nothing more, such as
    cancelling what is cancelled, is not counted. No secret is in it.
    """

    checkouts: int = 0
    tenants: int = 0
    activities: list[Any] = msgspec.field(default_factory=list[Any])
    deployments: list[Deployment] = msgspec.field(default_factory=list[Deployment])
    changes: Counter[str] = msgspec.field(default_factory=Counter[str])
    requests: Counter[str] = msgspec.field(default_factory=Counter[str])
    replayed: int = 0
