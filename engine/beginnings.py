"""Starting flows: a new one, or with a key the one there is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias, get_args

from ..base.log import get_logger
from ..base.moments import moment_text
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
from .limits import Ticket
from .live import LiveFlow, ResumeFlow
from .machine.machine import Machine
from .machine.parts import Context
from .secrets import Removal
from .sizes import check_secret
from .starting import carried_start, check_key, check_same_start, check_secrets, started_context
from .steps import Why
from .store import Ownership, Vault
from .turns import Turns
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
        turns: Which flows begin at once.
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
        turns: Turns,
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
        self._turns = turns
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
        *,
        at: datetime | None = None,
    ) -> str:
        """Start a flow, or find the one with this key; its id. See `Engine.start`."""
        self._claims.check_known(machine)
        check_secrets(secrets)
        _, context = machine.encode_context(context)
        check_one_of("after_end", after_end, get_args(AfterEnd))
        check_one_of("why", why, get_args(Why))
        if key is None:
            return await self._new(machine, context, None, secrets, at)
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
                    return await self._new(machine, context, key, secrets, at)
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
        self,
        machine: Machine[Any],
        context: Context,
        key: str | None,
        secrets: Mapping[str, str] | None,
        at: datetime | None,
    ) -> str:
        flow = new_flow_id(self._ledger.clock.now())
        async with self._gates.flow(flow):
            await self.begin(flow, machine, context, key=key, secrets=secrets, at=at)
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
        at: datetime | None = None,
    ) -> None:
        """Write a new flow and drive it; the caller is at its gate.

        Args:
            flow: Its id.
            machine: Its table.
            context: What it knows at its start.
            key: The key it is started with.
            parent: The flow that runs it.
            secrets: Put in its vault first.
            at: The moment it begins; now when not given, or as soon as its program's limit has room for it.

        Raises:
            FlowExists: An unfinished flow has the same key; nothing was written.
            NotStorable: The context or a secret is too large, or cannot be stored; nothing was written.
            CloudError: It could not be written; neither the flow nor a secret of it is left.
        """
        for name, secret in (secrets or {}).items():
            check_secret(name, secret)
        program, read = self._claims.program(machine.name), read_clocks(self._ledger.clock)
        turn = None if at is not None else self._turns.ask(program, parent, (moment_text(read.now), flow))
        try:
            row, record = first_lines(
                flow,
                machine,
                context,
                now=read.now,
                key=key,
                parent=parent,
                owner=self._claims.owner,
                queued=at is not None or isinstance(turn, Ticket),
                at=at,
            )
            for name, secret in (secrets or {}).items():
                await self._vault.put(flow, name, secret)
            await self._ledger.begin(row, record)
        except BaseException:  # also when it was cancelled between the two: no flow, no secrets, no place
            if isinstance(turn, Ticket):
                turn.leave()
            elif turn is not None:
                turn.release()
            if secrets:
                await self._removal.discard(flow)
            raise
        live = self._make_live(program, row, context, read=read)
        if isinstance(turn, Ticket):
            live.ticket = turn
        else:
            live.place = turn
        self._driving.set_going(live)


def _found(row: FlowRow, secrets: Mapping[str, str] | None) -> str:
    if secrets:
        logger.info("%s continues as it was started: the secrets %s are not used", row.id, ", ".join(secrets))
    return row.id
