"""The model finds nothing wrong with the engine, whatever the machine, and finds what is wrong with a broken one.

The broken engines are made by putting a class with one mistake in the place of the right one: that is what is tried
here, and the one place where something inside is replaced.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from systemprompt_cloud.engine import beginnings as beginnings_module
from systemprompt_cloud.engine import drive as drive_module
from systemprompt_cloud.engine import engine as engine_module
from systemprompt_cloud.engine.deadlines import deadline_text
from systemprompt_cloud.engine.errors import FlowParked, KeyInUse
from systemprompt_cloud.engine.history import Trouble
from systemprompt_cloud.engine.journal.records import FlowRow, Record
from systemprompt_cloud.engine.ledger import Ledger
from systemprompt_cloud.engine.live import LiveFlow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import (
    ANY,
    STAY,
    CancelRequested,
    Context,
    DeadlinePassed,
    Event,
    ResumePolicy,
    State,
    Step,
    Verdict,
    on,
)
from systemprompt_cloud.engine.run import Run
from systemprompt_cloud.engine.starting import check_same_start
from systemprompt_cloud.engine.steps import Why
from systemprompt_cloud.engine.visit import Intent, Program, Visit
from systemprompt_cloud.machines.checkout import CHECKOUT
from systemprompt_cloud.machines.deployment import DEPLOYMENT
from systemprompt_cloud.machines.login import LOGIN
from systemprompt_cloud.machines.onboarding import ONBOARDING
from systemprompt_cloud.machines.provisioning import PROVISIONING
from systemprompt_cloud.testing.model import flow_state_machine
from systemprompt_cloud.testing.random_machines import machines
from typing_extensions import override

from tests.support.length import by_length

QUIET: Final = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
MANY: Final = int(os.environ.get("MODEL_STORIES", by_length("0", "400")))
"""How many stories to tell of each machine, new ones each time; the same few when there is none."""
STORIES: Final = settings(
    max_examples=MANY or 20,
    derandomize=not MANY,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=QUIET,
)
HUNT: Final = settings(
    max_examples=by_length(400, 10_000),
    stateful_step_count=25,
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    phases=(Phase.generate,),
    suppress_health_check=QUIET,
)


class Sailing(Context, frozen=True, kw_only=True):
    """What a voyage knows."""

    patience: float = 100.0
    miles: int = 0


class Sailed(Event, frozen=True):
    """Progress."""

    miles: int


class WindFell(Event, frozen=True):
    """From sails to oars."""


class WindRose(Event, frozen=True):
    """From oars to sails."""


class Arrived(Event, frozen=True):
    """There."""


class Unloaded(Event, frozen=True):
    """The cargo is out."""


def further(context: Sailing, event: Sailed) -> Sailing:
    return msgspec.structs.replace(context, miles=event.miles)


VOYAGE = Machine(
    "voyage",
    version=1,
    initial="sailing",
    context=Sailing,
    identity=("miles",),
    states=[
        State(
            "sailing",
            "under sail",
            timeout="patience",
            late="continue",
            effect="hoists the flag",
            resume=ResumePolicy.RETRY,
        ),
        State("rowing", "by oar", timeout="patience", late="continue"),
        State("unloading", "in port", timeout=30.0, effect="moves the cargo", resume=ResumePolicy.RETRY),
        State("home", "home", verdict=Verdict.SUCCESS),
        State("lost", "lost", verdict=Verdict.FAILURE),
        State("called_back", "called back", verdict=Verdict.CANCELLED),
    ],
    rows=[
        on(Sailed, "sailing", STAY, update=further),
        on(Sailed, "rowing", STAY, update=further),
        on(WindFell, "sailing", "rowing"),
        on(WindRose, "rowing", "sailing"),
        on(Arrived, "sailing", "unloading"),
        on(Arrived, "rowing", "unloading"),
        on(Sailed, "unloading", "unloading"),
        on(Unloaded, "unloading", "home"),
        on(DeadlinePassed, ANY, "lost"),
        on(CancelRequested, ANY, "called_back"),
    ],
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of lines about trouble that was made on purpose help nobody."""
    logger = logging.getLogger("systemprompt_cloud")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


@pytest.mark.parametrize(
    "machine", [LOGIN, CHECKOUT, PROVISIONING, DEPLOYMENT, VOYAGE], ids=lambda machine: machine.name
)
def test_no_story_breaks_a_promise(machine: Machine[Any]) -> None:
    """Events, deadlines, failures, cancellations, kills and copies in any order: everything stays as promised."""
    run_state_machine_as_test(flow_state_machine(machine), settings=STORIES)


def test_no_story_of_parents_and_children_breaks_a_promise() -> None:
    """An onboarding with its three children, driven apart and together: no child outlives what it was for."""
    children = {machine.name: machine for machine in (LOGIN, CHECKOUT, PROVISIONING)}
    run_state_machine_as_test(flow_state_machine(ONBOARDING, children=children), settings=STORIES)


def test_no_machine_breaks_a_promise() -> None:
    """The same for tables nobody wrote."""
    run_state_machine_as_test(flow_state_machine(machines()), settings=settings(STORIES, max_examples=MANY or 40))


def test_a_start_with_a_key_in_use_is_part_of_the_stories(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that asks for something else with the key of an unfinished flow is refused, and breaks no promise."""
    refused: list[str] = []

    def check(machine: Machine[Any], flow: str, stored: Context, given: Context) -> None:
        try:
            check_same_start(machine, flow, stored, given)
        except KeyInUse:
            refused.append(flow)
            raise

    monkeypatch.setattr(beginnings_module, "check_same_start", check)
    run_state_machine_as_test(flow_state_machine(VOYAGE), settings=settings(STORIES, max_examples=MANY or 60))
    assert refused


def test_a_program_of_ones_own_is_driven_with_its_own_activities() -> None:
    """What the activities do by themselves mixes with what the story does."""
    arrived: list[str] = []

    async def come_home(visit: Visit[Sailing]) -> Event:
        await visit.clock.sleep_until(visit.clock.now())
        arrived.append(visit.flow)
        return Unloaded()

    async def sail(visit: Visit[Sailing]) -> Event:
        return Sailed(miles=visit.incarnation)

    program = Program(VOYAGE, {"sailing": [sail], "rowing": [sail], "unloading": [come_home]})
    miles: dict[type[Event], st.SearchStrategy[Any]] = {Sailed: st.builds(Sailed, miles=st.integers(0, 9))}
    model = flow_state_machine(program, contexts=st.just(Sailing(patience=50.0)), events=miles)
    run_state_machine_as_test(model, settings=STORIES)
    assert arrived


# --- and it would notice ----------------------------------------------------------------------------------------------


class TakesEventsOfLeftVisits(LiveFlow):
    @override
    async def deliver(self, event: Event, incarnation: int) -> bool:
        return await self.step(event)


class ShowsBeforeTheCommit(Ledger):
    @override
    async def advance(self, before: FlowRow, after: FlowRow, record: Record, signal: int | None = None) -> None:
        self._committed(after, record)
        await self.store.advance(before, after, record, signal)


class RestartsASharedDeadline(LiveFlow):
    @override
    def _changes_on_entry(self, step: Step[Any], context: Context, event: Event) -> dict[str, Any]:
        anew = deadline_text(self.machine, step.state, context, self.clock.now())
        return super()._changes_on_entry(step, context, event) | {"deadline": anew}


class ForgetsProgress(LiveFlow):
    @override
    async def step_alone(self, event: Event, **where: Any) -> bool:
        return True if isinstance(event, Sailed) else await super().step_alone(event, **where)


class AnnouncesWithoutWriting(LiveFlow):
    @override
    async def announce(self, effect: str, incarnation: int) -> Intent:
        return Intent(f"{self.row.id}:{incarnation}:{effect}", uncertain=False)


class ForgetsWhatWasAnnounced(LiveFlow):
    @override
    async def announce(self, effect: str, incarnation: int) -> Intent:
        self.inherited = frozenset()
        return await super().announce(effect, incarnation)


class ForgetsWhatCameToNothing(LiveFlow):
    @override
    async def resume(self, owner: str, *, repeat: bool = False, why: Why = "person") -> None:
        await super().resume(owner, repeat=repeat, why=why)
        announced = [each for each in await self._ledger.store.records(self.row.id) if each.kind == "intent"]
        self.inherited = frozenset(each.name for each in announced if each.incarnation == self.row.incarnation)


class NeverRunsOut(LiveFlow):
    @override
    def deadline(self) -> None:
        return None


class ParksSilently(LiveFlow):
    @override
    async def park(self, exc: BaseException) -> FlowParked | None:
        return Trouble.of(exc).error(self.row)


class DoesNotCountVisits(LiveFlow):
    @override
    async def record(self, kind: Any, name: str, body: str, **changes: Any) -> None:
        if "incarnation" in changes:
            changes["incarnation"] = self.row.incarnation
        await super().record(kind, name, body, **changes)


# Those that take hundreds of stories to find are hunted in the long run.
MUTANTS: Final = [
    pytest.param(TakesEventsOfLeftVisits, "acknowledged and is not in the journal|left", marks=pytest.mark.long),
    (RestartsASharedDeadline, "has the deadline .*; it should be"),
    (ForgetsProgress, "was acknowledged and is not in the journal|were left lying"),
    (AnnouncesWithoutWriting, "was announced and is not on disk|which an earlier process announced"),
    pytest.param(
        ForgetsWhatWasAnnounced, "which an earlier process announced|was announced already", marks=pytest.mark.long
    ),
    (NeverRunsOut, "its deadline was"),
    pytest.param(ForgetsWhatCameToNothing, "which an earlier process announced", marks=pytest.mark.long),
    (ParksSilently, "can do nothing more|at work are"),
    (DoesNotCountVisits, "visit"),
]


def hunt() -> None:
    run_state_machine_as_test(flow_state_machine(VOYAGE), settings=HUNT)


@pytest.mark.parametrize(("mutant", "noticed"), MUTANTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_engine_is_found_out(mutant: type[LiveFlow], noticed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One mistake in what makes a step durable, and a story is found that shows it."""
    monkeypatch.setattr(engine_module, "LiveFlow", mutant)
    with pytest.raises(AssertionError, match=noticed):
        hunt()


def test_an_engine_that_shows_before_the_commit_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that is published and not yet on disk is seen."""
    monkeypatch.setattr(engine_module, "Ledger", ShowsBeforeTheCommit)
    with pytest.raises(AssertionError, match="was shown before it was on disk"):
        hunt()


@pytest.mark.long
def test_an_engine_that_ignores_the_identity_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that stands for two different voyages is seen."""

    def check_nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(beginnings_module, "check_same_start", check_nothing)
    with pytest.raises(AssertionError, match="the key key was started with another miles"):
        hunt()


class StaysWhenLeft(Run):
    @override
    def leave(self) -> None:
        self.visit.left = True


def test_an_engine_that_leaves_activities_running_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that was left and whose nursery lives on is seen."""
    monkeypatch.setattr(drive_module, "Run", StaysWhenLeft)
    with pytest.raises(AssertionError, match="at work are"):
        hunt()


def test_an_engine_that_leaves_children_behind_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that went on while its child still runs is seen."""

    async def cancel_nobody(*_: object) -> None:
        pass

    monkeypatch.setattr(drive_module, "cancel_strays", cancel_nobody)
    children = {machine.name: machine for machine in (LOGIN, CHECKOUT, PROVISIONING)}
    with pytest.raises(AssertionError, match="still runs; its parent is done with it"):
        run_state_machine_as_test(flow_state_machine(ONBOARDING, children=children), settings=HUNT)
