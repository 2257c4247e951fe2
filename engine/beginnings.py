"""Starting flows: a new one, or with a key the one there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias, get_args

from ..base.log import get_logger
from .claims import Claims
from .countdown import BothClocks, read_clocks
from .driving import Driving
from .errors import FlowExists
from .gates import Gates
from .given import check_one_of
from .history import first_lines
from .ids import new_flow_id
from .journal.records import FlowRow
from .ledger import Ledger
from .live import LiveFlow, ResumeFlow
from .machine.machine import Machine
from .machine.parts import Context
from .secrets import Removal
from .starting import carried_start, check_key, check_same_start, check_secrets, started_context
from .steps import Why
from .store import Ownership, Vault
from .visit import Program

logger = get_logger(__name__)

AfterEnd: TypeAlias = Literal["again", "return"]
"""What becomes of a key whose flow has ended: a new flow, or the ended one."""


class EnlivenNew(Protocol):
    """Makes a flow that can be driven of a new row; `read` has both clocks when its deadline was decided."""

    def __call__(self, program: Program[Any], row: FlowRow, context: Context, *, read: BothClocks) -> LiveFlow: ...


class Beginnings:
    """How one engine starts flows.

    Args:
        store: Where they are.
        ledger: How they are written.
        claims: Which machines are known here.
        vault: Where their secrets are.
        removal: Removes those of flows that never began.
        gates: The gates of flows and keys.
        driving: What drives them then.
        make_live: Makes a flow that can be driven.
        resume: Resumes the flow that has the key.
    """

    def __init__(
        self,
        store: Ownership,
        ledger: Ledger,
        claims: Claims,
        vault: Vault,
        removal: Removal,
        gates: Gates,
        driving: Driving,
        *,
        make_live: EnlivenNew,
        resume: ResumeFlow,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._claims = claims
        self._vault = vault
        self._removal = removal
        self._gates = gates
        self._driving = driving
        self._make_live = make_live
        self._resume = resume

    async def start(
        self,
        machine: Machine[Any],
        context: Context,
        key: str | None,
        secrets: Mapping[str, str] | None,
        after_end: AfterEnd,
        why: Why,
    ) -> str:
        """Start a flow, or find the one with this key; its id. See `Engine.start`."""
        self._claims.check_known(machine)
        check_secrets(secrets)
        _, context = machine.encode_context(context)
        check_one_of("after_end", after_end, get_args(AfterEnd))
        check_one_of("why", why, get_args(Why))
        if key is None:
            return await self._new(machine, context, None, secrets)
        check_key(key)
        async with self._gates.key(machine.name, key):
            while True:
                for name in machine.names:
                    found = await self._store.unfinished_with_key(name, key)
                    if found is None and after_end == "return":
                        found = await self._store.newest_with_key(name, key)
                    if found is not None and await self._is_same(machine, found, context, after_end, why):
                        return _found(found, secrets)
                try:
                    return await self._new(machine, context, key, secrets)
                except FlowExists as exc:  # another process was quicker, each time
                    logger.debug("%s", exc)

    async def _is_same(
        self, machine: Machine[Any], found: FlowRow, context: Context, after_end: AfterEnd, why: Why
    ) -> bool:
        """Whether a flow with the same key is the one that is asked for; it is resumed."""
        started = started_context(machine, found, await self._store.first(found.id))
        if started is None and machine.identity:
            started = carried_start(machine, found, await self._store.records(found.id))
        if started is not None:
            check_same_start(machine, found.id, started, context)
        if found.status != "ended":
            await self._resume(found.id, why=why)
        return after_end == "return" or (await self._claims.existing(found.id)).status != "ended"

    async def _new(
        self, machine: Machine[Any], context: Context, key: str | None, secrets: Mapping[str, str] | None
    ) -> str:
        flow = new_flow_id(self._ledger.clock.now())
        async with self._gates.flow(flow):
            await self.begin(flow, machine, context, key=key, secrets=secrets)
        return flow

    async def begin(
        self,
        flow: str,
        machine: Machine[Any],
        context: Context,
        *,
        key: str | None = None,
        parent: str | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        """Write a new flow and drive it; the caller is at its gate."""
        read = read_clocks(self._ledger.clock)
        row, record = first_lines(
            flow, machine, context, now=read.now, key=key, parent=parent, owner=self._claims.owner
        )
        try:
            for name, secret in (secrets or {}).items():
                await self._vault.put(flow, name, secret)
            await self._ledger.begin(row, record)
        except BaseException:  # also when it was cancelled between the two: no flow, no secrets
            if secrets:
                await self._removal.discard(flow)
            raise
        self._driving.set_going(self._make_live(self._claims.program(machine.name), row, context, read=read))


def _found(row: FlowRow, secrets: Mapping[str, str] | None) -> str:
    if secrets:
        logger.info("%s continues as it was started: the secrets %s are not used", row.id, ", ".join(secrets))
    return row.id
