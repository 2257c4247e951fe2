"""What a program accepts as activities: lists of coroutine functions and async generator functions of the visit."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EventNotAccepted, MachineInvalid
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.program import by_name
from systemprompt_cloud.engine.visit import Program, Visit, await_signal
from systemprompt_cloud.io.local.paths import CloudPaths
from systemprompt_cloud.testing.clock import VirtualClock


class Rung(Event, frozen=True):
    """Somebody rang."""


BELL = Machine(
    "bell",
    version=1,
    initial="quiet",
    context=Context,
    states=[
        State("quiet", "q"),
        State("rung", "r", verdict=Verdict.SUCCESS),
        State("off", "x", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Rung, "quiet", "rung"), on(CancelRequested, ANY, "off")],
)


def program(activities: Any) -> Program[Context]:
    """The bell's, with these activities."""
    return Program(BELL, activities)


async def ring(_visit: Visit[Context]) -> Event:
    return Rung()


async def rings(_visit: Visit[Context]) -> AsyncGenerator[Event]:
    yield Rung()


async def ring_for(who: str, _visit: object) -> Event:
    assert who
    return Rung()


class Rings:
    """Objects and methods as activities."""

    async def __call__(self, _visit: Visit[Context]) -> Event:
        return Rung()

    async def ring(self, _visit: Visit[Context]) -> Event:
        return Rung()

    async def rings(self, _visit: Visit[Context]) -> AsyncGenerator[Event]:
        yield Rung()

    @staticmethod
    async def for_all(_visit: Visit[Context]) -> Event:
        return Rung()


def logged(function: Callable[..., Awaitable[Event]]) -> Callable[..., Awaitable[Event]]:
    """A decorator as people write them: a plain function that returns the coroutine."""

    @functools.wraps(function)
    def inner(*args: Any) -> Awaitable[Event]:
        return function(*args)

    return inner


GOOD: list[Any] = [
    ring,
    rings,
    await_signal,
    functools.partial(ring_for, "ada"),
    functools.partial(functools.partial(ring_for), "ada"),
    Rings(),
    Rings().ring,
    Rings().rings,
    Rings.for_all,
    functools.partial(Rings().ring),
    logged(ring),
]


@pytest.mark.parametrize("activity", GOOD)
async def test_an_activity_is_what_makes_a_coroutine_or_an_async_generator(activity: Any, tmp_path: Any) -> None:
    """Functions, methods, objects, bound arguments, decorators: what is accepted runs."""
    paths = CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="explicit")
    for listed in ([activity], (activity, await_signal)):
        async with open_engine(paths, [program({"quiet": listed})], clock=VirtualClock(), inline=True) as engine:
            flow = await engine.start(BELL, Context())
            if activity is await_signal:
                await flow.send(Rung())
            with trio.fail_after(5):
                assert (await flow.wait()).state == "rung"


def plain(_visit: object) -> None:
    pass


async def nothing() -> None:
    pass


async def two(_visit: object, _more: object) -> None:
    pass


@pytest.mark.parametrize(
    ("activities", "why", "fix"),
    [
        ({"quiet": ring}, "the state quiet is given ring, not a list of", 'Put it in a list: {"quiet": [ring]}.'),
        ({"quiet": Rings()}, "the state quiet is given Rings, not a list of", '{"quiet": [Rings]}'),
        ({"quiet": "ring"}, "the state quiet is given the string 'ring', not a list", '{"quiet": [ring]}'),
        ({"quiet": {"ring": ring}}, "the state quiet is given dict, not a list", "Write a list of activities."),
        ({"quiet": {ring}}, "the state quiet is given set, not a list", "Write a list of activities."),
        ({"quiet": 3}, "the state quiet is given int, not a list", "Write a list of activities."),
        (
            {"quiet": ["ring"]},
            "quiet has 'ring' among its activities, which is no function",
            "without quotes",
        ),
        ({"quiet": [None]}, "the state quiet has None among its activities", "without calling it"),
        (
            {"quiet": [ring, plain]},
            "quiet has the activity plain, which is no coroutine",
            "async def plain(visit)",
        ),
        ({"quiet": [functools.partial(plain)]}, "the activity plain(), which is no coroutine", "async def"),
        ({"quiet": [Rings]}, "the activity Rings, which is no coroutine function", "async def"),
        ({"quiet": [print]}, "the activity print, which is no coroutine function", "async def"),
        ({"quiet": [nothing]}, "the activity nothing, which cannot be called with the visit alone", "one parameter"),
        ({"quiet": [two]}, "the activity two, which cannot be called with the visit alone", "functools.partial"),
        ({"quiet": [functools.partial(ring_for, "a", "b")]}, "the activity ring_for(a, b), which cannot be", "one"),
        ({"quiet": []}, "nothing is done in quiet", "await_signal"),
        ({}, "nothing is done in quiet", "await_signal"),
        ({"quiet": [ring], "rung": [ring]}, "activities for rung, which can do nothing", ""),
        ([("quiet", [ring])], "activities are a mapping of states to lists, not list", "{STATE: [ACTIVITY, ...]}"),
    ],
    ids=lambda value: value if isinstance(value, str) else "case",
)
def test_what_is_no_list_of_activities_is_refused(activities: Any, why: str, fix: str) -> None:
    """The message names the machine, the state, the activity; the hint is the fix."""
    with pytest.raises(MachineInvalid, match=f"^machine bell: .*{re.escape(why)}") as refused:
        program(activities)
    assert fix in refused.value.recovery_hint


async def test_a_coroutine_instead_of_its_function_is_refused() -> None:
    """It was called one time too early."""
    called = nothing()
    with pytest.raises(MachineInvalid, match="which is no function"):
        program({"quiet": [called]})
    await called


def test_programs_are_found_by_every_name() -> None:
    """Today's and former ones."""
    renamed = Machine(
        "gong", version=1, initial="quiet", context=Context, states=[*BELL.states.values()], rows=BELL.rows,
        formerly=("door bell", ""),
    )  # fmt: skip
    first, second = program({"quiet": [ring]}), Program(renamed, {"quiet": [ring]})
    assert by_name([first, second, first]) == {"bell": first, "gong": second, "door bell": second, "": second}


@pytest.mark.parametrize("sent", [None, "Rung", Rung, {"event": "Rung"}])
async def test_what_is_sent_and_is_no_event_is_refused_by_its_type(sent: Any, tmp_path: Any) -> None:
    """To a flow that is driven here, by an activity too, and to one that is not."""
    paths = CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="explicit")
    refused: list[str] = []

    async def sends(visit: Visit[Context]) -> None:
        try:
            await visit.send(sent)
        except EventNotAccepted as exc:
            refused.append(exc.user_message)
        await trio.sleep_forever()

    async with open_engine(paths, [program({"quiet": [sends]})], clock=VirtualClock(), inline=True) as engine:
        flow = await engine.start(BELL, Context())
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(EventNotAccepted, match="which is no event"):
            await flow.send(sent)
    async with open_engine(paths, [program({"quiet": [sends]})], clock=VirtualClock(), inline=True) as engine:
        with pytest.raises(EventNotAccepted, match="which is no event"):
            await engine.send(flow.id, sent)
        assert [change.kind for change in engine.history(flow.id)] == ["started"]
    assert len(refused) == 1
    assert ("the class Rung itself" if sent is Rung else type(sent).__qualname__) in refused[0]
