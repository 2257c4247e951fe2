"""Crash points: kill a flow at every point, resume it, and compare the result with an undisturbed run.

    python -m tests.faults.crash                     every point of every flow, and the table
    python -m tests.faults.crash --flow login        one flow
    python -m tests.faults.crash --every 10          every tenth point, from a random one on

Theory. First the points are *enumerated*: a few undisturbed runs list every point they pass (`crash_probe.py`). Then
each point of the list is tried: a real process runs the flow and is killed there with SIGKILL; a new process, without
a probe, resumes the flow, as running the command again does. The result must be that of an undisturbed run: the same
end, the same effects on the cloud, equivalent files, no leftover secret, and a consistent journal (`crash_facts.py`).
A flow that pauses is resumed a few times, as a person runs the same command again. It may be paused in the end where an
undisturbed run is not, but then it has done no more than that.

A cloud that does not honour idempotency keys cannot safely be sent a request again. There the promise is another one:
nothing is repeated unless a person confirmed it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio
from systemprompt_cloud.cli.shared.log import configure_logging

from tests.faults.crash_facts import Facts
from tests.faults.crash_probe import Point
from tests.faults.crash_stage import Played, Scenario, Stage, open_zygote

STREAM_FAULTS: Final = ("drop-stream:after=3,times=2,outage=0.05", "malformed:after=2")
"""Streams break twice, are unavailable for a moment, and send one invalid event."""
SILENCE: Final = ("silence:after=4",)
"""A stream stays open and sends nothing more."""
NO_KEYS: Final = ("no-idempotency",)
"""`Idempotency-Key` is ignored."""
STATUS_FAULTS: Final = ("error:status=503,path=/status", "lose-answer:path=/deploy")
"""A status request fails once, and the answer to a deployment is lost."""

FALSE_ERROR: Final = ("false-callback:says=error", "foreign-event:after=0", "false-event:after=1")
"""The browser of a paid order says that it was not paid; its stream tells of another tenant and of a failure."""
FALSE_TENANT: Final = ("false-callback:says=completed,times=0", "stale:times=3", "no-stream")
"""The browser names a tenant of somebody else, replicas are behind, and no stream says whose the new tenant is."""
PROXIES: Final = (
    "false-callback:says=nothing",
    "proxy-page:path=/auth/me",
    "proxy-page:path=/status,times=2",
    "proxy-page:status=404,path=/status,times=2",
    "unauthorized:after=9",
)
"""The browser says nothing, a proxy answers in the API's place, and the token is refused once."""
NO_CALLBACK: Final = (
    "lost-callback",
    "false-event:after=0,says=tenant_ready",
    "error:status=404,path=/status",
)
"""The browser does not come back; the stream says that the tenant is ready long before it is."""
BAD_STATUS: Final = (
    "foreign-event:after=0,says=provisioning_failed",
    "false-event:after=1",
    "stale:times=2,path=/status",
    "proxy-page:status=404,path=/status,times=2",
    "unauthorized:after=3",
)
"""What can be false about a tenant that is being built or deployed."""

CHECKOUT: Final = Scenario(flow="checkout")
ONBOARDING: Final = Scenario(flow="onboarding")
PLAIN: Final = (
    Scenario(flow="login"),
    CHECKOUT,
    Scenario(flow="checkout", payment="pending"),
    Scenario(flow="provisioning"),
    ONBOARDING,
)


def _with(
    scenario: Scenario, *faults: tuple[str, ...], early: bool = False, unlinked: bool = False
) -> tuple[Scenario, ...]:
    """A scenario with each of these faults, for servers with and without idempotency keys."""
    return tuple(
        msgspec.structs.replace(scenario, faults=(*each, *keys), early=early, unlinked=unlinked)
        for each in faults
        for keys in ((), NO_KEYS)
    )


SCENARIOS: Final = (
    *(msgspec.structs.replace(each, faults=faults) for faults in ((), STREAM_FAULTS, NO_KEYS) for each in PLAIN),
    Scenario(flow="onboarding", faults=SILENCE),
    *(Scenario(flow="deployment", faults=faults) for faults in ((), STATUS_FAULTS, NO_KEYS)),
    *_with(CHECKOUT, FALSE_ERROR, PROXIES, NO_CALLBACK),
    *_with(CHECKOUT, FALSE_TENANT, unlinked=True),
    *_with(CHECKOUT, (), early=True),
    *_with(Scenario(flow="checkout", payment="decline"), ()),
    *_with(Scenario(flow="provisioning"), BAD_STATUS),
    *_with(Scenario(flow="provisioning"), (), early=True),
    *_with(ONBOARDING, FALSE_ERROR, PROXIES),
    *_with(ONBOARDING, (), early=True),
    *_with(Scenario(flow="deployment"), BAD_STATUS),
)
"""The default scenarios."""

REFERENCES: Final = 3
"""How many undisturbed runs list the points: concurrent work does not always happen in the same order."""
ATTEMPTS: Final = 6
"""How many runs try to reach a point: in some runs it does not occur."""

_GROUPS: Final = {
    "commit": "commits",
    "create": "files",
    "write": "files",
    "fsync": "files",
    "rename": "files",
    "remove": "files",
    "request": "requests",
    "callback": "callbacks",
    "state": "states",
}
_COLUMNS: Final = ("commits", "files", "requests", "callbacks", "states")


class Loss(msgspec.Struct, frozen=True):
    """A point after which the result differed."""

    points: tuple[Point, ...]
    differences: tuple[str, ...]

    def __str__(self) -> str:
        where = ", then ".join(str(point) for point in self.points)
        return f"killed {where or 'nowhere'}: " + "; ".join(self.differences)


class Tally(msgspec.Struct, kw_only=True):
    """The result of one scenario.

    Attributes:
        scenario: The scenario.
        points: How many points there are, by group.
        tried: How many of them a process was killed at.
        survived: After how many of those the result was that of an undisturbed run.
        repeated: Effects that happened more often than in an undisturbed run.
        asked: How often a person had to decide about an effect whose outcome is unknown.
        paused: How often the flow was paused in the end.
        unmet: Points that did not occur in any of the attempts to reach them.
        losses: The points after which the result differed.
    """

    scenario: Scenario
    points: Counter[str]
    tried: int = 0
    survived: int = 0
    repeated: int = 0
    asked: int = 0
    paused: int = 0
    unmet: list[tuple[Point, ...]] = msgspec.field(default_factory=list[tuple[Point, ...]])
    losses: list[Loss] = msgspec.field(default_factory=list[Loss])


def enumerate_points(runs: Sequence[Played]) -> list[Point]:
    """Every point that any of the runs passed, in order of first occurrence."""
    return list(dict.fromkeys(point for run in runs for point in run.met))


def resume_points(run: Played) -> list[Point]:
    """The points of a resumed run up to its last `resumed` record: an undisturbed run does not pass them."""
    marks = [index for index, point in enumerate(run.met) if point.kind == "commit" and point.what.endswith("resumed")]
    return list(run.met[: marks[-1] + 1]) if marks else []


async def try_points(
    scenario: Scenario,
    directory: Path,
    *,
    every: int = 1,
    offset: int = 0,
    lanes: int = 2,
    twice: bool = False,
) -> Tally:
    """Kill a flow at each of its points and compare the results.

    Args:
        scenario: The flow and its environment.
        directory: Where to work; the caller removes it.
        every: Try every nth point.
        offset: The first point to try.
        lanes: How many points are tried concurrently.
        twice: Also kill the resuming process, at every point of resuming, after a kill at the entry of every state.
    """
    async with open_zygote() as zygote:
        stage = Stage(scenario, zygote, directory / "reference")
        runs = [await stage.play(trace=True) for _ in range(REFERENCES)]
        points = enumerate_points(runs)
        trials: list[tuple[Point, ...]] = [(point,) for point in points]
        if twice:
            trials = []
            for point in points:
                if point.kind == "state" and point.when == "before" and not point.what.endswith("told"):
                    resumed = await stage.play([point], trace=True)
                    trials += [(point, second) for second in resume_points(resumed)]
    true = runs[0].facts
    tally = Tally(scenario=scenario, points=Counter(_GROUPS[trial[-1].kind] for trial in trials))
    for run in runs:
        differences = run.facts.differences(true)
        if not true.ended:
            differences.append(true.end)
        if differences:
            tally.losses.append(Loss((), tuple(differences)))
    if scenario.loses_stream and not any(point.what.endswith(" StreamLost") for point in points):
        tally.losses.append(Loss((), ("no stream was lost: the faults did not occur",)))
    left = iter(trials[offset::every])

    async def lane(number: int) -> None:
        async with open_zygote() as zygote:
            stage = Stage(scenario, zygote, directory / str(number))
            for trial in left:
                await _try(stage, trial, true, tally)

    async with trio.open_nursery() as nursery:
        for number in range(lanes):
            nursery.start_soon(lane, number)
    return tally


async def _try(stage: Stage, trial: tuple[Point, ...], true: Facts, tally: Tally) -> None:
    for _ in range(ATTEMPTS):
        run = await stage.play(trial)
        facts = run.facts
        differences = facts.differences(true)
        if run.killed == len(trial):
            tally.tried += 1
            tally.survived += not differences
            tally.asked += facts.asked
            tally.paused += facts.paused
            tally.repeated += facts.repeated(true)
            if differences:
                tally.losses.append(Loss(trial, tuple(differences)))
            return
        if differences:
            tally.losses.append(Loss(trial, ("not killed at all", *differences)))
            return
    tally.unmet.append(trial)


def table(tallies: Sequence[Tally]) -> str:
    """The tallies as a Markdown table."""
    lines = [
        ["flow", "faults", *_COLUMNS, "tried", "survived", "effects repeated", "user decisions", "paused", "not hit"]
    ]
    lines += [
        [
            tally.scenario.name,
            ", ".join(fault.partition(":")[0] for fault in tally.scenario.faults) or "none",
            *(str(tally.points[column]) for column in _COLUMNS),
            str(tally.tried),
            str(tally.survived),
            str(tally.repeated),
            str(tally.asked),
            str(tally.paused),
            str(len(tally.unmet)),
        ]
        for tally in tallies
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def main() -> int:
    """Run the command; returns 0 if every point that was tried was survived, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crash", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--flow", action="append", choices=sorted({each.flow for each in SCENARIOS}))
    parser.add_argument(
        "--faults",
        action="append",
        help="a fault of the local cloud instead of the default ones; 'none' for none",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="try every Nth point")
    parser.add_argument("--offset", type=int, metavar="K", help="from the Kth on; random when not given")
    parser.add_argument("--lanes", type=int, default=2, metavar="N", help="points tried concurrently")
    parser.add_argument(
        "--twice", action="store_true", help="also kill the resuming process, at every point of resuming"
    )
    parser.add_argument("--directory", type=Path, help="where to work; a temporary directory when not given")
    given = parser.parse_args()
    scenarios = [each for each in SCENARIOS if not given.flow or each.flow in given.flow]
    if given.faults:
        faults = tuple(fault for fault in given.faults if fault != "none")
        scenarios = [each for each in scenarios if not each.faults and not each.early]
        scenarios = [msgspec.structs.replace(each, faults=faults) for each in scenarios]
    offset = given.offset if given.offset is not None else random.randrange(given.every)  # noqa: S311 no secret
    configure_logging(0, None)
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory(dir=given.directory, prefix="crash-") as directory:
        for number, scenario in enumerate(scenarios):
            home = Path(directory) / str(number)

            async def run(scenario: Scenario = scenario, home: Path = home) -> Tally:
                return await try_points(
                    scenario, home, every=given.every, offset=offset, lanes=given.lanes, twice=given.twice
                )

            tallies.append(trio.run(run))
            done, name = tallies[-1], f"{scenario.name}, {', '.join(scenario.faults) or 'no faults'}"
            sys.stderr.write(f"{name}: {done.survived} of {done.tried} survived\n")
            for loss in done.losses:
                sys.stderr.write(f"{name}: {loss}\n")
    every = "every point" if given.every == 1 else f"one point in {given.every}, from number {offset} on"
    sys.stdout.write(f"{every}\n\n{table(tallies)}\n")
    return 1 if any(tally.losses for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
