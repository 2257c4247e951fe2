"""One run of a flow in its own environment: a cloud, a scripted browser, a directory, and processes that may be killed.

Theory. The cloud and the browser tabs continue while our process is dead, as in production; the processes share nothing
but the directory. `crash_facts.py` gathers the result.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec
import trio
from systemprompt_cloud.sandbox.browser import PageVisit, ScriptedBrowser
from systemprompt_cloud.sandbox.faults import Fault
from typing_extensions import override

from tests.faults.crash_child import SECONDS, Job, Said
from tests.faults.crash_facts import Facts, gather
from tests.faults.crash_probe import Point
from tests.support.ports import own_port
from tests.support.rehearsal import Rehearsal, open_rehearsal

HEAD_START: Final = 0.3
"""Seconds before the cloud starts to build a tenant bought beforehand, so that its stream is read from the start."""

PAUSES: Final = frozenset({"OrderInDoubt", "StillPending", "NotAuthenticated", "ApiError", "Network"})
"""What pauses a flow until the same command is run again."""

RUNS: Final = 3
"""How often the same command is run at most after it was paused."""

DEADLINE: Final = 0.3
"""Seconds of a deadline that passes a moment too early."""

LATE: Final = 0.8
"""Seconds a person takes then."""

CONFIRMING: Final = 0.5
"""Seconds the API gets to list a tenant that the browser named: in some scenarios there is no such tenant."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A flow and its environment.

    Attributes:
        flow: `login`, `checkout`, `provisioning`, `deployment` or `onboarding`.
        faults: The cloud's scripted faults.
        payment: The button pressed on the payment page.
        early: Whether deadlines pass a moment before what is waited for happens.
        unlinked: Whether nothing says which tenant was bought, so that the order stays in doubt until a person decides.
        careless: Whether the processes do not announce their effects: a bug, to check that it is detected.
    """

    flow: str
    faults: tuple[str, ...] = ()
    payment: Literal["pay", "pending", "decline"] = "pay"
    early: bool = False
    unlinked: bool = False
    careless: bool = False

    @property
    def name(self) -> str:
        """The name in tables."""
        payment = f", payment {self.payment}" if self.payment != "pay" else ""
        return f"{self.flow}{payment}{', early deadline' if self.early else ''}"

    @property
    def loses_stream(self) -> bool:
        """Whether a tenant's stream breaks, so that a run must lose one. Questions are quicker than silence."""
        follows = self.flow in {"provisioning", "onboarding"} or self.payment == "pending"
        return follows and any(fault.startswith("drop-stream") for fault in self.faults)

    @property
    def varies(self) -> frozenset[str]:
        """The fields of the flow's result that depend on when it asked, and not on how often it was killed.

        A checkout that follows its tenant ends with the first sign that it is built; a moment later the tenant may
        need no deployment any more.
        """
        return frozenset({"needs_deploy"} if self.payment == "pending" or self.early or self.faults else ())


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a flow over one or more processes.

    Attributes:
        facts: The result.
        met: The points processes were killed at, and with `trace` those the last process passed.
        killed: How many processes were killed at their target.
    """

    facts: Facts
    met: tuple[Point, ...]
    killed: int


class SlowPerson(ScriptedBrowser):
    """A person who takes `LATE` seconds before they open a page."""

    @override
    async def visit(self, url: str) -> PageVisit:
        """Open a URL, later."""
        await trio.sleep(LATE)
        return await super().visit(url)


class Zygote:
    """The process that forks a child for each job; one job at a time."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._rest = b""

    async def begin(self, job: msgspec.Struct) -> None:
        """Start a run."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(msgspec.json.encode(job) + b"\n")

    async def receive(self) -> Said:
        """Wait for the next line from the zygote. Raises `EOFError` when it has died."""
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            chunk = await self._process.stdout.receive_some()
            if not chunk:
                raise EOFError("the zygote has died")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return msgspec.json.decode(line, type=Said)


@asynccontextmanager
async def open_zygote(module: str = "tests.faults.crash_child") -> AsyncGenerator[Zygote]:
    """Run a zygote inside the block; it and its children are killed afterwards.

    Args:
        module: What the zygote is: a module that reads its own jobs and says `Said`.
    """
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Zygote(process)
    finally:
        with trio.CancelScope(shield=True):
            _kill_group(process.pid)
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


class Stage:
    """Runs one scenario any number of times.

    Args:
        scenario: The scenario.
        zygote: Forks the processes.
        directory: Each run gets an empty directory in it.
    """

    def __init__(self, scenario: Scenario, zygote: Zygote, directory: Path) -> None:
        self._scenario = scenario
        self._zygote = zygote
        self._directory = directory
        self._runs = 0

    async def play(self, targets: Sequence[Point] = (), *, trace: bool = False) -> Played:
        """Run the flow to its end.

        Args:
            targets: The point the first process is killed at, then the second, and so on; the last one is not killed.
            trace: Whether the last process reports its points.
        """
        self._runs += 1
        scenario = self._scenario
        browser = (SlowPerson if scenario.early else ScriptedBrowser)(payment=scenario.payment, patience=SECONDS)
        faults: list[Fault | str] = list(scenario.faults)
        directory = self._directory / str(self._runs)
        async with open_rehearsal(directory, faults=faults, step_seconds=0.01, browser=browser) as rehearsal:
            context = self._prepare(rehearsal)
            tabs: set[str] = set()
            met: list[Point] = []
            killed, asked = 0, False
            job = Job(
                home=str(rehearsal.paths.directory),
                machine=scenario.flow,
                context=context,
                trace=trace,
                careless=scenario.careless,
            )
            while killed < len(targets):
                dying = msgspec.structs.replace(job, target=targets[killed], trace=False)
                code, said, was_asked = await self._until_unpaused(dying, rehearsal, tabs, met)
                asked = asked or was_asked
                if code != -signal.SIGKILL:
                    break
                killed += 1
            else:
                code, said, was_asked = await self._until_unpaused(job, rehearsal, tabs, met)
                asked = asked or was_asked
            facts = gather(
                rehearsal,
                said.outcome,
                said.failed or said.parked or "",
                asked=asked,
                paused=said.parked if said.parked in PAUSES else None,
                varies=scenario.varies,
            )
        return Played(facts=facts, met=tuple(met), killed=killed)

    def _prepare(self, rehearsal: Rehearsal) -> str:
        """Set up what the flow needs, and return its context as JSON."""
        flow = self._scenario.flow
        if flow != "onboarding" and flow != "login":
            rehearsal.log_in()
        if flow == "login":
            context = rehearsal.login(port=own_port())
        elif flow == "checkout":
            waits = self._scenario.early or self._scenario.unlinked or self._scenario.payment == "decline"
            limits = {"timeout": DEADLINE} if waits else {}
            context = rehearsal.checkout(port=own_port(), confirm_timeout=CONFIRMING, **limits)
        elif flow == "provisioning":
            tenant = rehearsal.buy()
            tenant.started += HEAD_START
            limits = {"timeout": DEADLINE} if self._scenario.early else {}
            context = rehearsal.provisioning(tenant.id, external_db=True, **limits)
        elif flow == "deployment":
            context = rehearsal.deployment(rehearsal.build().id)
        else:
            limits = {"payment_timeout": DEADLINE, "tenant_timeout": DEADLINE} if self._scenario.early else {}
            context = rehearsal.onboarding(login_port=own_port(), checkout_port=own_port(), external_db=True, **limits)
        return msgspec.json.encode(context).decode()

    async def _until_unpaused(
        self, job: Job, rehearsal: Rehearsal, tabs: set[str], met: list[Point]
    ) -> tuple[int, Said, bool]:
        """Run processes until one does not pause; returns its exit code, its report, and whether a person was asked.

        They are asked about an effect whose outcome is unknown, and confirm it.
        """
        code, said = await self._process(job, rehearsal, tabs, met)
        asked = False
        for _ in range(RUNS):
            if said.parked == "EffectUncertain":
                asked = True
            elif said.parked not in PAUSES:
                break
            # Nobody is asked for more than that: an order in doubt stays one.
            answer = True if said.parked == "EffectUncertain" else None
            code, said = await self._process(msgspec.structs.replace(job, answer=answer), rehearsal, tabs, met)
        return code, said, asked

    async def _process(self, job: Job, rehearsal: Rehearsal, tabs: set[str], met: list[Point]) -> tuple[int, Said]:
        """Run one process to its end; returns its exit code and its last report."""
        await self._zygote.begin(job)
        last = Said(failed="the process reported nothing")
        while True:
            said = await self._zygote.receive()
            if said.exit is not None:
                return said.exit, last
            if said.shown is not None:
                if said.shown not in tabs:  # a tab that is open is not opened again
                    tabs.add(said.shown)
                    await rehearsal.open_tab(said.shown)
            elif said.met is not None:
                met.append(said.met)
            else:
                last = said
