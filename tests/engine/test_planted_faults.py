"""An engine with one fault breaks a promise that the tests of its subject hold: each of those tests can fail.

A fault takes something out of the engine, or makes it wrong in one place. The test that is to find it is run twice,
with the right engine and with the fault.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, cast

import msgspec
import pytest
import trio
from systemprompt_cloud.base.errors import CloudError
from systemprompt_cloud.engine.history import Change
from systemprompt_cloud.engine.journal.journal import Journal
from systemprompt_cloud.engine.journal.records import FlowRow, Record
from systemprompt_cloud.engine.journal.selecting import FlowFilter
from systemprompt_cloud.engine.ledger import Ledger
from systemprompt_cloud.engine.live import LiveFlow
from systemprompt_cloud.engine.loading import Loading
from systemprompt_cloud.engine.looking import Looking
from systemprompt_cloud.engine.observers import Observer, Observers
from systemprompt_cloud.engine.retries import Attempts, Retry, attempts_in
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock
from trio.testing import MockClock

from tests.engine import test_delayed_start, test_following, test_looking, test_observers, test_retries
from tests.support.listening import listening
from tests.support.parcel import Oops

SECONDS: Final = 10_000
"""How long a test may take on its clock, where a fault makes it wait for what never comes."""
FOUND: Final = (AssertionError, pytest.fail.Exception, trio.TooSlowError, CloudError, LookupError, Oops)

Patch: TypeAlias = pytest.MonkeyPatch
Function: TypeAlias = Callable[..., Any]


class Fault(NamedTuple):
    """What is wrong, and which test finds it.

    Attributes:
        plant: Puts it into the engine.
        found_by: The test.
        given: What the test is given besides its fixtures.
    """

    plant: Callable[[Patch], None]
    found_by: Callable[..., Any]
    given: Mapping[str, Any] = {}


def instead(place: Any, name: str, make: Callable[[Function], Function]) -> Callable[[Patch], None]:
    """Puts what is made of a function in its place."""
    return lambda patch: patch.setattr(place, name, make(getattr(place, name)))


# --- looking ----------------------------------------------------------------------------------------------------------


def asks_for(**wrong: Any) -> Callable[[Patch], None]:
    """A page is read without one of the things that it was asked for."""

    def make(right: Function) -> Function:
        def select(journal: Journal, wanted: FlowFilter) -> Sequence[FlowRow]:
            return right(journal, msgspec.structs.replace(wanted, **wrong))

        return select

    return instead(Journal, "select", make)


def _skips(right: Function) -> Function:
    def select(journal: Journal, wanted: FlowFilter) -> Sequence[FlowRow]:
        page: Sequence[FlowRow] = right(journal, wanted)
        return page if wanted.before is None else page[1:]

    return select


def _forgets_names(_right: Function) -> Function:
    def names(_loading: Loading, machine: str) -> tuple[str, ...]:
        return (machine,)

    return names


PAGES: Final = test_looking.test_pages_have_every_flow_once
FILTERS: Final = test_looking.test_flows_are_found_by_what_is_asked_for
LOOKING: Final = {
    "a page skips the flow after the last page": Fault(instead(Journal, "select", _skips), PAGES),
    "every page is the first": Fault(asks_for(before=None), FILTERS),
    "the status does not matter": Fault(asks_for(statuses=()), PAGES),
    "the machine does not matter": Fault(asks_for(machines=()), FILTERS),
    "the key does not matter": Fault(asks_for(key=None), FILTERS),
    "children are among the flows without a parent": Fault(asks_for(parent=msgspec.UNSET), FILTERS),
    "flows under a former name are not found": Fault(instead(Loading, "names", _forgets_names), FILTERS),
}


# --- following --------------------------------------------------------------------------------------------------------


def past(shift: Callable[[int], int]) -> Callable[[Patch], None]:
    """What has happened before a look is read from the wrong record on."""

    def read(right: Function) -> Function:
        def _past(looking: Looking, row: FlowRow, *, after: int) -> Iterator[Change]:
            return right(looking, row, after=shift(after))

        return _past

    return instead(Looking, "_past", read)


def _gives_up(_right: Function) -> Function:
    async def _abandoned(_looking: Looking, _row: FlowRow) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    return _abandoned


def _alone(right: Function) -> Function:
    def changes(looking: Looking, flow: str, **_children: bool) -> Any:
        return right(looking, flow)

    return changes


HANDS: Final = test_following.test_who_follows_a_flow_follows_it_from_process_to_process
FOLLOWING: Final = {
    "a change between two looks is lost": Fault(past(lambda after: after + bool(after)), HANDS, {"again": "elsewhere"}),
    "what was told is told again": Fault(past(lambda _after: 0), HANDS, {"again": "elsewhere"}),
    "a flow elsewhere counts as left behind": Fault(
        instead(Looking, "_abandoned", _gives_up), HANDS, {"again": "elsewhere"}
    ),
    "children are not followed": Fault(
        instead(Looking, "changes", _alone),
        test_following.test_children_of_a_flow_elsewhere_are_followed_from_when_they_begin,
    ),
}


# --- observers --------------------------------------------------------------------------------------------------------


def _nobody(_row: FlowRow, _record: Record) -> None:
    """Is told nothing."""


def _tells_first(right: Function) -> Function:
    async def advance(
        ledger: Ledger, before: FlowRow, after: FlowRow, record: Record, signal: int | None = None
    ) -> None:
        told = ledger._committed  # pyright: ignore[reportPrivateUsage]
        told(after, record)
        ledger._committed = _nobody  # pyright: ignore[reportPrivateUsage]
        try:
            await right(ledger, before, after, record, signal)
        finally:
            ledger._committed = told  # pyright: ignore[reportPrivateUsage]

    return advance


def _tells_twice(right: Function) -> Function:
    def tell(observers: Observers, row: FlowRow, record: Record, cause: BaseException | None) -> None:
        right(observers, row, record, cause)
        if record.kind == "retried":
            right(observers, row, record, cause)

    return tell


def _loses_causes(right: Function) -> Function:
    def tell(observers: Observers, row: FlowRow, record: Record, _cause: BaseException | None) -> None:
        right(observers, row, record, None)

    return tell


def _lets_errors_out(_right: Function) -> Function:
    def _each(observers: Observers, tell: Callable[[Observer], None]) -> None:
        for observer in observers._observers:  # pyright: ignore[reportPrivateUsage]
            tell(observer)

    return _each


EVERYTHING: Final = test_observers.test_an_observer_is_told_everything_once_and_in_order
OBSERVERS: Final = {
    "an observer is told before the commit": Fault(
        instead(Ledger, "advance", _tells_first), test_observers.test_an_observer_is_told_after_the_commit
    ),
    "a retry is told twice": Fault(instead(Observers, "tell", _tells_twice), EVERYTHING),
    "a pause has no cause": Fault(instead(Observers, "tell", _loses_causes), EVERYTHING),
    "what an observer raises reaches the flow": Fault(
        instead(Observers, "_each", _lets_errors_out), test_observers.test_an_observer_that_raises_disturbs_no_flow
    ),
}


# --- retries ----------------------------------------------------------------------------------------------------------

LIVE: Final = inspect.getmodule(LiveFlow)


def _counts_nothing(_right: Function) -> Function:
    def attempts_in(_records: Iterable[Record]) -> Mapping[str, Attempts]:
        return {}

    return attempts_in


def _remembers_no_wait(right: Function) -> Function:
    def attempts_in(records: Iterable[Record]) -> Mapping[str, Attempts]:
        return {name: Attempts(each.failures) for name, each in right(records).items()}

    return attempts_in


def _waits_anew_for_persons(_right: Function) -> Function:
    async def _past_failures(live: LiveFlow, why: str, *, anew: bool) -> Mapping[str, Attempts]:
        failures = live._ledger.store.failures  # pyright: ignore[reportPrivateUsage]
        return attempts_in(await failures(live.row.id, live.row.incarnation))

    return _past_failures


def _waits_as_at_first(right: Function) -> Function:
    def seconds(retry: Retry, _failures: int, chance: float) -> float:
        return right(retry, 1, chance)

    return seconds


def _covers_everything(_right: Function) -> Function:
    def covers(_retry: Retry, _exc: BaseException) -> bool:
        return True

    return covers


CRASH: Final = test_retries.test_the_count_survives_a_crash
RETRIES: Final = {
    "a retry is not counted after a restart": Fault(
        instead(LIVE, "attempts_in", _counts_nothing), CRASH, {"why": "person"}
    ),
    "the rest of a wait is left out after a restart": Fault(
        instead(LIVE, "attempts_in", _remembers_no_wait), CRASH, {"why": "handover"}
    ),
    "a person waits for the rest, too": Fault(
        instead(LiveFlow, "_past_failures", _waits_anew_for_persons), CRASH, {"why": "person"}
    ),
    "every wait is as long as the first": Fault(
        instead(Retry, "seconds", _waits_as_at_first),
        test_retries.test_a_failure_is_tried_again_after_its_backoff,
    ),
    "everything is retried": Fault(
        instead(Retry, "covers", _covers_everything),
        test_retries.test_only_what_is_chosen_is_retried,
        {"choice": OSError, "retried": False},
    ),
}


# --- delayed start ----------------------------------------------------------------------------------------------------


def begins(*, always: bool) -> Callable[[Patch], None]:
    """A queued flow begins at once: always, or after a restart only."""

    def make(right: Function) -> Function:
        def deadline(live: LiveFlow) -> datetime | None:
            return None if live.queued and (always or live.row.seq > 1) else right(live)

        return deadline

    return instead(LiveFlow, "deadline", make)


def _runs_on(_right: Function) -> Function:
    def deadline_text(*_: object) -> None:
        """None at all."""

    return deadline_text


AT_ITS_TIME: Final = test_delayed_start.test_it_begins_at_its_time
RESUMED: Final = test_delayed_start.test_whoever_resumes_it_waits_on
DELAYED_START: Final = {
    "it begins too early": Fault(begins(always=True), AT_ITS_TIME, {"when": {"delay": 3600}}),
    "it begins with a restart": Fault(begins(always=False), RESUMED, {"away": 10.0, "begins": 100.0, "why": "person"}),
    "its state has no deadline when it begins": Fault(
        instead(LIVE, "deadline_text", _runs_on), AT_ITS_TIME, {"when": {"delay": 3600}}
    ),
}


# --- each of them -----------------------------------------------------------------------------------------------------

FAULTS: Final[dict[str, Fault]] = {**LOOKING, **FOLLOWING, **OBSERVERS, **RETRIES, **DELAYED_START}


def carry_out(fault: Fault, directory: Path) -> None:
    """Run the test of a fault, with fixtures of its own."""
    test_delayed_start.BEGAN.clear()
    directory.mkdir()
    home = directory / ".systemprompt"
    paths = CloudPaths(directory=home, state_directory=home, origin="explicit")
    wanted = inspect.signature(fault.found_by).parameters
    with Journal(directory / "journal.sqlite3") as journal, listening(logging.DEBUG, "%(message)s") as logged:
        fixtures: dict[str, Any] = {
            "journal": journal,
            "logged": logged,
            "paths": paths,
            "clock": VirtualClock(),
            "autojump_clock": MockClock(autojump_threshold=0) if "autojump_clock" in wanted else None,
        }
        run = partial(fault.found_by, **{name: fixtures[name] for name in wanted if name in fixtures}, **fault.given)
        if fault.found_by is PAGES:
            run()
        else:
            trio.run(_in_time, run, clock=fixtures["autojump_clock"])


async def _in_time(run: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(SECONDS):
        await run()


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """What went wrong, without the groups it is in."""
    if isinstance(exc, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", exc).exceptions:
            yield from leaves(each)
    else:
        yield exc


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    """By a test that the right engine passes."""
    fault = FAULTS[name]
    if fault.found_by is not PAGES:  # a long search
        carry_out(fault, tmp_path / "right")
    fault.plant(monkeypatch)
    with pytest.raises(BaseException) as caught:  # noqa: PT011 which is looked at below
        carry_out(fault, tmp_path / "wrong")
    assert any(isinstance(each, FOUND) for each in leaves(caught.value)), caught.value
