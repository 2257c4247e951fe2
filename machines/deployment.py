r"""The deployment machine: it deploys an image to a tenant and waits until the image runs.

Theory
------
The tenant's registry is asked about first (`opening_registry`): before anything is changed that tells whether this
account may deploy there at all, and it gives the right to push, which waits in the vault. Then the deployment is asked
for (`deploying`) under an idempotency key announced in the journal. If the answer is lost, a server that honours such
keys is asked again under the same key. With any other server the status is read (`outcome_unknown`): when it shows that
the server has begun, the flow continues; when it shows nothing, only a person can say whether to ask again.

*Whose "ready" is it?* A status names no image. Right after a deployment was accepted it may still say `ready` of the
image before, or `failed` of the attempt before, and the API's replicas may disagree for a while. So in `rolling_out`
the rule is: `ready` counts when it was answered three times in a row, two seconds apart, and so do `failed` and a
refusal; any other answer starts the count anew. The answer to the deployment itself is about this deployment: `failed`
there is believed, every other word means that it was accepted.

The status's word is noted right before the deployment is asked for, and journaled: nothing that was noted means that
nothing was asked for. It also tells what became of a deployment whose answer was lost: another word than the noted one,
where the server was at rest, shows that it has begun. Since one replica may be behind, the word is noted when it was
answered three times in a row (where keys are not honoured; else nothing hangs on it), and the other word, too, counts
when it came three times in a row. What a status refuses then shows nothing: a person decides.

When the time is up the server is asked one last time, and a deployment that is still under way is not given up: as in
provisioning, the flow waits in `overdue` until a person resumes it.

    opening_registry -> deploying -> rolling_out -> deployed
                         |     ^       |  ^    ^
                      outcome_unknown -|--+    |
                             asking_once_more -> overdue
    and the other ends: deployment_failed, cancelled
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..engine.machine.machine import Machine
from ..engine.machine.migrations import Migration
from ..engine.machine.parts import ANY, STAY, CancelRequested, DeadlinePassed, Event, ResumePolicy, State, Verdict, on
from .parts.defaults import TENANT_SECONDS
from .parts.progress import (
    AccessRefused,
    ProgressContext,
    StatusNotAnswered,
    StepObserved,
    WaitResumed,
    observe,
    refuse_access,
    resume_wait,
)
from .parts.vocabulary import OutcomeUnknown, RepeatConfirmed, RepeatDeclined, StillWorking, cancelled, explained

AT_REST: Final = frozenset({"ready", "failed", "infrastructure_ready"})
"""A tenant's words when the server does nothing to it; the third one waits for its first image."""


class DeploymentContext(ProgressContext, frozen=True, kw_only=True):
    """What a deployment knows. `registry_token` is a reference to the vault.

    Attributes:
        settle: Seconds for which the status is watched when the answer to the deployment was lost.
        timeout: Seconds the rollout may take.
        before: The status's word right before the deployment was asked for; empty until then.
    """

    api_url: str
    tenant_id: str
    image: str
    timeout: float = TENANT_SECONDS
    settle: float = 10.0
    registry_token: str = ""
    repository: str = ""
    tag: str = ""
    before: str = ""
    app_url: str = ""


class RegistryOpened(Event, frozen=True):
    """The API named the tenant's registry, and gave the right to push to it."""

    repository: str
    tag: str
    token: str


class StatusNoted(Event, frozen=True):
    """What the status said right before the deployment was asked for; empty when that has come to nothing."""

    status: str


class DeploymentAccepted(Event, frozen=True):
    """The API took the image; the tenant will run it."""

    status: str
    app_url: str = ""


class DeploymentRefused(Event, frozen=True):
    """The API did not take the image; nothing was changed."""

    problem: str
    code: str = ""


class RolloutSeen(Event, frozen=True):
    """The status is no longer the one noted before: the server has begun, though the answer was lost."""

    status: str


class Deployed(Event, frozen=True):
    """The tenant runs the image."""

    app_url: str = ""
    message: str = ""


class DeploymentFailed(Event, frozen=True):
    """The server gave up on the image."""

    problem: str


def shows_rollout(before: str, status: str) -> bool:
    """Whether a status's word, read after a deployment was asked for, can only be about that deployment.

    Args:
        before: The word noted right before it was asked for.
        status: The word now.
    """
    return before in AT_REST and status != before


def _opened(context: DeploymentContext, event: RegistryOpened) -> DeploymentContext:
    return msgspec.structs.replace(context, repository=event.repository, tag=event.tag, registry_token=event.token)


def _noted(context: DeploymentContext, event: StatusNoted) -> DeploymentContext:
    return msgspec.structs.replace(context, before=event.status)


def _accepted(context: DeploymentContext, event: DeploymentAccepted | Deployed) -> DeploymentContext:
    return msgspec.structs.replace(context, app_url=event.app_url or context.app_url, problem="")


def _begun(context: DeploymentContext, _event: RolloutSeen) -> DeploymentContext:
    return msgspec.structs.replace(context, problem="")


def _asked_again(context: DeploymentContext, _event: RepeatConfirmed) -> DeploymentContext:
    return msgspec.structs.replace(context, before="", problem="")


def _not_repeated(context: DeploymentContext, _event: RepeatDeclined) -> DeploymentContext:
    # In place of what made the question necessary: that is not why the flow ends.
    return msgspec.structs.replace(context, problem="asking for the deployment again was declined")


def _gave_up(context: DeploymentContext, event: StillWorking) -> DeploymentContext:
    last = f"; last message: {event.message}" if event.message else ""
    return msgspec.structs.replace(context, problem=f"{context.image} does not run after {context.timeout:g} s{last}")


def _result(context: DeploymentContext) -> dict[str, object]:
    return {
        "tenant_id": context.tenant_id,
        "image": context.image,
        "app_url": context.app_url,
        "repository": context.repository,
    }


DEPLOYMENT: Final = Machine(
    "deployment",
    version=2,
    known_as=["c14fdd786ad59a6b"],  # without the brief reasons of lost streams
    migrations=[Migration(1, states={"awaiting_rollout": "rolling_out"})],
    initial="opening_registry",
    course=("opening_registry", "deploying", "rolling_out", "deployed"),
    context=DeploymentContext,
    result=_result,
    states=[
        State("opening_registry", "getting access to the tenant's registry"),
        State(
            "deploying",
            "requesting the deployment",
            effect="deploys the image",
            resume=ResumePolicy.RECONCILE,
        ),
        State("outcome_unknown", "the deployment may have been requested: checking whether the server has begun"),
        State("rolling_out", "waiting until the image runs", timeout="timeout", late="continue"),
        State("asking_once_more", "the time is up: checking one last time"),
        State("overdue", "not running in time: resume to wait longer"),
        State("deployed", "the tenant runs the image", verdict=Verdict.SUCCESS),
        State("deployment_failed", "the image could not be deployed", verdict=Verdict.FAILURE),
        State("cancelled", "the deployment was cancelled", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(RegistryOpened, "opening_registry", "deploying", update=_opened),
        on(AccessRefused, "opening_registry", "deployment_failed", update=refuse_access),
        on(StatusNoted, "deploying", STAY, update=_noted),
        on(DeploymentAccepted, "deploying", "rolling_out", update=_accepted),
        on(DeploymentFailed, "deploying", "deployment_failed", update=explained),
        on(DeploymentRefused, "deploying", "deployment_failed", update=explained),
        on(OutcomeUnknown, "deploying", "outcome_unknown", update=explained),
        on(StatusNotAnswered, "outcome_unknown", STAY),
        on(RolloutSeen, "outcome_unknown", "rolling_out", update=_begun),
        on(RepeatConfirmed, "outcome_unknown", "deploying", update=_asked_again),
        on(RepeatDeclined, "outcome_unknown", "cancelled", update=_not_repeated),
        on(StepObserved, "rolling_out", STAY, update=observe),
        on(StatusNotAnswered, "rolling_out", STAY),
        on(Deployed, "rolling_out", "deployed", update=_accepted),
        on(DeploymentFailed, "rolling_out", "deployment_failed", update=explained),
        on(AccessRefused, "rolling_out", "deployment_failed", update=refuse_access),
        on(DeadlinePassed, "rolling_out", "asking_once_more"),
        on(Deployed, "asking_once_more", "deployed", update=_accepted),
        on(StillWorking, "asking_once_more", "overdue", update=_gave_up),
        on(WaitResumed, "overdue", "rolling_out", update=resume_wait),
        on(CancelRequested, ANY, "cancelled", update=cancelled),
    ],
)
