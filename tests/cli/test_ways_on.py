"""A hint sends nobody to a command that refuses the flow."""

from __future__ import annotations

import msgspec
import pytest
from systemprompt_cloud.base.errors import CLI
from systemprompt_cloud.base.moments import parse_moment
from systemprompt_cloud.cli.flows.ways_on import fitting, way_on
from systemprompt_cloud.engine.errors import EffectUncertain
from systemprompt_cloud.engine.history import Trouble, first_lines
from systemprompt_cloud.engine.journal.records import FlowRow
from systemprompt_cloud.errors import StillPending
from systemprompt_cloud.machines.checkout import CHECKOUT

from tests.support.parcel import PARCEL, Parcel

NOON = parse_moment("2026-03-01T12:00:00Z")
OTHERS, _ = first_lines("01abc", PARCEL, Parcel(), now=NOON, key=None, parent=None, owner="o")
OURS: FlowRow = msgspec.structs.replace(OTHERS, machine=CHECKOUT.name)


@pytest.mark.parametrize("hint", [StillPending.default_hint, "Plug it in."])
def test_a_flow_of_this_package_keeps_its_hints(hint: str) -> None:
    """The command line goes on with it."""
    assert fitting(hint, OURS) == hint
    assert f"{CLI} flows resume --repeat" in fitting(EffectUncertain.default_hint, OURS)
    assert way_on(OURS.machine, OURS.id) == f"Go on with it: {CLI} flows resume 01abc"
    assert way_on(OURS.machine, OURS.id, repeat=True) == f"Go on with it: {CLI} flows resume 01abc --repeat"


def test_a_flow_of_another_program_is_that_programs() -> None:
    """Also where an older release wrote the hint into the journal; one that names no such command stays."""
    trouble = Trouble("EffectUncertain", "sent?", f"Look; then `{CLI} flows resume --repeat` does it again.", 8)
    hint = fitting(trouble.error(OTHERS).recovery_hint, OTHERS)
    assert "Engine.resume(flow, repeat=True)" in hint
    assert hint.endswith(f"{CLI} flows cancel 01abc")
    assert fitting(StillPending.default_hint, OTHERS) == way_on("parcel", "01abc")
    assert fitting(EffectUncertain.default_hint, OTHERS) == way_on("parcel", "01abc", repeat=True)
    assert fitting("Plug it in.", OTHERS) == "Plug it in."
