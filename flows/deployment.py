"""What is done in each state of a deployment.

In order: ask for the registry; note the status, announce the deployment and ask for it; ask for the status until it
has said often enough in a row that the image runs. Why so often is the theory of `machines/deployment.py`, where the
table is.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
import trio

from ..base.errors import CloudError
from ..engine.engine import Engine
from ..engine.flow import Flow
from ..engine.journal.records import UNFINISHED
from ..engine.machine.parts import Event
from ..engine.visit import Program, Visit
from ..errors import ApiError, DeploymentUnfinished, code_of
from ..io.cloud.api import CloudApiClient
from ..io.cloud.images import check_image
from ..io.cloud.wire import TenantStatus
from ..io.http.texts import shown, word
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
from ..machines.parts.progress import StepObserved
from ..machines.parts.vocabulary import OutcomeUnknown, StillWorking
from .outside import Api, Person, Timing
from .provisioning import address
from .services import Services
from .steps.asking import API_FAILURES, Asking, Needed, ask_firmly, pause_until_resumed, refusal, words_of
from .steps.counting import IN_A_ROW, InARow
from .steps.effects import ask_for, ask_whether_to_repeat

DeploymentVisit = Visit[DeploymentContext]
REGISTRY_TOKEN = "registry_token"  # noqa: S105 its name in the vault
NEEDED: Final[Needed] = {Deployed: IN_A_ROW, DeploymentFailed: IN_A_ROW, RolloutSeen: IN_A_ROW}
"""How often in a row the status has to say that the image runs, or does not, or that the server has begun."""

UNKNOWN: Final = "unknown"
"""The noted word when there was none."""

MOST_NOTED: Final = 3 * IN_A_ROW
"""How often the status is asked for a word to note."""


def deployment_program(services: Services) -> Program[DeploymentContext]:
    """The deployment machine with its activities."""
    doing = _Deployment(services.cloud_api, services.person, services.timing)
    return Program(
        DEPLOYMENT,
        {
            "opening_registry": [doing.open_registry],
            "deploying": [doing.deploy],
            "outcome_unknown": [doing.find_out],
            "rolling_out": [doing.poll_status],
            "asking_once_more": [doing.ask_once_more],
            "overdue": [pause_until_resumed],
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
    for found in await engine.flows(machine=DEPLOYMENT, key=key, status=UNFINISHED):
        _same_image(engine, found.id, context)
    flow = await engine.start(DEPLOYMENT, context, key=key)
    _same_image(engine, flow.id, context)  # another process may have started one between the two
    return flow


def _same_image(engine: Engine, flow: str, wanted: DeploymentContext) -> None:
    running = engine.context(flow)
    if isinstance(running, DeploymentContext) and running.image != wanted.image:
        raise DeploymentUnfinished(flow, tenant=wanted.tenant_id, image=running.image)


def status_meaning(status: TenantStatus) -> Event:
    """The event a status becomes."""
    message = shown(status.message)
    if status.status == "failed":
        return DeploymentFailed(message or "the server gave no reason")
    if status.status == "ready":
        return Deployed(address(status.app_url), message)
    return StepObserved("", message or word(status.status), "polling")


class _Deployment:
    def __init__(self, api: Api, person: Person, timing: Timing) -> None:
        self.api = api
        self.person = person
        self.timing = timing

    async def open_registry(self, visit: DeploymentVisit) -> Event:
        api = await self.api.of(visit)
        try:
            found = await ask_firmly(self.timing, partial(api.registry_token, visit.context.tenant_id))
        except ApiError as exc:
            if (over := refusal(exc)) is None:
                raise
            return over
        token = await visit.keep(REGISTRY_TOKEN, found.token)
        return RegistryOpened(f"{found.registry}/{found.repository}", found.tag, token)

    async def deploy(self, visit: DeploymentVisit) -> Event:
        context = visit.context
        api = await self.api.of(visit)
        intent = await visit.announce("deploy")
        if not context.before:  # announced and nothing noted: an earlier process did not come as far as asking
            intent = msgspec.structs.replace(intent, uncertain=False)
        try:
            before = await self._word_before(api, context.tenant_id)
        except CloudError as exc:
            if refusal(exc) is not None:  # where nothing more can be seen, that is the end
                if intent.uncertain:
                    return OutcomeUnknown(exc.user_message)
                return DeploymentRefused(exc.user_message, code_of(exc))
            raise
        if not intent.uncertain:
            await visit.send(StatusNoted(before))
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
        if answer.status == "failed":
            return DeploymentFailed("the server answered that the deployment failed")
        return DeploymentAccepted(word(answer.status), address(answer.app_url))

    async def _word_before(self, api: CloudApiClient, tenant: str) -> str:
        """The status's word, heard as often in a row as it takes to decide by it what became of a lost answer.

        Where replicas do not agree it is unknown, and a lost answer is a question.
        """
        row, ask = InARow(), partial(api.tenant_status, tenant)
        for _ in range(MOST_NOTED):
            found = word((await ask_firmly(self.timing, ask)).status) or UNKNOWN
            if api.honours_idempotency or row.count(found) >= IN_A_ROW:  # any answer tells whether keys are honoured
                return found
            await trio.sleep(self.timing.poll_seconds)
        return UNKNOWN

    async def find_out(self, visit: DeploymentVisit) -> Event:
        problem = visit.context.problem
        with trio.move_on_after(visit.context.settle):
            return await self.watch_for_rollout(visit)
        asked = f"{visit.context.image} may or may not have been deployed ({problem}), and the status shows nothing new"
        return await ask_whether_to_repeat(visit, self.person, asked, f"{asked}. Deploy it again?")

    async def watch_for_rollout(self, visit: DeploymentVisit) -> Event:
        context = visit.context
        api = await self.api.of(visit)

        async def ask() -> Event | None:
            status = word((await api.tenant_status(context.tenant_id)).status)
            return RolloutSeen(status) if shows_rollout(context.before, status) else None

        return await Asking(visit, self.timing, ask, needed=NEEDED, refusable=False).until_ended()

    async def poll_status(self, visit: DeploymentVisit) -> Event:
        return await self._asking(visit, await self.api.of(visit)).until_ended()

    async def ask_once_more(self, visit: DeploymentVisit) -> Event:
        api = await self.api.of(visit)
        row = InARow()
        while True:
            try:
                event = status_meaning(await api.tenant_status(visit.context.tenant_id))
            except API_FAILURES as exc:
                return StillWorking(exc.user_message)
            if not isinstance(event, Deployed):
                return StillWorking(words_of(event))
            if row.count(Deployed) >= IN_A_ROW:
                return event
            await trio.sleep(self.timing.poll_seconds)

    def _asking(self, visit: DeploymentVisit, api: CloudApiClient) -> Asking:
        async def ask() -> Event:
            return status_meaning(await api.tenant_status(visit.context.tenant_id))

        return Asking(visit, self.timing, ask, needed=NEEDED)
