"""The state of the local cloud: accounts, purchases, tenants and the clock.

One object, no I/O, no tasks. Endpoints read and change it synchronously, so every request sees a consistent state and
no lock is needed. Provisioning is not a task but a function of the clock (`provisioning.py`). The clocks are arguments:
`now` for durations, `wall` for the timestamps in tokens.

Streams wait for a moment or a change. `World.wait_until` does both: it returns at the moment, or earlier when anything
changed, and its caller checks the state again.
"""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Callable, Iterable

import trio

from ..io.cloud.wire import OAuthProvider, Plan
from ..io.cloud.wire import ProvisioningEventType as Event
from .answers import WireError, unauthorized
from .faults import Fault, FaultPlan
from .provisioning import BuildStep, continued, reached, timeline
from .redirects import check_redirect_uri, with_query
from .state import PEOPLE, Account, CallLedger, Checkout, Consent, SandboxTenant
from .tokens import LIFETIME, Keyring, TokenOffice


class World:
    """The whole state of one local cloud.

    Args:
        seed: See `tokens.Keyring`; ids and secrets depend on it and on the order of calls only.
        faults: Faults, or their text; see `faults.FAULTS`.
        step_seconds: Seconds per provisioning step (ten of them).
        now: The world's clock in seconds, from any origin; only differences count. When it is not trio's own, call
            `wake` after moving it.
        wall: Seconds since 1970, for the timestamps in tokens.
        token_lifetime: Seconds from login to expiry.
    """

    def __init__(
        self,
        *,
        seed: int | None = 0,
        faults: Iterable[Fault | str] = (),
        step_seconds: float = 0.3,
        now: Callable[[], float] = trio.current_time,
        wall: Callable[[], float] = time.time,
        token_lifetime: float = LIFETIME,
    ) -> None:
        self.keys = Keyring(seed)
        self.tokens = TokenOffice(self.keys.signing_key, wall=wall, lifetime=token_lifetime)
        self.faults = FaultPlan(faults, seed)
        self.step_seconds = step_seconds
        self.now = now
        self.wall = wall
        self.ledger = CallLedger()
        self.closed = False
        self.behind = False
        self.secrets_given: set[str] = set()
        self.outage_until: float | None = None
        self.accounts = tuple(
            Account(f"usr_sandbox_{self.keys.derive('account:' + email)}", email, name) for name, email in PEOPLE
        )
        self.consents: dict[str, Consent] = {}
        self.checkouts: dict[str, Checkout] = {}
        self.tenants: dict[str, SandboxTenant] = {}
        self._changed = trio.Event()

    @property
    def honours_idempotency(self) -> bool:
        """False under the fault `no-idempotency`."""
        return self.faults.active("no-idempotency") is None

    # --- time ---

    def wake(self) -> None:
        """Wake every `wait_until`, so that its caller checks the state again."""
        self._changed.set()
        self._changed = trio.Event()

    def close(self) -> None:
        """End every stream and every wait, for good."""
        self.closed = True
        self.wake()

    async def wait_until(self, moment: float) -> None:
        """Wait until the world's clock reaches `moment`, or until anything changes, whichever is first."""
        changed = self._changed
        left = moment - self.now()
        if self.closed or left <= 0:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(left):
            await changed.wait()

    def as_of(self, moment: float) -> World:
        """The same world as a replica shows it that stopped at a moment on the world's clock."""
        behind = copy.copy(self)
        behind.now = lambda: moment
        behind.behind = True
        return behind

    # --- login ---

    def open_consent(self, provider: OAuthProvider, redirect_uri: str | None) -> Consent:
        """Begin a login: a consent page that sends the browser to `redirect_uri`; `WireError` 400 when it may not."""
        # Not seeded: only the secrecy of this id keeps other programs on this computer from answering the page.
        consent = Consent(
            id=secrets.token_urlsafe(24),
            provider=provider,
            redirect_uri=check_redirect_uri(redirect_uri),
            csrf=secrets.token_urlsafe(24),
        )
        self.consents[consent.id] = consent
        return consent

    def answer_consent(self, consent: Consent, decision: str, email: str | None) -> str:
        """Take the person's decision, `approve` or `deny`; returns the URL to send the browser to."""
        account = next((account for account in self.accounts if account.email == email), None)
        if decision not in {"approve", "deny"} or (decision == "approve" and account is None):
            raise WireError(400, "invalid_answer", "choose an account and approve, or deny")
        answer = (decision, account.id) if decision == "approve" and account else (decision,)
        if consent.settle(answer):
            parameters = (
                {"access_token": self.tokens.issue(account.id, account.email)}
                if decision == "approve" and account
                else {"error": "access_denied", "error_description": "Login denied"}
            )
            consent.location = with_query(consent.redirect_uri or "", parameters)
        return consent.location or ""

    def account_of(self, authorization: str | None) -> Account:
        """The account behind an `Authorization` header; `WireError` 401 when there is none."""
        claims = self.tokens.check(authorization)
        for account in self.accounts:
            if account.id == claims.sub:
                return account
        raise unauthorized("invalid_token", "the token's account does not exist in this sandbox")

    # --- checkout ---

    def open_checkout(self, owner: Account, plan: Plan, region: str, redirect_uri: str | None) -> Checkout:
        """Begin a purchase; `WireError` 400, and no purchase, when the browser may not be sent to `redirect_uri`."""
        if redirect_uri is not None:
            check_redirect_uri(redirect_uri)
        self.ledger.checkouts += 1
        mark = self.keys.derive(f"checkout:{self.ledger.checkouts}", 20)
        checkout = Checkout(
            id=f"cs_sandbox_{mark}",
            transaction_id=f"txn_sandbox_{self.keys.derive('transaction:' + mark)}",
            owner=owner,
            plan=plan,
            region=region,
            redirect_uri=redirect_uri,
            csrf=secrets.token_urlsafe(24),
        )
        self.checkouts[checkout.id] = checkout
        return checkout

    def answer_payment(self, checkout: Checkout, decision: str) -> str | None:
        """Take the person's decision, `pay`, `pending` or `decline`; returns the URL to go back to, if there is one."""
        if decision not in {"pay", "pending", "decline"}:
            raise WireError(400, "invalid_answer", "pay, pay later or decline")
        if checkout.settle((decision,)):
            checkout.payment = "pay" if decision == "pay" else "pending" if decision == "pending" else "decline"
            parameters = {"error": "payment_declined", "checkout_session_id": checkout.id}
            if decision != "decline":
                tenant = checkout.tenant = self._create_tenant(checkout)
                parameters = {"status": "pending", "checkout_session_id": checkout.id}
                if decision == "pay":
                    parameters = {
                        "status": "completed",
                        "transaction_id": checkout.transaction_id,
                        "tenant_id": tenant.id,
                        "checkout_session_id": checkout.id,
                    }
            if fault := self.faults.strike("false-callback", f"/sandbox/pay/{checkout.id}"):
                parameters = _false_callback(str(fault.parameters["says"]), checkout)
            lost = self.faults.strike("lost-callback", f"/sandbox/pay/{checkout.id}") is not None
            known = checkout.redirect_uri is not None and not lost
            checkout.location = with_query(checkout.redirect_uri or "", parameters) if known else None
            self.wake()
        return checkout.location

    def _create_tenant(self, checkout: Checkout) -> SandboxTenant:
        self.ledger.tenants += 1
        slug = f"sandbox-{self.keys.derive('tenant:' + checkout.id, 8)}"
        tenant = SandboxTenant(
            id=f"tnt_{slug.replace('-', '_')}",
            slug=slug,
            name=f"{checkout.plan.name} {self.ledger.tenants}",
            owner=checkout.owner,
            plan=checkout.plan,
            region=checkout.region,
            started=self.now(),
            checkout_session_id=checkout.id,
            steps=timeline(self.step_seconds, fail_after=self._fails_after(1), needs_deploy=self._needs_deploy),
        )
        self.tenants[tenant.id] = tenant
        return tenant

    @property
    def _needs_deploy(self) -> bool:
        return self.faults.active("needs-deploy") is not None

    def _fails_after(self, attempt: int) -> int | None:
        """After how many steps a tenant's nth attempt fails; None when it succeeds."""
        failure = self.faults.active("provisioning-failure")
        if failure is None or 0 < failure.number("times") < attempt:
            return None
        return int(failure.number("after"))

    def checkout_of(self, owner: Account, checkout_session_id: str) -> Checkout:
        """The owner's checkout; 404 for everybody else's as well, so that ids cannot be probed."""
        checkout = self.checkouts.get(checkout_session_id)
        if checkout is None or checkout.owner != owner or (checkout.tenant is not None and checkout.tenant.deleted):
            raise WireError(404, "checkout_not_found", "no checkout of yours has this id")
        return checkout

    # --- tenants ---

    def tenants_of(self, owner: Account) -> list[SandboxTenant]:
        """The owner's tenants, oldest first."""
        return [tenant for tenant in self.tenants.values() if tenant.owner == owner and self._knows(tenant)]

    def _knows(self, tenant: SandboxTenant) -> bool:
        return not self.behind or tenant.started <= self.now()

    def tenant_of(self, owner: Account, tenant_id: str) -> SandboxTenant:
        """The owner's tenant; 404 for everybody else's as well."""
        tenant = self.tenants.get(tenant_id)
        if tenant is None or tenant.owner != owner or not self._knows(tenant):
            raise WireError(404, "tenant_not_found", "no tenant of yours has this id")
        return tenant

    def steps_of(self, tenant: SandboxTenant, after: int = 0) -> list[BuildStep]:
        """What has happened to the tenant so far, newer than step `after`."""
        return reached(tenant.steps, tenant.started, self.now(), after)

    def has_reached(self, tenant: SandboxTenant, event: Event) -> bool:
        """Whether this step is in the tenant's history by now."""
        return any(step.event_type is event for step in self.steps_of(tenant))

    def has_infrastructure(self, tenant: SandboxTenant) -> bool:
        """Whether the tenant has an infrastructure, running or not."""
        reached = self.has_reached(tenant, Event.INFRASTRUCTURE_READY)
        return reached and not self.has_reached(tenant, Event.PROVISIONING_FAILED)

    def provision_again(self, tenant: SandboxTenant) -> None:
        """Retry a failed provisioning; its steps continue after the failure."""
        tenant.attempts += 1
        tenant.steps = continued(
            tenant.steps,
            tenant.started,
            self.now(),
            self.step_seconds,
            fail_after=self._fails_after(tenant.attempts),
            needs_deploy=self._needs_deploy,
        )
        self.wake()

    def delete(self, tenant: SandboxTenant) -> None:
        """Delete a tenant and end its streams."""
        tenant.deleted = True
        del self.tenants[tenant.id]
        self.wake()


def _false_callback(says: str, checkout: Checkout) -> dict[str, str]:
    """What a browser brings back that has nothing to do with what was paid."""
    if says == "completed":
        return {"status": "completed", "transaction_id": "txn_sandbox_other", "tenant_id": "tnt_sandbox_other"}
    if says == "pending":
        return {"status": "pending", "checkout_session_id": checkout.id}
    return {"error": "payment_declined"} if says == "error" else {"status": "unknown"}
