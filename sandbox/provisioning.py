"""How a tenant comes into being, as a pure function of the time since it was paid for.

There is no background task that "provisions". A timeline is a list of steps with the moment each happens; what has
happened by now is the steps whose moment has come. Streams, the status call and `/auth/me` all read the same timeline,
so they cannot disagree, a client that connects late gets the same history, and a test that moves the clock moves
everything at once.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..io.wire import ProvisioningEventType as Event

MESSAGES: Final[dict[Event, str]] = {
    Event.SUBSCRIPTION_CREATED: "Sandbox subscription created",
    Event.TENANT_CREATED: "Tenant registered",
    Event.DATABASE_CREATED: "Database created",
    Event.SECRETS_STORED: "Secrets stored",
    Event.VM_PROVISIONING_STARTED: "Starting a virtual machine",
    Event.VM_PROVISIONING_PROGRESS: "The virtual machine is booting",
    Event.VM_PROVISIONED: "The virtual machine runs",
    Event.SECRETS_CONFIGURED: "Secrets handed to the machine",
    Event.INFRASTRUCTURE_READY: "Infrastructure ready",
    Event.TENANT_READY: "Your sandbox tenant is ready",
}
"""The steps in the order they happen, with what people are told."""

FAILURE: Final = "The virtual machine did not start (a scripted sandbox failure)"


class Step(msgspec.Struct, frozen=True):
    """One step: `number` counts from 1 and is the event's id in a stream; `offset` is seconds since the payment."""

    number: int
    offset: float
    event_type: Event
    status: str
    message: str


def timeline(step_seconds: float, *, fail_after: int | None = None, needs_deploy: bool = False) -> tuple[Step, ...]:
    """The whole history a tenant will have.

    Args:
        step_seconds: Seconds per step; the first step happens one step after the payment.
        fail_after: Fail after this many steps; None = do not.
        needs_deploy: Stop at `infrastructure_ready`, because there is no image to run yet.
    """
    types = list(MESSAGES)
    if needs_deploy:
        types = types[: types.index(Event.INFRASTRUCTURE_READY) + 1]
    if fail_after is not None:
        # It never fails after having succeeded.
        types = [*types[: min(fail_after, len(types) - 1)], Event.PROVISIONING_FAILED]
    return tuple(
        Step(
            number=number,
            offset=number * step_seconds,
            event_type=event,
            status=_status(event),
            message=MESSAGES.get(event, FAILURE),
        )
        for number, event in enumerate(types, start=1)
    )


def _status(event: Event) -> str:
    if event is Event.TENANT_READY:
        return "ready"
    return "failed" if event is Event.PROVISIONING_FAILED else "provisioning"


def reached(steps: tuple[Step, ...], started: float, now: float, after: int = 0) -> list[Step]:
    """The steps newer than `after` that have happened at `now`, for a payment at `started` (seconds of one clock)."""
    # The moment is summed as whoever waits for it sums it, so that a rounding can never make a wait end too early.
    return [step for step in steps if step.number > after and started + step.offset <= now]
