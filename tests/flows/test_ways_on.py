"""A hint sends nobody to a command that refuses the flow."""

from __future__ import annotations

import msgspec
import pytest
from systemprompt_cloud.errors import CLI, EffectUncertain, StillPending
from systemprompt_cloud.flows.live import Trouble, first_lines
from systemprompt_cloud.flows.ways_on import fitting, way_on
from systemprompt_cloud.io.records import FlowRow, parse_moment
from systemprompt_cloud.machines.checkout import CHECKOUT
from systemprompt_cloud.testing.parcel import PARCEL, Parcel

NOON = parse_moment("2026-03-01T12:00:00Z")
OTHERS, _ = first_lines("01abc", PARCEL, Parcel(), now=NOON, key=None, parent=None, owner="o")
OURS: FlowRow = msgspec.structs.replace(OTHERS, machine=CHECKOUT.name)


@pytest.mark.parametrize("hint", [EffectUncertain.default_hint, StillPending.default_hint, "Plug it in."])
def test_a_flow_of_this_package_keeps_its_hints(hint: str) -> None:
    """The command line goes on with it."""
    assert fitting(hint, OURS) == hint
    assert way_on(OURS.machine, OURS.id) == f"Go on with it: {CLI} flows resume 01abc"
    assert way_on(OURS.machine, OURS.id, repeat=True) == f"Go on with it: {CLI} flows resume 01abc --repeat"


def test_a_flow_of_another_program_is_that_programs() -> None:
    """Also where an older release wrote the hint into the journal; one that names no such command stays."""
    trouble = Trouble("EffectUncertain", "sent?", f"Look; then `{CLI} flows resume --repeat` does it again.", 8)
    hint = trouble.error(OTHERS).recovery_hint
    assert "Engine.resume(flow, repeat=True)" in hint
    assert hint.endswith(f"{CLI} flows cancel 01abc")
    assert fitting(StillPending.default_hint, OTHERS) == way_on("parcel", "01abc")
    assert fitting("Plug it in.", OTHERS) == "Plug it in."
