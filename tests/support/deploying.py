"""A deployment rehearsed against a cloud that says what a test wants, look by look.

    async with open_desk(paths) as desk:
        desk.cloud.after = ["ready", "deploying", "failed"]
        outcome = await desk.deploy()

Theory. The local cloud (`sandbox`) turns to a new image the moment it is told of it. Other clouds do not: for a while
their status still describes the image before. What is believed of such a status can only be tried against a cloud whose
words are given in advance, so this one has no clock: it says the next word when it is asked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from systemprompt_cloud.engine.engine import Engine, open_engine
from systemprompt_cloud.engine.flow import Flow
from systemprompt_cloud.engine.history import Outcome
from systemprompt_cloud.flows.deployment import start_deployment
from systemprompt_cloud.flows.onboarding import all_programs
from systemprompt_cloud.flows.outside import Confirm
from systemprompt_cloud.flows.services import Services
from systemprompt_cloud.io.http.polling import Backoff
from systemprompt_cloud.io.local.credentials import CloudCredentials
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.machines.deployment import DeploymentContext
from systemprompt_cloud.sandbox import World
from systemprompt_cloud.testing.scripted import ScriptedServer, serve_scripted

from tests.support.rehearsal import IMAGE, quick_client

TENANT: Final = "tnt_1"
TOKEN: Final = "rt_this-lets-you-push"
APP_URL: Final = "https://app.example"


class SlowCloud:
    """A tenant's part of a cloud, with the statuses a test wants before and after the deployment was asked for.

    Attributes:
        before: What the status says until then.
        earlier: What it says before that, look by look.
        taken: Called when a deployment has arrived.
        after: What it says from then on, look by look; the last word stays.
        takes: What is answered to each deployment; the last stays. None breaks the connection after it was taken.
        keys: Whether `Idempotency-Key` is honoured.
        refuses: The statuses of errors, by the last word of the path; the first is used up.
        asked: The images asked for, each with its key.
        looks: The statuses that were told.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self.url = server.url
        self.before = "ready"
        self.earlier: list[str] = []
        self.taken: Callable[[str], None] = lambda _image: None
        self.after = ["deploying", "ready"]
        self.takes: Sequence[Mapping[str, str] | None] = [{"status": "deploying"}]
        self.keys = True
        self.message: str | None = None
        self.refuses: dict[str, list[int]] = {}
        self.asked: list[tuple[str, str]] = []
        self.looks: list[str] = []
        server.plan(self.answer)

    async def answer(self, request: Request) -> Response:
        """Answer a call."""
        what = request.url.path.rpartition("/")[2]
        refused = self.refuses.get(what, [])
        response = self._refuse(refused.pop(0)) if refused else await self._answer(what, request)
        if self.keys:
            response.headers["Idempotency-Supported"] = "true"
        return response

    @staticmethod
    def _refuse(status: int) -> Response:
        return JSONResponse({"error": {"code": "no", "message": f"the server's words for {status}"}}, status)

    async def _answer(self, what: str, request: Request) -> Response:
        if what == "registry-token":
            return _data(registry="registry.example", username="u", token=TOKEN, repository="team", tag="1.2")
        if what == "status":
            if not self.asked:
                word = self.earlier.pop(0) if self.earlier else self.before
            else:
                word = self.after.pop(0) if len(self.after) > 1 else self.after[0]
            self.looks.append(word)
            return _data(status=word, message=self.message, app_url=APP_URL if word == "ready" else None)
        assert what == "deploy", request.url.path
        image = msgspec.json.decode(await request.body())["image"]
        self.asked.append((image, request.headers.get("idempotency-key", "")))
        self.taken(image)
        taken, *rest = self.takes
        self.takes = rest or [taken]
        return self._refuse(502) if taken is None else _data(**taken)


def _data(**fields: object) -> Response:
    return JSONResponse({"data": fields})


class Desk:
    """Somebody's directory, and the commands they run in it."""

    def __init__(self, cloud: SlowCloud, paths: CloudPaths) -> None:
        self.cloud = cloud
        self.paths = paths

    def log_in(self) -> None:
        """Store good credentials for the cloud."""
        world = World()
        account = world.accounts[0]
        CloudCredentials(
            api_token=world.tokens.issue(account.id, account.email),
            api_url=self.cloud.url,
            authenticated_at=datetime.now(UTC),
            user_email=account.email,
        ).save_to_path(self.paths.credentials)

    def wanted(self, **changes: Any) -> DeploymentContext:
        """The image, for the tenant."""
        wanted = DeploymentContext(api_url=self.cloud.url, tenant_id=TENANT, image=IMAGE, timeout=20.0, settle=20.0)
        return msgspec.structs.replace(wanted, **changes)

    @asynccontextmanager
    async def open(self, *, confirm: Confirm | None = None, poll_seconds: float = 0.01) -> AsyncGenerator[Engine]:
        """What one run of the command has open."""
        async with (
            Services(
                self.paths,
                open_browser=None,
                confirm=confirm,
                poll_seconds=poll_seconds,
                backoff=Backoff(base=0.01, cap=0.02),
                make_client=quick_client,
            ) as services,
            open_engine(self.paths, all_programs(services)) as engine,
        ):
            yield engine

    async def deploy(self, *, confirm: Confirm | None = None, **changes: Any) -> Outcome:
        """Run the command to its end."""
        async with self.open(confirm=confirm) as engine:
            return await (await start_deployment(engine, self.wanted(**changes))).wait()

    async def deploy_and_tell(self, **changes: Any) -> tuple[Outcome, list[str]]:
        """The same; how it ended, and what happened, by name."""
        async with self.open() as engine:
            flow = await start_deployment(engine, self.wanted(**changes))
            return await flow.wait(), events(flow)


def events(flow: Flow) -> list[str]:
    """What happened to a flow, by name."""
    return [change.event for change in flow.history if change.kind == "event"]


@asynccontextmanager
async def open_desk(paths: CloudPaths) -> AsyncGenerator[Desk]:
    """Somebody who is logged in at a cloud that does as it is told."""
    async with serve_scripted() as server:
        made = Desk(SlowCloud(server), paths)
        made.log_in()
        yield made
