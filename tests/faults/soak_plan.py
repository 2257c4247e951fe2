"""The plan of a soak, decided before it begins: a pure function of its seed.

The cloud, the worker and the check are separate processes, and the first two are killed while it runs. So none of them
keeps the expected results in memory: each computes them from the same plan. Every tenant has a start, a duration and an
end; `build_world` makes the same local cloud from them each time, with the same ids and keys, on the monotonic clock
that all processes of a computer share. So a restarted cloud has the state it would have had.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.sandbox import World
from systemprompt_cloud.sandbox.faults import Fault, FaultPlan
from systemprompt_cloud.sandbox.provisioning import timeline
from systemprompt_cloud.sandbox.state import PLANS, SandboxTenant
from typing_extensions import override

End = Literal["ready", "failed", "gone"]
STEPS: Final = 10

STREAM_FAULTS: Final = (
    "drop-stream:after=0,times=0,chance=0.06",
    "reset:after=0,times=0,chance=0.06",
    "error:status=503,times=0,path=/events,chance=0.06",
    "error:status=429,retry_after=1,times=0,path=/events,chance=0.03",
    "error:status=503,retry_after=1,date=1,times=0,path=/events,chance=0.03",
    "content-type:times=0,path=/events,chance=0.02",
    "redirect:times=0,path=/events,chance=0.02",
    "no-content:times=0,path=/events,chance=0.02",
    "slow:seconds=3,path=/events,chance=0.02",
    "replay-all:times=0,chance=0.2",
    "duplicate:after=0,times=0,chance=0.05",
    "reorder:after=0,times=0,chance=0.05",
    "malformed:after=0,times=0,chance=0.05",
    "bad-utf8:after=0,times=0,chance=0.05",
    "trickle:after=0,times=0,chance=0.03,seconds=0.001",
    "huge-line:after=0,times=0,chance=0.002",
)
"""Stream faults after which polling, which works, takes over."""

OTHER_FAULTS: Final = (
    "drop-stream:after=0,times=0,chance=0.003,outage=2",
    "silence:after=0,times=0,chance=0.01",
    "silence:after=0,times=0,chance=0.01,seconds=2,heartbeats=1",
    "no-stream:times=0,path=/events,chance=0.005",
    "foreign-event:after=0,times=0,chance=0.03",
    "foreign-event:after=0,times=0,chance=0.03,says=provisioning_failed",
    "false-event:after=0,times=0,chance=0.03",
    "false-event:after=0,times=0,chance=0.03,says=tenant_ready",
    "proxy-page:times=0,path=/status,chance=0.02",
    "proxy-page:times=0,path=/auth/me,chance=0.02",
    "proxy-page:status=404,times=0,path=/status,chance=0.02",
    "stale:seconds=2,times=0,path=/status,chance=0.05",
    "error:status=404,times=0,path=/status,chance=0.02",
    "error:status=502,times=0,path=/status,chance=0.04",
    "error:status=429,retry_after=1,times=0,path=/status,chance=0.02",
    "error:status=500,times=0,path=/provisioned-secrets,chance=0.1",
    "error:status=503,times=0,path=/external-db-access,chance=0.1",
    "lose-answer:times=0,path=/external-db-access,chance=0.3",
    "content-type:times=0,path=/status,chance=0.003",
    "error:status=503,times=0,path=/auth/me,chance=0.05",
    "unauthorized:times=0,chance=0.002",
    "slow:seconds=0.5,chance=0.03",
)
"""Faults of any call, polling included, and stream faults that only the idle timeout detects."""


MISLEADING: Final = frozenset({"stale", "silence"})
"""After these a server's words may be older than they look: a replica that is behind, heartbeats while steps are held
back. What is shown of such a tenant may go backwards; its end may not differ."""


class NotedFaults(FaultPlan):
    """Faults, and which requests were misled.

    Attributes:
        misled: The paths for which a misleading fault occurred.
    """

    def __init__(self, faults: Iterable[Fault | str] = (), seed: int | None = 0) -> None:
        super().__init__(faults, seed)
        self.misled: set[str] = set()

    @override
    def strike(self, name: str, path: str) -> Fault | None:
        """Note it when it misleads."""
        return self._noted(path, super().strike(name, path))

    @override
    def strike_stream(self, name: str, path: str, sent: int) -> Fault | None:
        """Note it when it misleads."""
        return self._noted(path, super().strike_stream(name, path, sent))

    def _noted(self, path: str, fault: Fault | None) -> Fault | None:
        if fault is not None and fault.name in MISLEADING:
            self.misled.add(path)
        return fault


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one tenant.

    Attributes:
        begins: Seconds after the soak's beginning.
        seconds: From the first step to the last.
        end: How it ends; `gone` is deleted half-way.
        external_db: Whether its database is to be opened.
    """

    begins: float
    seconds: float
    end: End
    external_db: bool


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A soak.

    Attributes:
        directory: Where its files are.
        port: The cloud's.
        flows: How many run at the same time.
        seconds: Until the last tenant's end.
        seed: Decides the tenants, the faults and the kills.
        epoch: When it begins, in seconds on `time.monotonic`.
        harsh: Whether tenants may fail or be deleted, and processes are killed.
        faults: The cloud's scripted faults.
    """

    directory: str
    port: int
    flows: int
    seconds: float
    seed: int
    epoch: float
    harsh: bool = True
    faults: tuple[str, ...] = (*STREAM_FAULTS, *OTHER_FAULTS)

    @property
    def place(self) -> Path:
        """Where its files are."""
        return Path(self.directory)

    @property
    def paths(self) -> CloudPaths:
        """Where the worker's files are."""
        home = self.place / ".systemprompt"
        return CloudPaths(directory=home, state_directory=home, origin="explicit")

    @property
    def url(self) -> str:
        """The cloud's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def kills_until(self) -> float:
        """Seconds after which nothing is killed any more; memory is measured in the rest."""
        return self.seconds * 0.6

    def tenants(self) -> list[Planned]:
        """Every tenant, in the order they are bought: one after the other in each of `flows` places."""
        rng = random.Random(f"soak:{self.seed}")  # noqa: S311 no secret
        planned: list[Planned] = []
        for _ in range(self.flows):
            begins = rng.uniform(0.0, 0.05 * self.seconds)
            while (seconds := rng.uniform(0.1, 0.4) * self.seconds) + begins <= self.seconds:
                end: End = rng.choices(("ready", "failed", "gone"), (8, 1, 1))[0] if self.harsh else "ready"
                planned.append(Planned(begins=begins, seconds=seconds, end=end, external_db=rng.random() < 0.2))
                begins += seconds
        return sorted(planned, key=lambda each: each.begins)


def build_world(plan: Plan, *, life: int = 0) -> tuple[World, list[SandboxTenant]]:
    """The local cloud, and its tenants in the order of `plan.tenants()`, whenever and wherever it is built.

    Args:
        plan: The soak.
        life: How often the cloud was restarted: the tenants stay the same, the faults differ.
    """
    world = World(seed=plan.seed, now=time.monotonic)
    world.faults = NotedFaults(plan.faults, plan.seed + life)
    tenants: list[SandboxTenant] = []
    for each in plan.tenants():
        checkout = world.open_checkout(world.accounts[0], PLANS[0], "fra", None)
        world.answer_payment(checkout, "pay")
        assert checkout.tenant is not None
        tenant = checkout.tenant
        tenant.started = plan.epoch + each.begins
        tenant.steps = timeline(each.seconds / STEPS, fail_after=6 if each.end == "failed" else None)
        tenants.append(tenant)
    return world, tenants
