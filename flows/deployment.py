"""What is done in each state of a deployment.

In order: ask for the registry; note the status, announce the deployment and ask for it; watch the status until it is
the new image's, and then until it says that the image runs. Whose status it is, is the theory of
`machines/deployment.py`, where the table is.
"""

from __future__ import annotations

from functools import partial

import msgspec
import trio

from ..base.errors import CloudError
from ..base.redaction import redact
from ..engine.engine import Engine
from ..engine.flow import Flow
from ..engine.machine.parts import Event
from ..engine.visit import Program, Visit
from ..errors import DeploymentUnfinished, code_of
from ..io.cloud.api import CloudApiClient
from ..io.cloud.images import check_image
from ..io.cloud.wire import TenantStatus
from ..machines.deployment import (
    DEPLOYMENT,
    Deployed,
    DeploymentAccepted,
    DeploymentContext,
    DeploymentFailed,
    DeploymentRefused,
    RegistryOpened,
    RolloutSeen,
    StatusNoted,
    shows_rollout,
)
from ..machines.parts.vocabulary import OutcomeUnknown, StillWorking
from ..machines.parts.watching import StepObserved
from .outside import Api, Person, Timing
from .services import Services
from .steps.effects import ask_for, ask_whether_to_repeat
from .steps.following import ended_by_refusal
from .steps.watching import poll, refusal, stand_by

DeploymentVisit = Visit[DeploymentContext]
REGISTRY_TOKEN = "registry_token"  # noqa: S105 its name in the vault


def deployment_program(services: Services) -> Program[DeploymentContext]:
    """The deployment machine with its activities."""
    doing = _Deployment(services.cloud_api, services.person, services.timing)
    return Program(
        DEPLOYMENT,
        {
            "opening_registry": [doing.open_registry],
            "deploying": [doing.deploy],
            "outcome_unknown": [doing.find_out],
            "awaiting_rollout": [doing.watch_for_rollout],
            "rolling_out": [doing.poll_status],
            "asking_once_more": [doing.ask_once_more],
            "overdue": [stand_by],
        },
    )


async def start_deployment(engine: Engine, context: DeploymentContext) -> Flow:
    """Deploy an image, or resume the unfinished deployment of the same one.

    Args:
        engine: Opened with `deployment_program`.
        context: What to deploy, and where.

    Raises:
        InvalidImage: It is no image's name; nothing was started.
        DeploymentUnfinished: Another image is being deployed to the tenant.
        FlowBusy: Another process is at the same deployment.
    """
    check_image(context.image)
    key = f"{context.api_url}|{context.tenant_id}"
    if found := engine.journal.unfinished_with_key(DEPLOYMENT.name, key):
        _same_image(engine, found.id, context)
    flow = await engine.start(DEPLOYMENT, context, key=key)
    _same_image(engine, flow.id, context)  # another process may have started one between the two
    return flow


def _same_image(engine: Engine, flow: str, wanted: DeploymentContext) -> None:
    running = engine.context(flow)
    if isinstance(running, DeploymentContext) and running.image != wanted.image:
        raise DeploymentUnfinished(flow, tenant=wanted.tenant_id, image=running.image)


def status_meaning(status: TenantStatus) -> Event:
    """The event a status becomes, once it is the new image's."""
    said = redact(status.message or "")  # the server's words are journaled and shown; a secret in them is not
    if status.status == "failed":
        return DeploymentFailed(said or "the server gave no reason")
    if status.status == "ready":
        return Deployed(status.app_url or "", said)
    return StepObserved("", said or redact(status.status), "polling")


class _Deployment:
    def __init__(self, api: Api, person: Person, timing: Timing) -> None:
        self.api = api
        self.person = person
        self.timing = timing

    async def _client(self, visit: DeploymentVisit) -> CloudApiClient:
        return await self.api.as_user(visit.context.api_url)

    @ended_by_refusal
    async def open_registry(self, visit: DeploymentVisit) -> Event:
        found = await (await self._client(visit)).registry_token(visit.context.tenant_id)
        token = await visit.keep(REGISTRY_TOKEN, found.token)
        return RegistryOpened(f"{found.registry}/{found.repository}", found.tag, token)

    async def deploy(self, visit: DeploymentVisit) -> Event:
        context = visit.context
        api = await self._client(visit)
        intent = await visit.announce("deploy")
        if not context.before:  # announced and nothing noted: an earlier process did not come as far as asking
            intent = msgspec.structs.replace(intent, uncertain=False)
        try:
            status = await api.tenant_status(context.tenant_id)  # any answer tells whether this server honours keys
        except CloudError as exc:
            if refusal(exc) is not None:  # where nothing more can be seen, that is the end
                if intent.uncertain:
                    return OutcomeUnknown(exc.user_message)
                return DeploymentRefused(exc.user_message, code_of(exc))
            raise
        if not intent.uncertain:
            await visit.send(StatusNoted(redact(status.status or "unknown")))
        elif not api.honours_idempotency:
            return OutcomeUnknown("interrupted while the deployment was being asked for")
        call = partial(api.deploy, context.tenant_id, context.image)
        try:
            answer = await ask_for(visit, api, intent, call, DeploymentRefused)
        except CloudError:
            if intent.key in visit.withdrawn:  # nothing happened: the note must not speak for the next announcement
                await visit.send(StatusNoted(""))
            raise
        if isinstance(answer, Event):
            return answer
        if answer.status == "ready":
            return Deployed(answer.app_url or "")
        if answer.status == "failed":
            return DeploymentFailed("the server answered that the deployment failed")
        return DeploymentAccepted(redact(answer.status), answer.app_url or "")

    async def find_out(self, visit: DeploymentVisit) -> Event:
        problem = visit.context.problem
        with trio.move_on_after(visit.context.settle):
            return await self.watch_for_rollout(visit)
        asked = f"{visit.context.image} may or may not have been deployed ({problem}), and the status shows nothing new"
        return await ask_whether_to_repeat(self.person, asked, f"{asked}. Deploy it again?")

    async def watch_for_rollout(self, visit: DeploymentVisit) -> Event:
        context = visit.context
        api = await self._client(visit)

        async def ask() -> Event | None:
            status = (await api.tenant_status(context.tenant_id)).status
            return RolloutSeen(redact(status)) if shows_rollout(context.before, redact(status)) else None

        return await poll(visit, self.timing, ask)

    async def poll_status(self, visit: DeploymentVisit) -> Event:
        api = await self._client(visit)

        async def ask() -> Event:
            return status_meaning(await api.tenant_status(visit.context.tenant_id))

        return await poll(visit, self.timing, ask)

    @ended_by_refusal
    async def ask_once_more(self, visit: DeploymentVisit) -> Event:
        api = await self._client(visit)
        event = status_meaning(await api.tenant_status(visit.context.tenant_id))
        return StillWorking(event.message) if isinstance(event, StepObserved) else event
