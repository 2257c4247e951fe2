"""A hint sends nobody to a command that refuses the flow."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.base.moments import parse_moment
from systemprompt_cloud.cli.flows import ways_on
from systemprompt_cloud.cli.flows.ways_on import hint_of_trouble, is_ours, way_on
from systemprompt_cloud.cli.shared.names import CLI
from systemprompt_cloud.cli.shared.settings import Settings
from systemprompt_cloud.engine.errors import EffectUncertain, UnexpectedFailure
from systemprompt_cloud.engine.history import Trouble, first_lines
from systemprompt_cloud.engine.journal.records import FlowRow
from systemprompt_cloud.errors import StillPending
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.machines.checkout import CHECKOUT
from systemprompt_cloud.machines.every import MACHINES

from tests.support.parcel import PARCEL, Parcel

NOON = parse_moment("2026-03-01T12:00:00Z")
OTHERS, _ = first_lines("01abc", PARCEL, Parcel(), now=NOON, key=None, parent=None, owner="o")
OURS: FlowRow = msgspec.structs.replace(OTHERS, machine=CHECKOUT.name)


def test_the_names_of_our_machines_are_known_without_them() -> None:
    """A machine that is added is resumed by the command line."""
    assert all(is_ours(machine.name) for machine in MACHINES)
    assert is_ours("parcel") is False
    assert len(ways_on.OURS) == len(MACHINES)


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """Nothing was named on the command line."""
    return Settings(paths=CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="explicit"))


@pytest.mark.parametrize(
    ("error", "command"),
    [
        (EffectUncertain("sent?"), f"{CLI} flows resume --repeat"),
        (StillPending("not yet"), f"{CLI} flows resume"),
        (UnexpectedFailure("oops"), f"{CLI} flows resume"),
    ],
)
def test_a_flow_is_resumed_where_it_can_be(here: Settings, error: CloudError, command: str) -> None:
    """One of this package by the command line, one of another program by that program."""
    trouble = Trouble.of(error)
    repeat = "--repeat" in command
    assert command in hint_of_trouble(here, trouble, OURS)
    assert hint_of_trouble(here, trouble, OTHERS) == way_on(here, "parcel", "01abc", repeat=repeat)
    assert CLI not in trouble.hint


def test_a_decision_is_taken_about_the_child_it_is_about(here: Settings) -> None:
    """A flow that is paused with its child: the command and the call name the child, whose effect it is."""
    trouble = msgspec.structs.replace(Trouble.of(EffectUncertain("sent?")), flow="01abc.parcel-1")
    assert f"{CLI} flows resume --repeat 01abc.parcel-1" in hint_of_trouble(here, trouble, OURS)
    assert '`Engine.resume("01abc.parcel-1", repeat=True)`' in hint_of_trouble(here, trouble, OTHERS)


def test_what_an_older_release_wrote_is_understood(here: Settings) -> None:
    """Its journals have commands in their hints, and no remedy; a hint without a command stays."""
    old = Trouble("EffectUncertain", "sent?", f"Look; then `{CLI} flows resume --repeat` does it again.", 8)
    assert hint_of_trouble(here, old, OURS) == old.hint
    hint = hint_of_trouble(here, old, OTHERS)
    assert "Engine.resume(flow, repeat=True)" in hint
    assert hint.endswith(f"{CLI} flows cancel 01abc")
    waiting = Trouble("StillPending", "not yet", f"Wait on: {CLI} flows resume", 8)
    assert hint_of_trouble(here, waiting, OTHERS) == way_on(here, "parcel", "01abc")
    plug = Trouble("CloudError", "dark", "Plug it in.", 8)
    assert hint_of_trouble(here, plug, OURS) == hint_of_trouble(here, plug, OTHERS) == "Plug it in."


def test_a_way_on_is_a_command_where_there_is_one(here: Settings) -> None:
    """For a flow of this package; for another program's, how to end it."""
    assert way_on(here, OURS.machine, OURS.id) == f"To continue, run: {CLI} flows resume 01abc"
    assert way_on(here, OURS.machine, OURS.id, repeat=True) == f"To continue, run: {CLI} flows resume 01abc --repeat"
    assert way_on(here, "parcel", "01abc").endswith(f"{CLI} flows cancel 01abc")
