"""Flows of machines the command line has no table for: an embedder's own. It tells what is true, and ends them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio
from systemprompt_cloud.cli.screen.remedies import hint_of
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import EffectUncertain, FlowParked, IncompatibleFlow
from systemprompt_cloud.engine.machine.machine import Machine
from systemprompt_cloud.engine.machine.parts import ANY, CancelRequested, Context, Event, State, Verdict, on
from systemprompt_cloud.engine.visit import Program, Visit
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.command import CommandLine
from tests.support.parcel import PARCEL, Fails, Oops, Packed, Parcel, deliver, parcel

ROUND = Machine(
    "round",
    version=1,
    initial="going",
    context=Context,
    states=[
        State("going", "going round", child="parcel"),
        State("home", "done", verdict=Verdict.SUCCESS),
        State("dropped", "called off", verdict=Verdict.CANCELLED),
    ],
    rows=[on(Packed, "going", "home"), on(CancelRequested, ANY, "dropped")],
)

Own = tuple[CommandLine, Path]


@pytest.fixture
def own(cli: CommandLine, tmp_path: Path) -> Own:
    """The command line, and the directory of an embedder's program."""
    return cli, tmp_path / "parcels"


def sent(directory: Path, program: Program[Parcel]) -> tuple[str, FlowParked | None]:
    """Run a parcel's flow in the directory, as its own program does; its id, and what parked it."""
    paths = CloudPaths(directory=directory, state_directory=directory, origin="explicit")

    async def main() -> tuple[str, FlowParked | None]:
        async with open_engine(paths, [program]) as engine:
            flow = await engine.start(PARCEL, Parcel())
            if not isinstance(program.activities["packing"][0], Fails):
                await flow.send(Packed())
            try:
                await flow.wait()
            except FlowParked as parked:
                return flow.id, parked
            return flow.id, None

    return trio.run(main)


def parked(directory: Path, failure: Exception) -> str:
    return sent(directory, parcel(Fails(failure)))[0]


def test_its_key_is_shown(own: Own) -> None:
    """Whoever starts a flow by its key finds it by that; a flow without one has none, and no line for it."""
    cli, directory = own
    paths = CloudPaths(directory=directory, state_directory=directory, origin="explicit")

    async def main() -> None:
        async with open_engine(paths, [parcel()]) as engine:
            await engine.start(PARCEL, Parcel())
            await engine.start(PARCEL, Parcel(), key="to ada, 7 High Street")

    trio.run(main)
    at = ("--dir", str(directory))
    listed = cli("flows", "list", "--json", *at).ended(0).lines
    keys = {line["key"]: line["flow"] for line in listed}
    assert set(keys) == {None, "to ada, 7 High Street"}
    for key, flow in keys.items():
        assert cli("flows", "show", flow, "--json", *at).ended(0).lines[0]["key"] == key
        assert ("Key:      to ada, 7 High Street\n" in cli("flows", "show", flow, *at).ended(0).out) == (
            key is not None
        )


def test_flows_are_listed_by_every_word_that_says_where_they_are(own: Own) -> None:
    """What the table and the JSON show can be asked for: `paused` in the table is `paused` in JSON."""
    cli, directory = own
    at = ("--dir", str(directory))
    paused = parked(directory, Oops("what?"))
    delivered = sent(directory, parcel(travelling=deliver))[0]
    dropped = parked(directory, Oops("what?"))
    cli("flows", "cancel", dropped, *at).ended(0)

    def listed(*words: str) -> list[str]:
        asked = [option for word in words for option in ("--status", word)]
        return [line["flow"] for line in cli("flows", "list", *asked, "--json", *at).ended(0).lines]

    assert listed("paused") == listed("paused") == [paused]
    assert listed("success") == [delivered]
    assert listed("cancelled") == [dropped]
    assert listed("failure") == listed("interrupted") == []
    assert set(listed("ended")) == {delivered, dropped}
    assert set(listed("success", "paused", "interrupted")) == {delivered, paused}
    (line,) = cli("flows", "list", "--status", "success", "--json", *at).ended(0).lines
    assert (line["status"], line["verdict"]) == ("ended", "success")
    (row,) = cli("flows", "list", "--status", "paused", *at).ended(0).out.splitlines()[1:]
    assert row.split()[3] == "paused"
    assert "failure, cancelled" in cli("flows", "list", "--status", "gone", *at).ended(2).err


def test_its_history_is_drawn_by_its_records(own: Own) -> None:
    """The states it went through have names, though nobody here knows what they mean."""
    cli, directory = own
    sent(directory, parcel(travelling=deliver))
    short = cli("flows", "history", "--dir", str(directory)).ended(0).out
    assert [line.split()[3] for line in short.splitlines()[1:]] == ["packing", "travelling", "delivered"]
    drawn = cli("flows", "history", "--verbose", "--dir", str(directory)).ended(0).out
    assert [line.split()[-1] for line in drawn.splitlines() if "●" in line] == ["packing", "travelling", "delivered"]
    assert "Delivered" in drawn
    again = cli("diagram", "--flow", "0", "--format", "text", "--dir", str(directory)).ended(0).out
    assert again == drawn
    assert "--format text" in cli("diagram", "--flow", "0", "--dir", str(directory)).ended(2).err


@pytest.mark.parametrize(
    ("failure", "call"),
    [
        pytest.param(EffectUncertain("sent?"), "`Engine.resume(flow, repeat=True)`", id="asks"),
        pytest.param(Oops("what?"), "`Engine.resume(flow)`", id="bug"),
    ],
)
def test_its_own_program_goes_on_with_it(own: Own, failure: Exception, call: str) -> None:
    """Nobody is sent to a command that cannot: the library and every view name its program, and how to end it."""
    cli, directory = own
    flow, error = sent(directory, parcel(Fails(failure)))
    assert error is not None
    at = ("--dir", str(directory))
    said = [
        cli("flows", "resume", flow, *at).ended(1).err,
        cli("flows", "resume", flow, "--repeat", *at).ended(1).err,
        cli("flows", "watch", flow, *at).ended(8).err,
        cli("whoami", *at).ended(4).err,
    ]
    shown = cli("flows", "show", flow, *at).ended(0)
    said.append(shown.out + shown.err)
    (line,) = cli("flows", "show", flow, "--json", *at).ended(0).lines
    said.append(line["trouble"]["hint"])
    for words in said:
        assert "in the program it belongs to" in words
        assert f"flows cancel {flow[:12]}" in words
        assert "flows resume" not in words
    assert call in error.recovery_hint
    assert "flows resume" not in error.recovery_hint
    assert call in said[-2]
    assert call in said[-1]
    assert line["resume"] is None
    assert cli("flows", "watch", flow, "--json", *at).ended(8).lines[-1]["resume"] is None
    doctor = cli("doctor", *at).out
    assert "1 unfinished" in doctor
    assert "flows resume" not in doctor
    assert "can be resumed by this command" in cli("flows", "resume", *at).ended(1).err


def test_a_paused_parent_names_the_child_that_waits_for_a_decision(own: Own) -> None:
    """Shown with the child's whole id: a decision is taken by that one, and the parent's is refused."""
    cli, directory = own
    paths = CloudPaths(directory=directory, state_directory=directory, origin="explicit")
    child = parcel(Fails(EffectUncertain("sent?")))

    async def deliver_all(visit: Visit[Context]) -> Event:
        await visit.run_child(child, Parcel())
        return Packed()

    async def main() -> str:
        async with open_engine(paths, [Program(ROUND, {"going": [deliver_all]}), child]) as engine:
            flow = await engine.start(ROUND, Context())
            with pytest.raises(FlowParked):
                await flow.wait()
            return flow.id

    flow = trio.run(main)
    inside = f"{flow}.parcel-1"
    ran = cli("flows", "show", flow, "--dir", str(directory)).ended(0)
    shown = " ".join((ran.out + ran.err).split())
    assert f"It is paused with its child flow {inside}." in shown
    assert f'`Engine.resume("{inside}", repeat=True)`' in shown
    (line,) = cli("flows", "show", flow, "--dir", str(directory), "--json").ended(0).lines
    assert line["trouble"]["flow"] == inside
    (line,) = cli("flows", "show", inside, "--dir", str(directory), "--json").ended(0).lines
    assert line["trouble"]["flow"] == inside


def test_cancelled_says_what_became_of_it(own: Own) -> None:
    """It ended where it stood; the name of that state alone would sound as if it went on."""
    cli, directory = own
    flow = parked(directory, Oops("what?"))
    at = ("--dir", str(directory))
    ended = " ".join(cli("flows", "cancel", flow, *at).ended(0).err.split())
    assert f"parcel {flow[:12]} has ended: cancelled, at packing." in ended
    assert "does not know parcel: its row for CancelRequested was not taken" in ended
    assert "`Engine.cancel(flow)`" in ended
    assert "Problem: it was ended without its machine's table" in " ".join(cli("flows", "show", *at).out.split())
    for words in ("cancel", "resume"):
        code = 0 if words == "cancel" else 1
        said = cli("flows", words, flow, *at).ended(code).err
        assert said == f"parcel {flow[:12]} had ended already: cancelled, at packing.\n"
    (line,) = cli("flows", "resume", flow, "--json", *at).ended(1).lines
    assert (line["status"], line["verdict"]) == ("ended", "cancelled")
    assert "is here" not in cli("flows", "history", "--verbose", *at).ended(0).out
    assert "parcel" in cli("flows", "history", *at).ended(0).out


def test_only_its_own_program_can_send_it_events(own: Own) -> None:
    """The command line does not know its events; it says so, and which call does it."""
    cli, directory = own
    flow = parked(directory, Oops("what?"))
    at = ("--dir", str(directory))
    refused = " ".join(cli("flows", "send", flow, "Packed", *at).ended(1).err.split())
    assert "does not know the machine parcel" in refused
    assert "Use the program it belongs to: `Engine.send(flow, event)`." in refused
    assert f"flows cancel {flow}" in refused


def test_its_reason_is_told(own: Own) -> None:
    """Why it was given up stands in its last record, where its context does not say it."""
    cli, directory = own
    flow = parked(directory, Oops("what?"))
    cli("flows", "cancel", flow, "--reason", "wrong address", "--dir", str(directory)).ended(0)
    assert "Problem:  wrong address" in cli("flows", "show", "--dir", str(directory)).ended(0).out


def test_a_context_may_mean_something_else_by_problem(own: Own) -> None:
    """A field of that name is a reason in our machines; in another program's it may be anything."""
    cli, directory = own
    flow = parked(directory, Oops("what?"))
    at = ("--dir", str(directory))
    cli("flows", "cancel", flow, *at).ended(0)
    with closing(sqlite3.connect(directory / "journal.sqlite3")) as journal, journal:
        journal.execute("UPDATE flows SET context = ?", ('{"problem":{"severity":7}}',))
    assert "cancelled" in cli("flows", "show", flow, *at).ended(0).out


def test_check_says_what_it_could_not_check(own: Own) -> None:
    """A flow whose table is not here was not replayed; to call it sound would be a guess."""
    cli, directory = own
    sent(directory, parcel(travelling=deliver))
    at = ("--dir", str(directory))
    said = "1 flow (without their table not checked: 1 of parcel), 0 problems."
    assert said in cli("flows", "check", *at).ended(0).err
    (line,) = cli("flows", "check", "--json", *at).ended(0).lines
    assert (line["flows"], line["unchecked"], line["problems"]) == (1, {"parcel": 1}, [])


async def test_an_engine_without_its_program_says_so(tmp_path: Path) -> None:
    """With the flow's own id in the command that ends it."""
    paths = CloudPaths(directory=tmp_path, state_directory=tmp_path, origin="explicit")
    async with open_engine(paths, [parcel(Fails(Oops("what?")))]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        with pytest.raises(FlowParked):
            await flow.wait()
    async with open_engine(paths, []) as engine:
        with pytest.raises(IncompatibleFlow, match="parcel is not known here") as refused:
            await engine.resume(flow.id)
    assert "Open the engine with its program" in refused.value.recovery_hint
    assert hint_of(None, refused.value).endswith(f"flows cancel {flow.id}")
