"""How a tenant comes into being, as a pure function of the time since it was paid for.

There is no background task that "provisions". A timeline is a list of steps with the moment each happens; what has
happened by now is the steps whose moment has come. Streams, the status call and `/auth/me` all read the same timeline,
so they cannot disagree, a client that connects late gets the same history, and a test that moves the clock moves
everything at once.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from ..io.cloud.wire import ProvisioningEventType as Event

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


class BuildStep(msgspec.Struct, frozen=True):
    """One step: `number` counts from 1 and is the event's id in a stream; `offset` is seconds since the payment."""

    number: int
    offset: float
    event_type: Event
    status: str
    message: str


def timeline(
    step_seconds: float, *, fail_after: int | None = None, needs_deploy: bool = False
) -> tuple[BuildStep, ...]:
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
        BuildStep(
            number=number,
            offset=number * step_seconds,
            event_type=event,
            status=_status(event),
            message=MESSAGES.get(event, FAILURE),
        )
        for number, event in enumerate(types, start=1)
    )


def continued(
    steps: tuple[BuildStep, ...],
    started: float,
    now: float,
    step_seconds: float,
    *,
    fail_after: int | None = None,
    needs_deploy: bool = False,
) -> tuple[BuildStep, ...]:
    """The history of a tenant whose provisioning is tried again, going on where it had stopped.

    The failure leaves the history, so that whoever reads it from its beginning does not take an old failure for the
    end; the new steps count on from it, so that whoever read it then gets all that is newer.

    Args:
        steps: The history so far, whose last step is the failure.
        started: The moment of the payment, in seconds on the world's clock.
        now: The moment of the new attempt, likewise.
        step_seconds: Seconds per step.
        fail_after: See `timeline`; steps of earlier attempts count.
        needs_deploy: See `timeline`.
    """
    *done, failure = steps
    whole = timeline(step_seconds, fail_after=fail_after, needs_deploy=needs_deploy)
    left = whole[min(len(done), len(whole) - 1) :]
    return (
        *done,
        *(
            msgspec.structs.replace(
                step,
                number=failure.number + count,
                offset=offset_of(now + count * step_seconds, started),
            )
            for count, step in enumerate(left, start=1)
        ),
    )


def deployed(steps: tuple[BuildStep, ...], started: float, moment: float) -> tuple[BuildStep, ...]:
    """The history of a tenant that stopped at `infrastructure_ready` and runs an image from `moment` on."""
    last = timeline(0)[-1]
    return (
        *steps,
        msgspec.structs.replace(last, number=steps[-1].number + 1, offset=offset_of(moment, started)),
    )


def offset_of(moment: float, started: float) -> float:
    """Seconds from `started` to `moment`, such that their sum is never later than `moment` by a rounding."""
    offset = moment - started
    return offset if started + offset <= moment else math.nextafter(offset, -math.inf)


def _status(event: Event) -> str:
    if event is Event.TENANT_READY:
        return "ready"
    return "failed" if event is Event.PROVISIONING_FAILED else "provisioning"


def reached(steps: tuple[BuildStep, ...], started: float, now: float, after: int = 0) -> list[BuildStep]:
    """The steps newer than `after` that have happened at `now`, for a payment at `started` (seconds of one clock)."""
    # The moment is summed as whoever waits for it sums it, so that a rounding can never make a wait end too early.
    return [step for step in steps if step.number > after and started + step.offset <= now]
