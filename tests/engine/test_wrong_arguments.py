"""What is handed in by mistake is named at the entrance, with what is wanted there; nothing is started or opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from systemprompt_cloud.engine.engine import open_engine
from systemprompt_cloud.engine.errors import FlowParked, NotStorable
from systemprompt_cloud.engine.machine.parts import Event
from systemprompt_cloud.engine.paths import EnginePaths
from systemprompt_cloud.engine.visit import Program, Visit
from systemprompt_cloud.flows.cloud import open_cloud
from systemprompt_cloud.io.local.paths import CloudPaths

from tests.support.parcel import PARCEL, Packed, Parcel, parcel

STR: Any = "parcels"


@pytest.mark.parametrize(
    ("machine", "given"),
    [(parcel(), "Program"), ("parcel", "str"), (Parcel, "the class Parcel"), (None, "NoneType")],
    ids=["program", "name", "context", "none"],
)
async def test_a_machine_is_asked_for(paths: CloudPaths, machine: Any, given: str) -> None:
    """By a program and by a start."""
    with pytest.raises(TypeError, match=f"^Program takes a Machine, not {given}$"):
        Program(machine, {})
    async with open_engine(paths, [parcel()]) as engine:
        with pytest.raises(TypeError, match=f"^Engine.start takes a Machine, not {given}$"):
            await engine.start(machine, Parcel())
        assert engine.journal.flows() == []


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ({"a b": "opaque-value"}, "'a b' is no secret's name"),
        ({"": "opaque-value"}, "'' is no secret's name"),
        ({3: "opaque-value"}, "'3' is no secret's name"),
        ({"good": "opaque-value", "bad": "opaque-\ud800"}, "the secret bad is no text that can be stored"),
        ({"bad": 12345678}, "the secret bad is no text that can be stored"),
        ({"bad": None}, "the secret bad is no text that can be stored"),
        ([("a", "opaque-value")], "Engine.start takes a Mapping, not list"),
        ("opaque-value", "Engine.start takes a Mapping, not str"),
    ],
)
async def test_secrets_are_texts_with_names(paths: CloudPaths, secrets: Any, said: str) -> None:
    """No message has one of them; nothing is started or kept."""
    async with open_engine(paths, [parcel()]) as engine:
        with pytest.raises((NotStorable, TypeError), match=f"^{said}$") as refused:
            await engine.start(PARCEL, Parcel(), secrets=secrets)
        assert "opaque" not in str(refused.value)
        assert engine.journal.flows() == []
    assert not list(paths.vault.glob("*"))


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        (parcel(), "an engine takes a list of programs, not Program"),
        ([PARCEL], "an engine's list of programs takes a Program, not Machine"),
        ([Program], "an engine's list of programs takes a Program, not the class Program"),
    ],
    ids=["one program", "machines", "the class"],
)
async def test_programs_are_asked_for(paths: CloudPaths, programs: Any, said: str) -> None:
    """No file is made for an engine that cannot be opened."""
    with pytest.raises(TypeError, match=f"^{said}$"):
        async with open_engine(paths, programs):
            pass
    assert not paths.journal.exists()


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ("parcels", "open_engine takes EnginePaths or CloudPaths, made of pathlib.Path, not str: its journal"),
        (Path("parcels"), "made of pathlib.Path, not PosixPath: its journal cannot be read"),
        (
            CloudPaths(directory=STR, state_directory=STR, origin="explicit"),
            "not CloudPaths: its journal cannot be read",
        ),
        (EnginePaths(Path("j"), STR, Path("o")), "open_engine: EnginePaths.vault is a str, not a pathlib.Path"),
    ],
    ids=["str", "path", "cloud paths", "engine paths"],
)
async def test_paths_are_asked_for(places: Any, said: str) -> None:
    """A str is none, nor are paths that are made of one."""
    with pytest.raises(TypeError, match=said):
        async with open_engine(places, [parcel()]):
            pass


async def test_a_child_is_run_by_its_program(paths: CloudPaths) -> None:
    """The flow is paused with the message: whoever wrote its activity reads it there."""
    wrong: Any = PARCEL

    async def runs(visit: Visit[Any]) -> Event:
        await visit.run_child(wrong, Parcel())
        return Packed()

    async with open_engine(paths, [parcel(runs)]) as engine:
        flow = await engine.start(PARCEL, Parcel())
        with pytest.raises(FlowParked, match="TypeError: run_child takes a Program, not Machine"):
            await flow.wait()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"api_url": Path("x")}, "api_url is a str, not PosixPath"),
        ({"directory": 7}, "directory is a pathlib.Path, not int"),
        ({"show_url": None}, "show_url is a function, not NoneType"),
        ({"open_browser": "firefox"}, "open_browser is a function, not str"),
        ({"confirm": True}, "confirm is a function, not bool"),
    ],
    ids=["api_url", "directory", "show_url", "open_browser", "confirm"],
)
async def test_a_cloud_is_opened_with_what_it_takes(given: Any, said: str) -> None:
    """Nothing is opened with anything else."""
    with pytest.raises(TypeError, match=f"^open_cloud: {said}$"):
        async with open_cloud(**given):
            pass
