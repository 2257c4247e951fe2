"""The summary of a history: a line for each state, trouble counted with its cause, and how it ended."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systemprompt_cloud.base.columns import measure
from systemprompt_cloud.diagrams.summary import draw_summary
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.machines.every import MACHINES
from systemprompt_cloud.machines.login import LOGIN
from systemprompt_cloud.machines.onboarding import ONBOARDING
from systemprompt_cloud.machines.provisioning import PROVISIONING

from tests.support.histories import tell, walks
from tests.support.parcel import PARCEL

TROUBLES: Final = {"StreamLost": "stream lost"}
PROVISIONED: Final = tell(
    PROVISIONING,
    ("awaiting_tenant", "StepObserved", "Tenant registered"),
    ("awaiting_tenant", "StreamLost", "503 stream_outage"),
    ("awaiting_tenant", "StreamLost", "503 stream_outage"),
    ("awaiting_tenant", "StreamLost", "the connection was closed"),
    ("awaiting_tenant", "StepObserved", "Database created"),
    ("fetching_secrets", "TenantBecameReady", "ready"),
    ("saving_tenant", "SecretsFetched"),
    ("#intent", "01abc:6:save_tenant"),
    ("#paused", "Io", "no space left on /home"),
    ("#resumed", "resumed"),
    ("ready", "TenantSaved"),
)


def test_a_line_for_each_state() -> None:
    """When it was entered, how long the flow was in it, what came of it; trouble with its most frequent cause."""
    assert (
        draw_summary([PROVISIONING], [PROVISIONED], troubles=TROUBLES, ascii_only=True)
        == """\
provisioning 01abc succeeded in 11.0 s, from 2026-03-01 12:00:00 UTC
   0.00 s  o waiting for the tenant             6.00 s  ready; 2 updates
           ! stream lost 3 times in 2.00 s (503 stream_outage, and 1 other cause)
   6.00 s  o fetching the tenant's secrets      1.00 s
   7.00 s  o storing the tenant                 4.00 s
           ! paused (no space left on /home)
   11.0 s  + the tenant is ready and stored
"""
    )


def test_a_flow_inside_is_told_by_its_end() -> None:
    """With what went wrong inside it."""
    child = tell(PROVISIONING, ("awaiting_tenant", "StreamLost", "gone"), ("failed", "TenantFailed", "no room"),
                 flow="01abc.provisioning-1", start=1.0)  # fmt: skip
    parent = tell(ONBOARDING, ("provisioning", "CheckoutSucceeded"), ("failed", "ProvisioningFailed", "no room"))
    drawn = draw_summary(MACHINES, [parent, child], troubles=TROUBLES)
    assert "! stream lost (gone)" in drawn
    assert "✘ waiting for the tenant" in drawn


@pytest.mark.parametrize(
    ("last", "said"), [(("#paused", "Network", "down"), "is paused after 1.00 s"), ((), "has not ended after 0.00 s")]
)
def test_a_flow_that_has_not_ended(last: tuple[str, ...], said: str) -> None:
    """It says so, and why it is paused."""
    drawn = draw_summary([LOGIN], [tell(LOGIN, *([last] if last else []))])
    assert said in drawn
    assert ("! paused (down)" in drawn) == bool(last)


def test_a_machine_without_its_table() -> None:
    """Its states have names; whether it has ended is not claimed."""
    drawn = draw_summary([], [tell(PARCEL, ("travelling", "Packed"), ("delivered", "Delivered"))])
    assert "ended" not in drawn
    assert "delivered" in drawn


def test_nothing_yet() -> None:
    """An empty history is no error."""
    assert draw_summary(MACHINES, []) == "nothing has happened yet\n"


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_history_fits(machine: Machine[Any], data: st.DataObject) -> None:
    """Whatever happened and however narrow the page is."""
    width = data.draw(st.integers(40, 120))
    changes = data.draw(walks(machine))
    drawn = draw_summary(MACHINES, [changes], troubles=TROUBLES, width=width)
    assert all(measure(line) <= width for line in drawn.splitlines())
    assert drawn.startswith(machine.name)
