"""What is driven here: the flows of this engine's own tasks."""

from __future__ import annotations

from .claims import Claims
from .journal.records import FlowRow
from .live import LiveFlow
from .secrets import discard_secrets
from .store import Vault


class Driven:
    """The flows one engine drives, or has just stopped driving because the journal could not be written.

    Args:
        claims: How a flow becomes ours.
        vault: Where the secrets of flows are that end here.
    """

    def __init__(self, claims: Claims, vault: Vault) -> None:
        self._claims = claims
        self._vault = vault
        self._live: dict[str, LiveFlow] = {}

    @property
    def any(self) -> bool:
        """Whether any flow is driven here."""
        return bool(self._live)

    def known(self, flow: str) -> LiveFlow | None:
        """The flow, also when it was stopped here and only this process knows why."""
        return self._live.get(flow)

    def driven(self, flow: str) -> LiveFlow | None:
        """The flow, if it is driven here and not stopped."""
        live = self._live.get(flow)
        return None if live is None or live.settled.is_set() else live

    def add(self, live: LiveFlow) -> None:
        """A flow that was just written, owned by this engine."""
        self._live[live.row.id] = live

    async def take_over(self, row: FlowRow) -> LiveFlow:
        """Make a flow ours, to be driven or ended; see `Claims.take_over`."""
        live = await self._claims.take_over(row)
        if not live.ended:
            self.add(live)
        return live

    async def finish(self, live: LiveFlow, failure: Exception | None) -> None:
        """Nothing drives the flow here any more; `failure` is why, when it has not ended."""
        try:
            if live.ended:
                await discard_secrets(self._vault, live.row.id)
        finally:
            if failure is None or live.row.status == "parked":
                # The journal can answer for it from now on.
                self._live.pop(live.row.id, None)
            live.settle(failure)
