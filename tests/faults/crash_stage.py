"""One run of a flow on a stage of its own: a cloud, a person at a browser, a directory, and processes that may die.

Theory. The cloud and the person's tabs go on while our process is dead, as in the world; the directory is all that the
processes have in common. What is left at the end is gathered by `crash_facts.py`.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec
import trio
from systemprompt_cloud.errors import PortBusy
from systemprompt_cloud.io.loopback.serving import bind_loopback
from systemprompt_cloud.sandbox.browser import ScriptedBrowser
from systemprompt_cloud.sandbox.faults import Fault

from tests.faults.crash_child import SECONDS, Job, Said
from tests.faults.crash_facts import Facts, gather
from tests.faults.crash_probe import Point
from tests.support.rehearsal import Rehearsal, open_rehearsal

HEAD_START: Final = 0.3
"""Seconds before the cloud begins with a tenant that was bought beforehand: its stream shall be seen from the start."""

_PORTS: Final = range(20_000, 32_000)
"""Below the ports the system gives to others, so that nobody takes one while the process that listened is dead."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A flow and the world it runs in.

    Attributes:
        flow: `login`, `checkout`, `provisioning`, `deployment` or `onboarding`.
        faults: What goes wrong in the cloud.
        payment: What the person presses on the payment page.
        careless: Whether the processes have a bug: they announce no effects. To see that it is found.
    """

    flow: str
    faults: tuple[str, ...] = ()
    payment: Literal["pay", "pending"] = "pay"
    careless: bool = False

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.flow}, payment pending" if self.payment == "pending" else self.flow

    @property
    def loses_stream(self) -> bool:
        """Whether a stream that tells of a tenant is broken or falls silent, so that every run must meet it."""
        follows = self.flow in {"provisioning", "onboarding"} or self.payment == "pending"
        return follows and any(fault.startswith(("drop-stream", "silence")) for fault in self.faults)

    @property
    def varies(self) -> frozenset[str]:
        """What the flow hands out that depends on when it asked, and not on how often it died.

        A pending checkout ends with the first sign that the tenant is built; who asks a little later sees that it
        needs no deployment any more.
        """
        return frozenset({"needs_deploy"} if self.payment == "pending" else ())


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a flow over one or more processes.

    Attributes:
        facts: What is left of it.
        met: The points where processes died, and those the last one passed if it was asked to tell.
        killed: How many processes died where they were told to.
    """

    facts: Facts
    met: tuple[Point, ...]
    killed: int


class Zygote:
    """The process that forks a child for each job; one job at a time."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._rest = b""

    async def begin(self, job: Job) -> None:
        """Start a run."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(msgspec.json.encode(job) + b"\n")

    async def hear(self) -> Said:
        """The next thing it says."""
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            chunk = await self._process.stdout.receive_some()
            if not chunk:
                raise EOFError("the zygote has died")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return msgspec.json.decode(line, type=Said)


@asynccontextmanager
async def open_zygote() -> AsyncGenerator[Zygote]:
    """A zygote for as long as the block runs; it and its children are gone afterwards."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "tests.faults.crash_child"],
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
    """Where one scenario is played over and over.

    Args:
        scenario: What is played.
        zygote: Makes the processes.
        directory: An empty directory of its own for each run is made in here.
        lane: Keeps the ports of stages that run side by side apart.
    """

    def __init__(self, scenario: Scenario, zygote: Zygote, directory: Path, lane: int) -> None:
        self._scenario = scenario
        self._zygote = zygote
        self._directory = directory
        self._runs = 0
        self._next_port = _PORTS.start + lane * 1500

    async def play(self, targets: Sequence[Point] = (), *, trace: bool = False) -> Played:
        """Run the flow to its end.

        Args:
            targets: Where the first process dies, then the second, and so on; the one after them is left alone.
            trace: Whether to tell the points of the process that is left alone.
        """
        self._runs += 1
        scenario = self._scenario
        browser = ScriptedBrowser(payment=scenario.payment, patience=SECONDS)
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
                code, said = await self._process(dying, rehearsal, tabs, met)
                if code != -signal.SIGKILL:
                    break
                killed += 1
            else:
                code, said = await self._process(job, rehearsal, tabs, met)
            if said.parked == "EffectUncertain":
                asked = True
                job = msgspec.structs.replace(job, answer=True)
                code, said = await self._process(job, rehearsal, tabs, met)
            facts = gather(
                rehearsal, said.outcome, said.failed or said.parked or "", asked=asked, varies=scenario.varies
            )
        return Played(facts=facts, met=tuple(met), killed=killed)

    def _prepare(self, rehearsal: Rehearsal) -> str:
        """What is there before the flow starts; its context."""
        flow = self._scenario.flow
        if flow != "onboarding" and flow != "login":
            rehearsal.log_in()
        if flow == "login":
            context = rehearsal.login(port=self._port())
        elif flow == "checkout":
            context = rehearsal.checkout(port=self._port())
        elif flow == "provisioning":
            tenant = rehearsal.buy()
            tenant.started += HEAD_START
            context = rehearsal.provisioning(tenant.id, external_db=True)
        elif flow == "deployment":
            context = rehearsal.deployment(rehearsal.build().id)
        else:
            context = rehearsal.onboarding(login_port=self._port(), checkout_port=self._port(), external_db=True)
        return msgspec.json.encode(context).decode()

    def _port(self) -> int:
        while True:
            self._next_port = _PORTS.start + (self._next_port + 1 - _PORTS.start) % len(_PORTS)
            try:
                with bind_loopback(self._next_port) as sock:
                    return _number(sock)
            except PortBusy:
                continue

    async def _process(self, job: Job, rehearsal: Rehearsal, tabs: set[str], met: list[Point]) -> tuple[int, Said]:
        """One process from its start to its end; its exit code and the last thing it said."""
        await self._zygote.begin(job)
        last = Said(failed="it said nothing")
        while True:
            said = await self._zygote.hear()
            if said.exit is not None:
                return said.exit, last
            if said.shown is not None:
                if said.shown not in tabs:  # a person leaves a tab that is open as it is
                    tabs.add(said.shown)
                    await rehearsal.open_tab(said.shown)
            elif said.met is not None:
                met.append(said.met)
            else:
                last = said


def _number(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])
